//! One refresh, in the order that loses nothing: lease, read now, durable intent, one bounded request,
//! four outcomes, durable result before anything else, compare-and-set save, read back, done.
//!
//! Absent on purpose: when to refresh, how often, and what to tell people. Those are the core's; this
//! carries out one attempt and says truthfully how it ended.

mod apps;
mod asked;
mod consent;
mod doubt;
mod ends;
mod heard;
mod held;
mod homeless;
mod secrets;
mod shared;
mod spilled;
mod stale;
mod together;
mod unspent;

pub use apps::{App, Apps, app_of};
pub use asked::position_shown;
pub use consent::{Connected, Consent};
pub use heard::Heard;
pub use held::Held;
pub use secrets::Secrets;
pub use unspent::Unspent;

use crate::{
    clock::Clock,
    core::{
        AccountId, Cause, Event, Evidence, Fingerprint, Timestamp, TokenFacts,
        event::NOT_SENT,
        fleet::{Blocked, Checked, Finished},
        timeline::Dated,
    },
    http_client::HttpClient,
    oauth::{Exchange, Liveness, Outcome, Request, Token},
    providers::{Known, Renewal},
    report::Reporter,
    state::{self, Closing, EntryId, Intent, Lease, OpenEntry, State},
    stores::{Draft, Saved, StoredAccount, TokenStore},
};
use arc_swap::ArcSwap;
use stale::Found;
use std::{
    future::Future,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

/// The way to the provider; another one in tests.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request within its bounds and says what became of it.
    fn send(&self, app: &str, request: Request) -> impl Future<Output = Exchange> + Send;
}

impl Transport for ArcSwap<HttpClient> {
    async fn send(&self, app: &str, request: Request) -> Exchange {
        let client = self.load_full();
        client.send(app, request).await
    }
}

/// Carries out refreshes. Shared by all that are under way.
pub struct Refresher<S, T> {
    /// The publisher's.
    pub store: Arc<S>,
    /// Ours.
    pub state: State,
    /// The way to the providers.
    pub transport: Arc<T>,
    /// Tells the time.
    pub clock: Clock,
    /// Told of each request.
    pub reporter: Reporter,
    /// Replaced whole when the configuration changes.
    pub apps: Arc<ArcSwap<Apps>>,
    /// From asking for a request to when it is certainly over.
    pub call_deadline: Duration,
    /// Tokens that were received and could not be journalled: the last copy there is, kept until the
    /// store or the journal takes it.
    pub held: Held,
    /// Probes that our state may count as sent and that were not.
    pub unspent: Unspent,
    /// When each app's token endpoint last said something.
    pub heard: Heard,
}

/// A lease and its end on our own steady clock, counted from before it was asked for.
struct Term {
    lease: Lease,
    ends_at: Duration,
}

impl Deref for Term {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

/// What one attempt works on.
struct Attempt<'a> {
    lease: &'a Term,
    app: Arc<App>,
    id: &'a AccountId,
    old: Token,
    entry: EntryId,
    /// The save of what may come, where our state can carry it out.
    draft: Option<Draft>,
    /// The position of the client secret that goes along.
    secret: usize,
    /// The refresh token that is spent, or may have been.
    spending: Fingerprint,
    /// When the request being made started, or the one whose outcome is unknown.
    requested_at: Timestamp,
    over_at: Timestamp,
    /// True for the one probe after an ambiguous outcome.
    is_probe: bool,
}

impl<S: TokenStore, T: Transport> Refresher<S, T> {
    /// Refreshes `id`, if the store still holds the token with fingerprint `expected`; finishes what an
    /// earlier attempt left open.
    pub async fn refresh(
        &self,
        id: &AccountId,
        expected: Fingerprint,
        why: &'static str,
    ) -> Finished {
        self.under_lease(id, |lease| self.attempt(lease, Some((expected, why)), true)).await
    }

    /// Brings an attempt whose outcome is unknown, or whose token is unsaved, to its end.
    ///
    /// `may_wait` says that the access token lives well beyond now, so that the one probe can be kept until
    /// the provider is known to answer.
    pub async fn settle(&self, id: &AccountId, may_wait: bool) -> Finished {
        let finished = self.under_lease(id, |lease| self.attempt(lease, None, may_wait)).await;
        if matches!(finished, Finished::Blocked(Blocked::StateDown)) {
            // A full disk of ours is no reason to keep the only copy from a store that would take it.
            return self.save_held(id).await.unwrap_or(finished);
        }
        finished
    }

    /// Tries the access token at the provider's check, whether that is free or not: when one that costs money
    /// is worth it, the policy says.
    pub async fn probe(&self, id: &AccountId) -> Checked {
        let Ok(Some(stored)) = self.store.get(id).await else {
            return Checked::Unknown;
        };
        let apps = self.apps.load();
        let (Some(app), Some(token)) = (app_of(&apps, &stored), stored.token) else {
            return Checked::Unknown;
        };
        let billed = || app.provider.billed_probe_request(&app.endpoints, &token);
        let Some(request) = app.provider.probe_request(&app.endpoints, &token).or_else(billed)
        else {
            return Checked::Unknown;
        };
        match self.ask_liveness(app, &token, request).await {
            Liveness::Alive => Checked::Alive,
            Liveness::Refused(evidence) => Checked::Refused(evidence),
            Liveness::Unknown(_) => Checked::Unknown,
        }
    }

    /// Asks the provider whether the account could publish: with its check for that, or with its check of access tokens
    /// where it has no other.
    pub async fn prove(&self, id: &AccountId) -> Checked {
        let Ok(Some(stored)) = self.store.get(id).await else {
            return Checked::Unknown;
        };
        let apps = self.apps.load();
        let (Some(app), Some(token)) = (app_of(&apps, &stored), stored.token) else {
            return Checked::Unknown;
        };
        let liveness = match app.provider.publish_check_request(&app.endpoints, &token) {
            Some(request) => {
                let began = Instant::now();
                let exchange = self.transport.send(&app.name, request).await;
                self.observe_date(app, &exchange, began.elapsed());
                let known = Known { client_id: Some(&app.client_id), ..Known::default() };
                app.provider.readiness(&exchange, &known, self.clock.now())
            }
            None => match self.liveness(app, &token).await {
                Some(liveness) => liveness,
                None => return Checked::Unknown,
            },
        };
        match liveness {
            Liveness::Alive => Checked::Alive,
            Liveness::Refused(evidence) => Checked::Refused(evidence),
            Liveness::Unknown(_) => Checked::Unknown,
        }
    }

    /// What may be known of `token`, which was first seen now.
    #[must_use]
    pub fn facts(&self, app: &App, token: &Token) -> TokenFacts {
        let maker = self.state.fingerprinter();
        let mut facts = token.facts(&maker, app.renews_itself(), self.clock.now(), &app.scopes);
        if token.issued_at.is_none() {
            // Nothing shows by which clock its end was written down. Where that may be this machine's, the earlier
            // of the two readings is the one that does not come too late.
            let ahead = self.clock.machine_is_ahead_by();
            facts.expires_at = facts.expires_at.map(|end| end.minus(ahead));
        }
        facts
    }

    async fn under_lease<'a, F>(
        &'a self,
        id: &'a AccountId,
        work: impl FnOnce(Term) -> F,
    ) -> Finished
    where
        F: Future<Output = Finished> + 'a,
    {
        // Longer than all that is done under it, or a second holder could start while we still wait.
        let life = self.call_deadline * 3 + LEASE_SLACK;
        let ends_at = self.clock.steady() + life;
        let lease = match self.state.take_lease(id, self.clock.now(), life).await {
            Ok(Some(lease)) => lease,
            Ok(None) => return Finished::Blocked(Blocked::LeaseHeld),
            Err(error) => return blocked_by_state(&error),
        };
        let finished = work(Term { lease: lease.clone(), ends_at }).await;
        // One that cannot be released expires.
        let _ = self.state.release(&lease).await;
        finished
    }

    async fn attempt(
        &self,
        lease: Term,
        wanted: Option<(Fingerprint, &'static str)>,
        may_wait: bool,
    ) -> Finished {
        let id = &lease.id.clone();
        self.journal_held_of(id).await;
        let (open, newest) = tokio::join!(self.state.open_entry(id), self.state.newest(id));
        let (open, newest) = match open.and_then(|open| Ok((open, newest?))) {
            Ok(both) => both,
            Err(error) => return blocked_by_state(&error),
        };
        let open = self.end_lost_consent(open).await;
        // Read now, under the lease: what the decision was made from may be old.
        let stored = match self.store.get(id).await {
            Ok(Some(stored)) if stored.enabled => stored,
            Ok(_) => {
                self.end_doubt(id, open).await;
                return Finished::Gone;
            }
            Err(error) => return blocked_by_store(id, &error),
        };
        let apps = self.apps.load_full();
        let Some(app) = app_of(&apps, &stored).cloned() else {
            return self.save_homeless(id, &stored, open).await;
        };
        let Some(old) = stored.token else {
            if let Some(open) = open.as_ref().filter(|open| self.is_first(open)).cloned() {
                return self.finish_open(&lease, app, consent::nothing(), open, may_wait).await;
            }
            // A token of ours that waits for the store stays in the journal: whoever emptied the row
            // does not want one there.
            self.end_doubt(id, open).await;
            return Finished::NoToken;
        };
        let has_token = open.as_ref().is_some_and(|open| {
            open.result.is_some() || self.held.of_entry(id, open.entry).is_some()
        });
        // One that we have spent must never be sent, whoever put it there. One that was received goes over it.
        let newest = newest.filter(|_| !has_token);
        let Found { token: old, restored } = match self.put_right(id, &app, old, newest).await {
            Ok(found) => found,
            Err(finished) => return finished,
        };
        let old = match open {
            None if !restored => match self.share(id, &app, old).await {
                Ok(old) => old,
                Err(finished) => return finished,
            },
            _ => old,
        };
        match open {
            Some(open) => self.finish_open(&lease, app, old, open, may_wait).await,
            None if restored => Finished::Restored(self.facts(&app, &old)),
            None => match wanted {
                Some((expected, why)) => self.begin(&lease, app, old, expected, why).await,
                // Nothing was open after all: whatever the store holds is what there is.
                None => Finished::Adopted(self.facts(&app, &old)),
            },
        }
    }

    /// An ordinary refresh.
    async fn begin(
        &self,
        lease: &Term,
        app: Arc<App>,
        old: Token,
        expected: Fingerprint,
        why: &'static str,
    ) -> Finished {
        let id = &lease.id;
        let now = self.clock.now();
        let maker = self.state.fingerprinter();
        let known = maker.of_token(&old);
        if known != expected {
            return Finished::Adopted(self.facts(&app, &old));
        }
        let Ok((credentials, secret)) = app.credentials() else {
            return Finished::Blocked(Blocked::NoCredentials);
        };
        let Some(request) = app.provider.refresh_request(&app.endpoints, &credentials, &old) else {
            return Finished::NotCommitted(Evidence::of(Cause::NotRenewable, now));
        };
        // There must be room for what comes back before anything is spent.
        if let Err(error) = self.store.probe().await {
            return blocked_by_store(id, &error);
        }
        let draft = self.store.draft(id, known).await;
        let spending = old.refresh.as_ref().filter(|_| !app.renews_itself()).unwrap_or(&old.access);
        let spending = maker.of_secret(spending);
        let requested_at = self.clock.now();
        let over_at = requested_at.plus(self.call_deadline);
        let intent = Intent { old: known, spending, requested_at, over_at };
        let entry = match self.state.intend(lease, &intent).await {
            Ok(entry) => entry,
            Err(error) => {
                // Perhaps it is written and only the answer was lost; nothing is sent in any case.
                self.unspent.keep_unsent(&error, id, intent);
                return blocked_by_state(&error);
            }
        };
        self.unspent.forget(id);
        // Another row of the credential may have been refreshed between the look at it and the intent.
        let refusal = match self.state.spender(spending).await {
            Ok(Some(spender)) if spender != *id => Some(Finished::Blocked(Blocked::LeaseHeld)),
            Ok(_) => None,
            Err(error) => Some(blocked_by_state(&error)),
        };
        if let Some(refusal) = refusal {
            self.void(id, entry).await;
            return refusal;
        }
        self.reporter.report(Event::RefreshStarted { id: id.clone(), why });
        let attempt = Attempt {
            lease,
            app,
            id,
            old,
            entry,
            draft,
            secret,
            spending,
            requested_at,
            over_at,
            is_probe: false,
        };
        self.exchange(attempt, request).await
    }

    /// An attempt that an earlier call, or an earlier run, left open.
    async fn finish_open(
        &self,
        lease: &Term,
        app: Arc<App>,
        old: Token,
        open: OpenEntry,
        may_wait: bool,
    ) -> Finished {
        let id = &lease.id;
        let now = self.clock.now();
        let OpenEntry { entry, intent, probed, result, .. } = open;
        let requested_at = intent.requested_at;
        let (spending, over_at) = (intent.spending, intent.over_at);
        let held = self.held.of_entry(id, entry);
        let mut attempt = Attempt {
            lease,
            app,
            id,
            old,
            entry,
            draft: None,
            secret: 0,
            spending,
            requested_at,
            over_at,
            is_probe: true,
        };
        if let Some(token) = result.or(held) {
            return self.save(&attempt, token, intent.old).await;
        }
        if self.state.fingerprinter().of_token(&attempt.old) != intent.old {
            // Somebody else's token, or the publisher won the race: ours is of no interest any more. Should
            // a holder that was late have brought it in meanwhile, it is kept aside.
            self.close(entry, Closing::Orphan).await;
            return Finished::Adopted(self.facts(&attempt.app, &attempt.old));
        }
        if let Some(evidence) = self.heard.verdict(id, entry) {
            // It says itself whether it was the probe's.
            attempt.is_probe = false;
            return self.bury(&attempt, evidence).await;
        }
        if self.unspent.is_void(id, entry) || self.unspent.is_unsent(id, &intent) {
            if let Err(error) = self.state.close(entry, Closing::Void).await {
                return blocked_by_state(&error);
            }
            return self.begin(lease, attempt.app, attempt.old, intent.old, "not_committed").await;
        }
        if attempt.app.provider.renewal == Renewal::Stable {
            // The refresh token is still good whatever became of the request.
            self.close(entry, Closing::Void).await;
            return self.begin(lease, attempt.app, attempt.old, intent.old, "in_doubt").await;
        }
        if over_at > now {
            let evidence = Evidence::of(Cause::ProviderOutage, now);
            return Finished::Ambiguous { evidence, over_at };
        }
        if probed {
            if !self.unspent.is_that_of(id, entry, over_at) {
                // It was sent before and nobody knows how it ended: never a second.
                return self.bury(&attempt, Evidence::of(Cause::RotationLost, now)).await;
            }
            if let Err(error) = self.state.return_probe(entry).await {
                return blocked_by_state(&error);
            }
        }
        let Ok((credentials, secret)) = attempt.app.credentials() else {
            return Finished::Blocked(Blocked::NoCredentials);
        };
        let endpoints = &attempt.app.endpoints;
        let provider = attempt.app.provider;
        let Some(request) = provider.refresh_request(endpoints, &credentials, &attempt.old) else {
            return self.give_up(&attempt, Evidence::of(Cause::RotationLost, now)).await;
        };
        if let Err(error) = self.store.probe().await {
            return blocked_by_store(id, &error);
        }
        // In an outage the probe would end in the dark as well, and a healthy account would be given up.
        if self.is_silent(&attempt, may_wait).await {
            return Finished::Blocked(Blocked::ProviderSilent);
        }
        attempt.secret = secret;
        attempt.draft = self.store.draft(id, intent.old).await;
        attempt.requested_at = self.clock.now();
        attempt.over_at = attempt.requested_at.plus(self.call_deadline);
        match self.state.intend_probe(lease, entry, attempt.over_at).await {
            Ok(true) => self.unspent.forget(id),
            // A holder that was late has brought its answer in a moment ago: look again.
            Ok(false) => return Finished::Blocked(Blocked::LeaseHeld),
            Err(error) => {
                // Perhaps it is written and only the answer was lost; it is not sent in any case.
                self.unspent.keep_after(&error, id, entry, attempt.over_at);
                return blocked_by_state(&error);
            }
        }
        self.reporter.report(Event::RefreshStarted { id: id.clone(), why: "in_doubt" });
        self.exchange(attempt, request).await
    }

    /// The one request, and what follows from its outcome.
    async fn exchange(&self, attempt: Attempt<'_>, request: Request) -> Finished {
        if self.clock.steady() + self.call_deadline >= attempt.lease.ends_at {
            return self.stay_silent(&attempt).await;
        }
        let began = Instant::now();
        let exchange = self.transport.send(&attempt.app.name, request).await;
        let took = began.elapsed();
        let now = self.clock.now();
        self.observe_date(&attempt.app, &exchange, took);
        let token_age = attempt.old.issued_at.map(|at| now.since(at));
        let known = Known { token_age, ..Known::default() };
        let outcome = attempt.app.provider.outcome_knowing(&exchange, &known, now);
        let is_answer = matches!(exchange, Exchange::Answered(_));
        if is_answer && !matches!(outcome, Outcome::Ambiguous(_)) {
            self.heard.note(&attempt.app.name, now);
        }
        let was_sent = !matches!(exchange, Exchange::NotSent(_));
        drop(exchange);
        if let Outcome::NotCommitted(evidence) = &outcome {
            self.pass_on_secret(&attempt.app, attempt.secret, evidence);
        }
        let label = match &outcome {
            Outcome::Committed(_) => "committed",
            Outcome::NotCommitted(_) if was_sent => "not_committed",
            Outcome::NotCommitted(_) => NOT_SENT,
            Outcome::Dead(_) => "dead",
            Outcome::Ambiguous(_) => "ambiguous",
        };
        let finished = match outcome {
            Outcome::Committed(grant) => {
                let token = grant.onto(&attempt.old, attempt.requested_at);
                self.keep(&attempt, token).await
            }
            Outcome::Dead(evidence) => {
                self.note_dead(&attempt).await;
                self.bury(&attempt, evidence).await
            }
            Outcome::NotCommitted(evidence) if attempt.is_probe => {
                // It was refused before it was looked at, so the probe is still ours.
                if let Err(error) = self.state.return_probe(attempt.entry).await {
                    self.unspent.keep_after(&error, attempt.id, attempt.entry, attempt.over_at);
                }
                Finished::NotCommitted(evidence)
            }
            Outcome::NotCommitted(evidence) => {
                self.void(attempt.id, attempt.entry).await;
                Finished::NotCommitted(evidence)
            }
            // The one probe ended in the dark as well.
            Outcome::Ambiguous(evidence) if attempt.is_probe => self.bury(&attempt, evidence).await,
            Outcome::Ambiguous(evidence) => {
                if attempt.app.provider.renewal == Renewal::Stable {
                    self.close(attempt.entry, Closing::Void).await;
                }
                Finished::Ambiguous { evidence, over_at: attempt.over_at }
            }
        };
        let id = attempt.id.clone();
        self.reporter.report(Event::RequestEnded { id, outcome: label, took });
        finished
    }

    /// A new token has come. Nothing that fails from here on may discard it.
    async fn keep(&self, attempt: &Attempt<'_>, token: Token) -> Finished {
        let expected = self.state.fingerprinter().of_token(&attempt.old);
        // Before anything else: the provider has already forgotten the old refresh token.
        match self.record(attempt, &token).await {
            Ok(true) => return Finished::Renewed(self.facts(&attempt.app, &token)),
            Ok(false) => {}
            Err(error) => self.hold(attempt, expected, &token, &error).await,
        }
        self.save(attempt, token, expected).await
    }

    /// Nothing was committed.
    async fn void(&self, id: &AccountId, entry: EntryId) {
        if let Err(error) = self.state.close(entry, Closing::Void).await {
            stays_open(&error);
            self.unspent.keep_void(&error, id, entry);
        }
    }

    /// So much time has passed since the lease was taken, as when the process was stopped, that somebody
    /// else could have the account before the answer is here: nothing is sent.
    async fn stay_silent(&self, attempt: &Attempt<'_>) -> Finished {
        tracing::warn!(account = %attempt.id, "nothing is sent: too little is left of the lease");
        if !attempt.is_probe {
            self.void(attempt.id, attempt.entry).await;
        } else if let Err(error) = self.state.return_probe(attempt.entry).await {
            self.unspent.keep_after(&error, attempt.id, attempt.entry, attempt.over_at);
        }
        Finished::Blocked(Blocked::LeaseHeld)
    }

    /// Gives the journalled token to the store.
    async fn save(&self, attempt: &Attempt<'_>, token: Token, expected: Fingerprint) -> Finished {
        // Asked here and not on arrival, so that what an earlier run left is asked too.
        let is_unchanged = self.state.fingerprinter().of_token(&attempt.old) == expected;
        if is_unchanged && is_anothers(&token, &attempt.old) {
            self.set_aside(attempt).await;
            let mut evidence = Evidence::of(Cause::WrongEnvironment, self.clock.now());
            evidence.detail = Some("another_account".into());
            return Finished::WrongAccount(evidence);
        }
        let facts = self.facts(&attempt.app, &token);
        match self.store.save(attempt.id, &token, expected).await {
            Ok(Saved::Written | Saved::AlreadyThere) => {
                self.complete(attempt, &token).await;
                Finished::Renewed(facts)
            }
            Ok(Saved::Conflict) => self.meet_theirs(attempt, &token, facts).await,
            Ok(Saved::Gone) => {
                self.set_aside(attempt).await;
                Finished::Gone
            }
            Err(error) => {
                tracing::error!(account = %attempt.id, %error, "the store did not take a new token");
                Finished::Unsaved(facts)
            }
        }
    }

    /// Keeps a token that must not go into the store. While it is held in memory only there is nothing in
    /// the entry to keep, and closing it would leave the token without a place; the entry waits for it.
    async fn set_aside(&self, attempt: &Attempt<'_>) {
        if self.held.of_entry(attempt.id, attempt.entry).is_none() {
            self.close(attempt.entry, Closing::Orphan).await;
        }
    }

    /// The refresh token is finished, or nobody will ever know. The publisher may have won a race: look
    /// once more before anybody is told.
    async fn bury(&self, attempt: &Attempt<'_>, mut evidence: Evidence) -> Finished {
        let maker = self.state.fingerprinter();
        if attempt.is_probe {
            // The first request was committed after all and its answer never reached us.
            evidence.cause = Cause::RotationLost;
        }
        self.heard.keep_verdict(attempt.id, attempt.entry, &evidence);
        let finished = match self.look_again(attempt.id).await {
            Ok(Some(StoredAccount { enabled: true, token: Some(token), .. })) => {
                let is_same = maker.of_token(&token) == maker.of_token(&attempt.old);
                // Where our state cannot say, the next attempt asks it before anything is sent.
                if is_same || self.is_spent(attempt, None, &token).await.unwrap_or_default() {
                    return self.give_up(attempt, evidence).await;
                }
                Finished::Adopted(self.facts(&attempt.app, &token))
            }
            Ok(Some(StoredAccount { enabled: true, token: None, .. })) => Finished::NoToken,
            // Disconnected meanwhile, which is why it was refused: no news to anybody.
            Ok(_) => Finished::Gone,
            Err(error) => return self.doubt(attempt, evidence, &error).await,
        };
        // Not simply removed: a holder that was late may have brought its answer in meanwhile.
        self.heard.forget_verdict(attempt.id);
        self.close(attempt.entry, Closing::Orphan).await;
        finished
    }

    /// Nothing is left to try, unless a holder that was late has brought its answer in meanwhile.
    async fn give_up(&self, attempt: &Attempt<'_>, evidence: Evidence) -> Finished {
        let newest = match self.state.newest(attempt.id).await {
            Ok(newest) => newest.and_then(|newest| self.renews_with(&attempt.app, &newest.token)),
            Err(error) => return blocked_by_state(&error),
        };
        // One that no provider ever replaces may be asked for again: that costs nobody anything.
        let dead = (attempt.app.provider.renewal != Renewal::Stable).then_some(&attempt.old);
        match self.state.bury(attempt.entry, attempt.id, newest, dead).await {
            Ok(()) => {
                self.heard.forget_verdict(attempt.id);
                return Finished::Dead(evidence);
            }
            Err(state::Error::EntryOpen { .. }) => {}
            // The verdict is for whoever has the account now.
            Err(error @ state::Error::LeaseLost { .. }) => return blocked_by_state(&error),
            Err(error) => return self.doubt(attempt, evidence, &error).await,
        }
        match self.state.open_entry(attempt.id).await {
            Ok(Some(OpenEntry { entry, intent, result: Some(token), .. }))
                if entry == attempt.entry =>
            {
                self.save(attempt, token, intent.old).await
            }
            Ok(_) => Finished::Blocked(Blocked::LeaseHeld),
            Err(error) => blocked_by_state(&error),
        }
    }

    async fn look_again(
        &self,
        id: &AccountId,
    ) -> Result<Option<StoredAccount>, crate::stores::Error> {
        let mut looks = 1;
        loop {
            match self.store.get(id).await {
                Err(_) if looks < LOOKS_MAX => looks += 1,
                found => return found,
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    async fn close(&self, entry: EntryId, closing: Closing) {
        if let Err(error) = self.state.close(entry, closing).await {
            stays_open(&error);
        }
    }

    /// Whether the provider's free check does not answer. Where there is none, an answer to another account
    /// is waited for as long as `may_wait` says. What the check says of the old access token changes
    /// nothing: a refused one says that the rotation took place, a living one proves nothing.
    async fn is_silent(&self, attempt: &Attempt<'_>, may_wait: bool) -> bool {
        let liveness = self.liveness(&attempt.app, &attempt.old).await;
        let word = match liveness {
            Some(Liveness::Alive) => "alive",
            Some(Liveness::Refused(_)) => "refused",
            Some(Liveness::Unknown(_)) => return true,
            None if may_wait && self.may_yet_be_heard(attempt) => return true,
            None => "unknown",
        };
        tracing::info!(account = %attempt.id, old_access_token = word, "an outcome is unknown; one probe follows");
        false
    }

    /// True while an answer to another account may yet come and say that the provider is back. Where there
    /// is no other account that is due soon, nobody would ever know.
    fn may_yet_be_heard(&self, attempt: &Attempt<'_>) -> bool {
        let waits_until = attempt.over_at.plus(SIGN_OF_LIFE_WITHIN);
        waits_until > self.clock.now() && !self.heard.since(&attempt.app.name, attempt.over_at)
    }

    async fn liveness(&self, app: &App, token: &Token) -> Option<Liveness> {
        let request = app.provider.probe_request(&app.endpoints, token)?;
        Some(self.ask_liveness(app, token, request).await)
    }

    async fn ask_liveness(&self, app: &App, token: &Token, request: Request) -> Liveness {
        let began = Instant::now();
        let exchange = self.transport.send(&app.name, request).await;
        self.observe_date(app, &exchange, began.elapsed());
        let subject = token.subject.as_deref();
        let known = Known { subject, client_id: Some(&app.client_id), ..Known::default() };
        app.provider.liveness_knowing(&exchange, &known, self.clock.now())
    }

    fn observe_date(&self, app: &App, exchange: &Exchange, round_trip: Duration) {
        if let Exchange::Answered(answer) = exchange
            && let Some(date) = answer.date
        {
            let provider = &app.provider.name.as_str().into();
            self.clock.observe(Dated { provider, date, round_trip });
        }
    }
}

/// True when both tokens say whose they are and it is not the same account.
#[must_use]
pub fn is_anothers(new: &Token, stored: &Token) -> bool {
    match (&new.subject, &stored.subject) {
        (Some(new), Some(stored)) => new != stored,
        _ => false,
    }
}

/// It is brought to its end again: saving twice is harmless.
fn stays_open(error: &state::Error) {
    tracing::warn!(%error, "a journal entry stays open");
}

fn blocked_by_state(error: &state::Error) -> Finished {
    if let state::Error::LeaseLost { .. } | state::Error::EntryOpen { .. } = error {
        // Somebody else is at it, or was a moment ago: look again a little later.
        return Finished::Blocked(Blocked::LeaseHeld);
    }
    tracing::warn!(%error, "nothing is refreshed");
    Finished::Blocked(Blocked::StateDown)
}

fn blocked_by_store(id: &AccountId, error: &crate::stores::Error) -> Finished {
    tracing::warn!(account = %id, %error, "nothing is refreshed");
    if error.account().is_some() {
        return Finished::Blocked(Blocked::RowDamaged);
    }
    Finished::Blocked(Blocked::StoreDown)
}

/// What reading, journalling and saving may take besides the requests, before a lease ends.
const LEASE_SLACK: Duration = Duration::from_secs(30);

/// How long the one probe is kept for an answer to somebody else, where nothing can be asked for free. Most
/// outages are over by then.
const SIGN_OF_LIFE_WITHIN: Duration = Duration::from_secs(30 * 60);

/// How often the store is read before a verdict about a token waits for it.
const LOOKS_MAX: u32 = 3;

/// Between two of these.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
