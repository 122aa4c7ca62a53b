//! A token from a person's consent, brought into the store on the way that a refreshed one takes: lease, durable
//! intent, one bounded request, durable result before anything else, the same account, compare-and-set save, read
//! back, done.
//!
//! What the account has is left alone until the new token is there and fits: a consent that leads nowhere changes
//! nothing.

use super::{App, Attempt, Refresher, Term, Transport, app_of};
use crate::{
    core::{AccountId, Cause, Evidence, Fingerprint, Secret, TokenFacts, fleet::Finished},
    oauth::{Credentials, Exchange, Outcome, Token},
    providers::Returned,
    state::{self, Closing, EntryId, Intent, OpenEntry},
    stores::{self, Saved, StoredAccount, TokenStore},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// What a person came back with, and what was asked.
pub struct Consent {
    /// The account that was to be connected.
    pub id: AccountId,
    /// The app that asked.
    pub app: Arc<App>,
    /// The code.
    pub code: Secret,
    /// As it was asked with.
    pub redirect_uri: String,
    /// As it was asked with.
    pub verifier: Option<Secret>,
    /// The scopes that were asked for.
    pub asked: Vec<String>,
    /// The token that the store held when it was asked, should the store not answer now.
    pub replaces: Option<Fingerprint>,
    /// Whether the account's key is the provider's own id of it.
    pub key_is_subject: bool,
    /// Whether the account is added where the store does not have it.
    pub may_add: bool,
}

/// What became of it.
#[derive(Debug)]
pub enum Connected {
    /// A new token is in the store and was read back.
    Saved {
        /// What may be known of it.
        token: TokenFacts,
        /// False when nobody could tell whether it is the same account.
        is_proven: bool,
        /// False when the answer did not say which scopes were granted.
        are_scopes_known: bool,
    },
    /// It was received and is in the journal; the store has not taken it yet.
    Later,
    /// Somebody else put another token into the store meanwhile; it was left alone.
    Theirs,
    /// It is the token of another account, and was thrown away.
    OtherAccount,
    /// These scopes, which publishing needs, were not granted. What the store holds was left alone.
    FewerScopes(Vec<String>),
    /// The provider gave no token.
    Refused(Evidence),
    /// The account is not in the store, or is switched off there.
    NotThere,
    /// An earlier attempt at the account is not settled. Nothing was sent.
    Busy,
    /// Our state cannot be written, or the app's secret cannot be read. Nothing was sent.
    Unavailable,
}

/// What a code bought.
struct Bought {
    token: Token,
    /// Whose it is, where the answer itself says so.
    named: Option<String>,
}

impl<S: TokenStore, T: Transport> Refresher<S, T> {
    /// Makes a token of a code and saves it.
    ///
    /// The caller lets it come to its end: the code works once, and what it buys must not be lost.
    pub async fn connect(&self, consent: &Consent) -> Connected {
        let id = &consent.id;
        if let Err(refused) = self.settle_before(id).await {
            return refused;
        }
        let Some(lease) = self.lease_for_consent(id).await else {
            return Connected::Busy;
        };
        let connected = self.connect_under(&lease, consent).await;
        // One that cannot be released expires.
        let _ = self.state.release(&lease).await;
        connected
    }

    /// Brings an earlier attempt to its end first: what it received would be worth nothing once ours is there, and
    /// ours nothing if it came after.
    async fn settle_before(&self, id: &AccountId) -> Result<(), Connected> {
        let unavailable = |error: state::Error| {
            tracing::warn!(account = %id, %error, "nobody is connected");
            Connected::Unavailable
        };
        for _ in 0..SETTLED_AT_MOST {
            self.journal_held_of(id).await;
            match self.state.open_entry(id).await.map_err(unavailable)? {
                None => return Ok(()),
                Some(_) => drop(self.settle(id, false).await),
            }
        }
        match self.state.open_entry(id).await.map_err(unavailable)? {
            None => Ok(()),
            Some(_) => Err(Connected::Busy),
        }
    }

    /// Somebody may be refreshing the account at this very moment; that takes seconds.
    async fn lease_for_consent(&self, id: &AccountId) -> Option<Term> {
        let life = self.call_deadline * REQUESTS_AT_MOST + super::LEASE_SLACK;
        let waits_until = self.clock.steady() + LEASE_WAITED_FOR;
        loop {
            let ends_at = self.clock.steady() + life;
            match self.state.take_lease(id, self.clock.now(), life).await {
                Ok(Some(lease)) => return Some(Term { lease, ends_at }),
                Ok(None) if self.clock.steady() < waits_until => {
                    tokio::time::sleep(BETWEEN_LEASES).await;
                }
                Ok(None) => return None,
                Err(error) => {
                    tracing::warn!(account = %id, %error, "nobody is connected");
                    return None;
                }
            }
        }
    }

    async fn connect_under(&self, lease: &Term, consent: &Consent) -> Connected {
        let Consent { id, app, .. } = consent;
        let stored = self.store.get(id).await;
        let old = match &stored {
            Ok(Some(stored)) if !self.is_connectable(consent, stored) => {
                return Connected::NotThere;
            }
            Ok(Some(stored)) => stored.token.clone(),
            Ok(None) if consent.may_add => None,
            Ok(None) => return Connected::NotThere,
            // The code lives for seconds at some providers, and the journal needs no store.
            Err(error) if consent.replaces.is_some() => {
                tracing::warn!(account = %id, %error, "a consent is taken in all the same");
                None
            }
            Err(error) => {
                tracing::warn!(account = %id, %error, "nobody is connected");
                return Connected::Unavailable;
            }
        };
        let maker = self.state.fingerprinter();
        // What was there when it was asked counts only while nobody can say what is there now.
        let asked = consent.replaces.filter(|_| stored.is_err());
        let held = old.as_ref().map(|old| maker.of_token(old)).or(asked);
        let replaced = held.unwrap_or(Fingerprint::NONE);
        let Ok((credentials, secret)) = app.credentials() else {
            return Connected::Unavailable;
        };
        let requested_at = self.clock.now();
        let over_at = requested_at.plus(self.call_deadline);
        let spending = Intent::spending_of_code(maker.of_secret(&consent.code));
        let intent = Intent { old: replaced, spending, requested_at, over_at };
        let entry = match self.state.intend(lease, &intent).await {
            Ok(entry) => entry,
            Err(error) => {
                tracing::warn!(account = %id, %error, "nobody is connected");
                return Connected::Unavailable;
            }
        };
        let attempt = Attempt {
            lease,
            app: Arc::clone(app),
            id,
            old: old.clone().unwrap_or_else(|| empty_row(&stored)),
            entry,
            draft: None,
            secret,
            // In the end the refresh token that was there is finished, whoever finished it.
            spending: old.as_ref().and_then(|old| self.renews_with(app, old)).unwrap_or(spending),
            requested_at,
            over_at,
            is_probe: false,
        };
        let bought = self.token_for(consent, &credentials, &attempt.old, requested_at).await;
        let Bought { token, named } = match bought {
            Ok(bought) => bought,
            Err(evidence) => {
                self.pass_on_secret(app, secret, &evidence);
                self.end(entry, Closing::Void).await;
                return Connected::Refused(evidence);
            }
        };
        // Before anything else looks at it.
        if let Err(error) = self.state.record_result(entry, id, &token).await {
            self.hold(&attempt, replaced, &token, &error).await;
        }
        self.judge(&attempt, consent, Bought { token, named }, stored.ok()).await
    }

    /// Our own token can replace what is there.
    fn is_connectable(&self, consent: &Consent, stored: &StoredAccount) -> bool {
        let apps = self.apps.load();
        let is_same_app = app_of(&apps, stored).is_some_and(|app| app.name == consent.app.name);
        stored.enabled && is_same_app
    }

    /// The long-lived token that the code buys.
    async fn token_for(
        &self,
        consent: &Consent,
        credentials: &Credentials,
        old: &Token,
        requested_at: crate::core::Timestamp,
    ) -> Result<Bought, Evidence> {
        let Consent { app, code, redirect_uri, verifier, asked, .. } = consent;
        let (provider, endpoints) = (app.provider, &app.endpoints);
        let returned = Returned { code, redirect_uri, verifier: verifier.as_ref() };
        let unsendable = || Evidence::of(Cause::Unknown, self.clock.now());
        let request = provider.exchange_request(endpoints, credentials, &returned);
        let exchange = self.send_for(app, request.ok_or_else(unsendable)?).await;
        let outcome = provider.exchanged(&exchange, self.clock.now());
        drop(exchange);
        let mut grant = match outcome {
            Outcome::Committed(grant) => grant,
            Outcome::NotCommitted(evidence)
            | Outcome::Dead(evidence)
            | Outcome::Ambiguous(evidence) => return Err(evidence),
        };
        let short = Token { access: grant.access.clone(), refresh: None, ..nothing() };
        if provider.lengthen_request(endpoints, credentials, &short).is_some() {
            let long = self.lengthened(app, credentials, &short).await?;
            grant = crate::oauth::Grant {
                access: long.access,
                expires_in: long.expires_in,
                scopes: long.scopes.or(grant.scopes),
                ..grant
            };
        }
        let granted = grant.scopes.take().or_else(|| provider.granted_unsaid(asked));
        let named = grant.subject.clone();
        let mut token = grant.onto(old, requested_at);
        // Not the scopes of the consent before: what was granted then says nothing about now.
        token.scopes = granted;
        Ok(Bought { token, named })
    }

    /// Nothing is spent by asking, so it is asked again where the answer was lost.
    async fn lengthened(
        &self,
        app: &App,
        credentials: &Credentials,
        short: &Token,
    ) -> Result<crate::oauth::Grant, Evidence> {
        let mut evidence = Evidence::of(Cause::Unknown, self.clock.now());
        for _ in 0..LENGTHENINGS_MAX {
            let request = app.provider.lengthen_request(&app.endpoints, credentials, short);
            let Some(request) = request else { break };
            let exchange = self.send_for(app, request).await;
            match app.provider.lengthened(&exchange, self.clock.now()) {
                Outcome::Committed(grant) => return Ok(grant),
                Outcome::Dead(refused) => return Err(refused),
                Outcome::NotCommitted(refused) | Outcome::Ambiguous(refused) => evidence = refused,
            }
        }
        Err(evidence)
    }

    async fn send_for(&self, app: &App, request: crate::oauth::Request) -> Exchange {
        let began = Instant::now();
        let exchange = self.transport.send(&app.name, request).await;
        self.observe_date(app, &exchange, began.elapsed());
        exchange
    }

    /// Is it the account that was meant, and may it do what is needed? Then it is saved.
    async fn judge(
        &self,
        attempt: &Attempt<'_>,
        consent: &Consent,
        Bought { mut token, named }: Bought,
        stored: Option<Option<StoredAccount>>,
    ) -> Connected {
        let (id, app) = (attempt.id, &attempt.app);
        let seen = match named {
            Some(named) => Some(named),
            None => self.subject_of(app, &token).await,
        };
        let known = self.known_subject(attempt, consent).await;
        if known.is_some() && seen.is_some() && known != seen {
            // Whose it is, we were not asked to keep.
            self.held.let_go(id, attempt.entry);
            self.end(attempt.entry, Closing::Done).await;
            return Connected::OtherAccount;
        }
        let is_proven =
            seen.is_some() && (known.is_some() || seen.as_deref() == Some(&*id.account));
        token.subject = seen.or(token.subject);
        let missing = missing(app, &token);
        if !missing.is_empty() {
            self.set_aside(attempt).await;
            return Connected::FewerScopes(missing);
        }
        let are_scopes_known = token.scopes.is_some() || app.scopes.is_empty();
        let facts = self.facts(app, &token);
        let saved = Connected::Saved { token: facts, is_proven, are_scopes_known };
        match stored {
            Some(Some(stored)) => {
                let held = stored.token.as_ref();
                let expected = held.map(|held| self.state.fingerprinter().of_token(held));
                let expected = expected.unwrap_or(Fingerprint::NONE);
                match self.save(attempt, token, expected).await {
                    Finished::Renewed(_) => saved,
                    Finished::Adopted(_) => Connected::Theirs,
                    Finished::WrongAccount(_) => Connected::OtherAccount,
                    Finished::Gone | Finished::NoToken => Connected::NotThere,
                    _ => Connected::Later,
                }
            }
            Some(None) => match self.add_connected(attempt, &token).await {
                Ok(true) => saved,
                Ok(false) => Connected::Theirs,
                Err(error) => {
                    tracing::error!(account = %id, %error, "the store did not take a new account");
                    Connected::Later
                }
            },
            None => Connected::Later,
        }
    }

    /// Adds the account. False when somebody else has, meanwhile.
    async fn add_connected(
        &self,
        attempt: &Attempt<'_>,
        token: &Token,
    ) -> Result<bool, stores::Error> {
        let app = (!attempt.app.is_default).then(|| Arc::clone(&attempt.app.name));
        let account = StoredAccount {
            id: attempt.id.clone(),
            app,
            owner: None,
            subject: token.subject.clone(),
            token: Some(token.clone()),
            enabled: true,
        };
        match self.store.add(&account).await? {
            Saved::Written | Saved::AlreadyThere => {
                self.complete(attempt, token).await;
                Ok(true)
            }
            Saved::Conflict | Saved::Gone => {
                self.set_aside(attempt).await;
                Ok(false)
            }
        }
    }

    /// Saves what an earlier consent brought for an account that the store does not have yet. `None` when there is
    /// nothing of the kind.
    pub async fn add_received(&self, id: &AccountId, app: &App) -> Option<Connected> {
        let open = self.state.open_entry(id).await.ok()??;
        if !open.intent.is_of_consent() || !matches!(self.store.get(id).await, Ok(None)) {
            return None;
        }
        let token = open.result.or_else(|| self.held.of_entry(id, open.entry))?;
        let lease = self.lease_for_consent(id).await?;
        let attempt = Attempt {
            lease: &lease,
            app: Arc::new(app.clone()),
            id,
            old: nothing(),
            entry: open.entry,
            draft: None,
            secret: 0,
            spending: open.intent.spending,
            requested_at: open.intent.requested_at,
            over_at: open.intent.over_at,
            is_probe: false,
        };
        let facts = self.facts(app, &token);
        let added = self.add_connected(&attempt, &token).await;
        let _ = self.state.release(&lease).await;
        Some(match added {
            Ok(true) => Connected::Saved { token: facts, is_proven: true, are_scopes_known: true },
            Ok(false) => Connected::Theirs,
            Err(_) => Connected::Later,
        })
    }

    /// Whose token it is, where the answer or the provider's check says it. A check that is billed costs a cent and
    /// is made once for each time a person consents: to post to a stranger's account costs more.
    async fn subject_of(&self, app: &App, token: &Token) -> Option<String> {
        let endpoints = &app.endpoints;
        let billed = || app.provider.billed_probe_request(endpoints, token);
        let request = app.provider.probe_request(endpoints, token).or_else(billed)?;
        let exchange = self.send_for(app, request).await;
        app.provider.subject_seen(&exchange)
    }

    /// Whose account it was: by the store, or by what we received for it before, or by its key.
    async fn known_subject(&self, attempt: &Attempt<'_>, consent: &Consent) -> Option<String> {
        if let Some(subject) = &attempt.old.subject {
            return Some(subject.clone());
        }
        let newest = self.state.newest(attempt.id).await.ok().flatten();
        let before = newest.and_then(|newest| newest.token.subject);
        before.or_else(|| consent.key_is_subject.then(|| attempt.id.account.to_string()))
    }

    /// True for a token that was received for a row that held none.
    pub(super) fn is_first(&self, open: &OpenEntry) -> bool {
        let is_here = open.result.is_some() || self.held.of_entry(&open.id, open.entry).is_some();
        open.intent.is_of_consent() && open.intent.old == Fingerprint::NONE && is_here
    }

    /// An attempt of a consent that came to nothing: whoever began it has gone, for we hold the lease.
    pub(super) async fn end_lost_consent(&self, open: Option<OpenEntry>) -> Option<OpenEntry> {
        let open = open?;
        let is_lost = open.intent.is_of_consent()
            && open.result.is_none()
            && self.held.of_entry(&open.id, open.entry).is_none();
        if !is_lost {
            return Some(open);
        }
        self.end(open.entry, Closing::Void).await;
        None
    }

    async fn end(&self, entry: EntryId, closing: Closing) {
        if let Err(error) = self.state.close(entry, closing).await {
            super::stays_open(&error);
        }
    }
}

/// Which of the scopes that publishing needs were not granted; none when nobody knows.
fn missing(app: &App, token: &Token) -> Vec<String> {
    let Some(granted) = &token.scopes else { return Vec::new() };
    let is_granted = |scope: &str| granted.iter().any(|have| have == scope);
    app.scopes.iter().filter(|scope| !is_granted(scope)).map(ToString::to_string).collect()
}

/// No token, but whose it would be.
fn empty_row(stored: &Result<Option<StoredAccount>, stores::Error>) -> Token {
    let subject = stored.as_ref().ok().and_then(|stored| stored.as_ref()?.subject.clone());
    Token { subject, ..nothing() }
}

/// No token at all.
pub(super) fn nothing() -> Token {
    Token {
        access: Secret::new(String::new()),
        refresh: None,
        issued_at: None,
        expires_at: None,
        refresh_expires_at: None,
        scopes: None,
        subject: None,
    }
}

/// Requests that are made under one lease: code, lengthening and whose it is.
const REQUESTS_AT_MOST: u32 = 1 + LENGTHENINGS_MAX + 1;

/// How often a short-lived token is shown for a long-lived one.
const LENGTHENINGS_MAX: u32 = 3;

/// How often an earlier attempt is settled before a person is asked to come again.
const SETTLED_AT_MOST: u32 = 2;

/// How long a refresh that is under way is waited for. A code of X lives for thirty seconds.
const LEASE_WAITED_FOR: Duration = Duration::from_secs(10);

/// Between two looks at it.
const BETWEEN_LEASES: Duration = Duration::from_millis(250);
