//! What happens to accounts, as their histories keep it. Nothing here decides anything.
//!
//! A history is written down apart from the memory and may be lost: whoever writes it does not insist. So
//! nothing that keeps a token alive may hang on it.

use super::Fleet;
use crate::core::{
    Account, AccountId, Cause, Event, Evidence, History, Recent, Timestamp, TokenFacts,
    history::{Check, Failure, Moved, Source, Writer, Writing},
    recent::MARKS_KEPT_MAX,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Histories on their way in and out.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// What was kept of accounts that have not been seen since they became ours.
    recounted: BTreeMap<AccountId, Arc<History>>,
    /// Accounts whose history must be written.
    changed: BTreeSet<AccountId>,
    /// Histories that must be written of accounts that are not ours any more.
    parting: Vec<(AccountId, Arc<History>)>,
}

impl Notes {
    /// Takes in what was kept.
    pub(super) fn recount(&mut self, histories: Vec<(AccountId, History)>) {
        let shared = histories.into_iter().map(|(id, history)| (id, Arc::new(history)));
        self.recounted.extend(shared);
    }

    /// What was kept of an account that is seen for the first time.
    pub(super) fn take(&mut self, id: &AccountId) -> Option<Arc<History>> {
        self.recounted.remove(id)
    }

    /// Forgets what was kept of accounts that nobody waits for any more.
    pub(super) fn retain(&mut self, is_awaited: impl Fn(&AccountId) -> bool) {
        self.recounted.retain(|id, _| is_awaited(id));
    }

    /// An account is let go: what is not written yet is written without it.
    pub(super) fn part(&mut self, account: &Account) {
        if self.changed.remove(&account.id)
            && let Some(history) = &account.history
        {
            self.parting.push((account.id.clone(), Arc::clone(history)));
        }
    }

    /// An account has left: nothing of it is worth writing.
    pub(super) fn forget(&mut self, id: &AccountId) {
        self.changed.remove(id);
    }

    /// Accounts whose histories are not written yet.
    pub(super) fn unwritten(&self) -> impl Iterator<Item = &AccountId> {
        self.changed.iter().chain(self.parting.iter().map(|(id, _)| id))
    }
}

impl Fleet {
    /// Histories that must be written since the last call.
    pub fn take_histories(&mut self) -> Vec<(AccountId, Arc<History>)> {
        let changed = std::mem::take(&mut self.notes.changed);
        let mut histories = std::mem::take(&mut self.notes.parting);
        let history = |id: AccountId| {
            let history = self.table.find(&id)?.history.clone()?;
            Some((id, history))
        };
        histories.extend(changed.into_iter().filter_map(history));
        histories
    }

    /// A failure was seen.
    pub(super) fn note_failure(
        &mut self,
        now: Timestamp,
        id: &AccountId,
        evidence: &Arc<Evidence>,
        source: Source,
    ) {
        let clock_ahead = self.clock_offsets.get(&id.provider).copied();
        self.note(id, |account, history| {
            let seen = Failure {
                evidence: Arc::clone(evidence),
                first_at: evidence.at,
                times: 1,
                source,
                token_age: account.token.map(|token| now.since(token.issued_at)),
                clock_ahead,
            };
            history.note_failure(seen, account.last_refresh_at);
        });
    }

    /// The token, or what the app requires, may have changed.
    pub(super) fn note_scopes(&mut self, now: Timestamp, id: &AccountId) {
        let Some(account) = self.table.find(id) else { return };
        let is_quiet = account.history.as_ref().is_none_or(|history| history.scopes.is_empty());
        if is_quiet && account.token.is_none_or(|token| token.missing_scopes == 0) {
            return;
        }
        let missing = self.names_of_missing(id);
        let known = account.history.as_ref().and_then(|history| history.scopes.last());
        if known.is_none_or(|known| known.missing != missing) {
            self.note(id, |_, history| {
                history.note_scopes(now, missing);
            });
        }
    }

    /// Somebody else put `theirs` into the store, or its owner did by a link of ours. Before the account takes it over.
    pub(super) fn note_writing(
        &mut self,
        now: Timestamp,
        id: &AccountId,
        theirs: Option<&TokenFacts>,
        reconnected: bool,
    ) {
        let Some(account) = self.table.find(id) else { return };
        let by = match (&account.token, theirs) {
            (None, None) => return,
            (_, None) => Writer::Removed,
            (Some(known), Some(theirs)) if known.token == theirs.token => return,
            (_, Some(_)) if reconnected => Writer::Reconnect,
            (_, Some(theirs)) if only_by_consent(now, account, theirs) => Writer::Reconnect,
            // A provider that keeps the refresh token hands out another one for a new consent only.
            (Some(known), Some(theirs))
                if self.apps.find(&account.app).is_some_and(|app| app.retry_is_safe)
                    && known.renewable_by != theirs.renewable_by =>
            {
                Writer::Reconnect
            }
            (_, Some(_)) => Writer::Publisher,
        };
        self.note(id, |_, history| history.note_writing(Writing { at: now, by }));
    }

    /// An account is seen for the first time in this run, and perhaps not with the token that was remembered.
    pub(super) fn note_absence(
        &mut self,
        now: Timestamp,
        id: &AccountId,
        remembered: Option<TokenFacts>,
    ) {
        let (Some(account), Some(remembered)) = (self.table.find(id), remembered) else { return };
        let by = match account.token {
            None => Writer::Removed,
            Some(found) if found.token == remembered.token => return,
            Some(_) if account.cause.is_some_and(Cause::needs_reconnect) => Writer::Reconnect,
            // It may be our own, saved a moment before the last run was cut off.
            Some(_) => return,
        };
        self.note(id, |_, history| history.note_writing(Writing { at: now, by }));
    }

    /// Somebody had put back what we had replaced.
    pub(super) fn note_stale_copy(&mut self, now: Timestamp, id: &AccountId) {
        self.note(id, |_, history| {
            history.note_writing(Writing { at: now, by: Writer::StaleCopy });
        });
    }

    /// The access token was tried.
    pub(super) fn note_checked(&mut self, now: Timestamp, id: &AccountId, alive: Option<bool>) {
        self.note(id, |_, history| history.check = Some(Check { at: now, alive }));
    }

    /// The account belongs to another app than before.
    pub(super) fn note_move(&mut self, now: Timestamp, id: &AccountId, from: Arc<str>) {
        self.note(id, |_, history| history.moved = Some(Moved { at: now, from }));
    }

    /// Whatever is told of an account is kept for its page too, so that page and log cannot differ.
    pub(super) fn note_recent(&mut self, event: &Event) {
        let (Some(id), Some(now)) = (Recent::subject(event), self.handled_at) else { return };
        let most = if self.table.len() > SMALL_FLEET_MAX { MARKS_OF_MANY } else { MARKS_KEPT_MAX };
        self.table.change(id, |account| {
            let ends = account.token.and_then(|token| token.expires_at);
            let mut recent = account.recent.take().map(Arc::unwrap_or_clone).unwrap_or_default();
            recent.note(now, event, ends, most);
            account.recent = Some(Arc::new(recent));
        });
    }

    pub(super) fn note(&mut self, id: &AccountId, change: impl FnOnce(&Account, &mut History)) {
        let noted = self.table.change(id, |account| {
            // Shared with the snapshot that others may be reading.
            let mut history = account.history.take().map(Arc::unwrap_or_clone).unwrap_or_default();
            change(account, &mut history);
            account.history = Some(Arc::new(history));
        });
        if noted.is_some() {
            self.notes.changed.insert(id.clone());
        }
    }
}

/// True when no refresh, whoever made it, can have brought `theirs`: the grant before it was finished, or
/// allowed less (RFC 6749 section 6 lets a refresh keep or narrow the scopes).
fn only_by_consent(now: Timestamp, account: &Account, theirs: &TokenFacts) -> bool {
    let Some(known) = &account.token else { return true };
    let is_finished = account.verdict.is_some_and(Cause::needs_reconnect)
        || known.refresh_expires_at.is_some_and(|end| end.has_come(now))
        || known.renewable_by.is_none();
    is_finished || known.missing_scopes & !theirs.missing_scopes != 0
}

/// Accounts up to which as much is kept of each as its page can show.
const SMALL_FLEET_MAX: usize = 100_000;

/// Marks that are kept of each account of a greater fleet: a million of them must fit.
const MARKS_OF_MANY: usize = 8;

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{Bench, id},
        *,
    };
    use crate::core::{
        Cause, Fingerprint, Gate, Shares, Why,
        fleet::{Checked, Finished, Input},
        recent::{HOURS, Happening, Origin},
    };

    fn history(bench: &Bench) -> History {
        bench.account("a").history.as_deref().cloned().unwrap_or_default()
    }

    fn written(bench: &mut Bench) -> usize {
        bench.fleet.take_histories().len()
    }

    #[test]
    fn a_quiet_refresh_writes_no_history() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.9))]);
        assert_eq!(bench.started(), ["refresh a"]);
        bench.finish("a", Finished::Renewed(bench.token(2, 0.0)));
        assert_eq!(written(&mut bench), 0);
        assert_eq!(bench.account("a").history, None);
        assert!(bench.account("a").first_seen_at.is_some());
    }

    #[test]
    fn what_is_told_of_an_account_is_on_its_page_in_order() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.9))]);
        let new = bench.token(2, 0.0);
        bench.finish("a", Finished::Renewed(new));
        bench.tell(Input::Responded { id: id("a"), status: 401, times: 3 });
        bench.tell(Input::Responded { id: id("a"), status: 403, times: 9 });
        bench.finish("a", Finished::Dead(bench.evidence(Cause::RefreshTokenRejected)));
        let account = bench.account("a");
        let recent = account.recent.as_deref().unwrap();
        assert_eq!(recent.unauthorized(bench.now)[HOURS - 1], 3);
        let told: Vec<_> = recent.marks().iter().map(|mark| mark.what).collect();
        let dead = Cause::RefreshTokenRejected;
        assert_eq!(
            told,
            [
                Happening::NewToken { from: Origin::Refresh, ends: new.expires_at },
                Happening::Became(Some(dead)),
                Happening::Gate(Gate::Held, Some(Why::Cause(dead))),
            ]
        );
    }

    #[test]
    fn a_failure_is_kept_with_the_age_of_the_token_and_the_providers_clock() {
        let mut bench = Bench::new();
        bench.tell(Input::ClockOffset { provider: "tiktok".into(), seconds: 9 });
        let token = bench.token(1, 0.9);
        bench.load(&[("a", token)]);
        bench.finish("a", Finished::NotCommitted(bench.evidence(Cause::ProviderOutage)));
        let kept = history(&bench);
        let [failure] = &kept.failures[..] else { panic!("{kept:?}") };
        assert_eq!(failure.source, Source::Refresh);
        assert_eq!(failure.token_age, Some(bench.now.since(token.issued_at)));
        assert_eq!(failure.clock_ahead, Some(9));
        assert_eq!(written(&mut bench), 1);
        assert_eq!(written(&mut bench), 0, "once");
    }

    #[test]
    fn a_check_is_kept_whatever_it_said() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.3))]);
        for (checked, alive) in [(Checked::Unknown, None), (Checked::Alive, Some(true))] {
            bench.pass(3_600);
            bench.tell(Input::Responded { id: id("a"), status: 401, times: 1 });
            bench.tell(Input::Probed { id: id("a"), checked });
            assert_eq!(history(&bench).check, Some(Check { at: bench.now, alive }));
        }
    }

    #[test]
    fn who_wrote_the_token_is_told_apart_as_far_as_it_can_be() {
        let mut bench = Bench::new();
        let mut narrow = bench.token(1, 0.1);
        narrow.missing_scopes = 1;
        bench.load(&[("a", narrow)]);
        let mut other = bench.token(2, 0.0);
        other.missing_scopes = 1;
        bench.load(&[("a", other)]);
        assert_eq!(history(&bench).last_writing().unwrap().by, Writer::Publisher);
        bench.load(&[("a", bench.token(3, 0.0))]);
        assert_eq!(
            history(&bench).last_writing().unwrap().by,
            Writer::Reconnect,
            "it was given more"
        );
        let missing: Vec<_> =
            history(&bench).scopes.iter().map(|seen| seen.missing.len()).collect();
        assert_eq!(missing, [1, 0]);
    }

    #[test]
    fn a_token_in_place_of_a_dead_one_is_a_new_consent() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.9))]);
        bench.finish("a", Finished::Dead(bench.evidence(Cause::RefreshTokenRejected)));
        bench.load(&[("a", bench.token(2, 0.0))]);
        assert_eq!(history(&bench).reconnected_at(), Some(bench.now));
        assert_eq!(bench.account("a").cause, None);
    }

    #[test]
    fn a_restart_knows_what_was_kept_and_says_the_providers_code_again() {
        let mut before = Bench::new();
        let token = before.token(1, 0.9);
        before.load(&[("a", token)]);
        let first_seen_at = before.account("a").first_seen_at;
        let mut evidence = before.evidence(Cause::RefreshTokenRejected);
        evidence.code = Some("invalid_grant".into());
        evidence.log_id = Some("20261122A1".into());
        before.pass(60);
        before.finish("a", Finished::Dead(evidence));
        let (memories, _) = before.fleet.take_changed();
        let histories = before.fleet.take_histories();
        let histories = histories.into_iter().map(|(id, one)| (id, (*one).clone())).collect();

        let mut after = Bench::new();
        after.pass(600);
        after.tell(Input::Holding { shares: Shares::NONE, until: None });
        after.tell(Input::Recalled(memories));
        after.tell(Input::Recounted(histories));
        after.tell(Input::Holding { shares: Shares::ALL, until: None });
        after.load(&[("a", token)]);
        assert_eq!(history(&after), history(&before));
        assert_eq!(after.account("a").first_seen_at, first_seen_at);
        let shown = after.account("a").last_failure.clone().unwrap();
        assert_eq!(shown.code.as_deref(), Some("invalid_grant"));
        assert_eq!(written(&mut after), 0, "nothing happened");
    }

    #[test]
    fn what_is_not_written_yet_of_a_lost_account_is_written_without_it() {
        let mut bench = Bench::new();
        bench.load(&[("a", bench.token(1, 0.9))]);
        bench.finish("a", Finished::NotCommitted(bench.evidence(Cause::ProviderOutage)));
        bench.tell(Input::Holding { shares: Shares::NONE, until: None });
        assert!(bench.fleet.busy_shares().contain(&id("a")));
        assert_eq!(written(&mut bench), 1);
    }

    #[test]
    fn what_a_publisher_says_of_a_scope_ends_no_token_and_what_it_says_of_the_token_is_asked_about()
    {
        let rows = [
            (Cause::ScopeMissing, Some(Cause::ScopeMissing), &[][..]),
            (Cause::ConsentRevoked, None, &["probe a"]),
            (Cause::WrongEnvironment, None, &["probe a"]),
            (Cause::RefreshTokenRejected, None, &["probe a"]),
            (Cause::RateLimited, None, &[]),
            (Cause::RedirectUriMismatch, None, &[]),
        ];
        for (said, cause, started) in rows {
            let mut bench = Bench::new();
            bench.load(&[("a", bench.token(1, 0.3))]);
            let evidence = bench.evidence(said);
            bench.tell(Input::Said { id: id("a"), evidence });
            assert_eq!(bench.started(), started, "{said:?}");
            assert_eq!(bench.account("a").cause, cause, "{said:?}");
            assert_eq!(history(&bench).last_failure().unwrap().source, Source::Publisher);
            if said == Cause::ScopeMissing {
                bench.tell(Input::Responded { id: id("a"), status: 401, times: 1 });
                assert_eq!(bench.started(), [""; 0], "a refresh cannot mend it");
            }
        }
    }

    #[test]
    fn an_account_that_moves_to_another_app_says_where_it_was() {
        let mut bench = Bench::new();
        let token = bench.token(1, 0.1);
        let apps = ["main", "other"].map(super::super::tests::app).into();
        bench.tell(Input::Configured { policy: crate::core::schedule::Policy::default(), apps });
        bench.load(&[("a", token)]);
        let seen = super::super::Seen { id: id("a"), app: "other".into(), token: Some(token) };
        bench.tell(Input::LoadBegan);
        bench.tell(Input::Seen(vec![seen]));
        assert_eq!(history(&bench).moved, Some(Moved { at: bench.now, from: "main".into() }));
    }

    #[test]
    fn a_spent_token_that_is_written_back_is_noted_when_ours_is_there_again() {
        let mut bench = Bench::new();
        let old = bench.token(1, 0.9);
        bench.load(&[("a", old)]);
        let mut new = bench.token(2, 0.0);
        new.renewable_by = Some(Fingerprint::from_hash(77));
        bench.finish("a", Finished::Renewed(new));
        bench.pass(120);
        bench.load(&[("a", old)]);
        assert_eq!(bench.started(), ["save a"]);
        bench.finish("a", Finished::Restored(new));
        assert_eq!(history(&bench).last_writing().unwrap().by, Writer::StaleCopy);
    }
}
