//! What speaks for a cause, what against it, what else it may be, and which step follows.
//!
//! Right after an account was connected, its set-up is suspected: redirect URI, credentials, environment,
//! scopes. Once anything worked, the set-up was right, and the token is suspected.

use super::{Case, Confidence, Fact, Step, What};
use crate::core::{
    Cause, History, Timestamp,
    gate::Objection,
    history::{Failure, Source, Writer},
    second_clock::Provenance,
};
use std::{sync::Arc, time::Duration};

/// What the evidence comes to.
pub(super) struct Weighed {
    pub(super) confidence: Confidence,
    pub(super) reasons_for: Vec<Fact>,
    pub(super) reasons_against: Vec<Fact>,
    pub(super) suspects: Vec<Cause>,
    pub(super) step: Step,
}

impl Case<'_> {
    pub(super) fn history(&self) -> Option<&History> {
        self.account.history.as_deref()
    }

    /// When this account last worked, so far as we saw it ourselves.
    pub(super) fn worked_at(&self) -> Option<Timestamp> {
        let check = self.history().and_then(|history| history.check);
        let alive = check.filter(|check| check.alive == Some(true)).map(|check| check.at);
        alive.max(self.account.last_refresh_at)
    }

    /// The publisher reported good answers since the sidecar started.
    pub(super) fn has_ok_responses(&self) -> bool {
        self.account.responses.iter().any(|(code, times)| code == "200" && times > 0)
    }

    /// When the account was connected, as far back as anything tells.
    fn connected_at(&self) -> Option<Timestamp> {
        let again = self.history().and_then(History::reconnected_at);
        let issued = self.account.token.map(|token| token.issued_at);
        again.or_else(|| [self.account.first_seen_at, issued].into_iter().flatten().min())
    }

    /// Connected a short while ago, and nothing has worked since.
    fn is_in_set_up(&self) -> bool {
        let Some(connected) = self.connected_at() else { return false };
        let has_worked = self.worked_at().is_some_and(|at| at >= connected);
        !has_worked && !self.has_ok_responses() && self.now.since(connected) < SET_UP_FOR
    }

    /// Nothing has ever worked for this app: not for this account, and for no other.
    fn app_is_unproven(&self) -> bool {
        self.worked_at().is_none() && self.app.others_renewed_at.is_none()
    }

    /// The failure that a cause rests on.
    fn failure_of(&self, cause: Cause) -> Option<&Failure> {
        let history = self.history()?;
        history.last_of(cause).or_else(|| {
            // Rejected is what it was called; that it expired, its own end says.
            (cause.needs_reconnect()).then(|| history.last_of(Cause::RefreshTokenRejected))?
        })
    }
}

/// The cause that the account shows, or a finer one that the evidence names.
pub(super) fn sharpened(case: &Case<'_>) -> Option<Cause> {
    let shown = case.account.cause;
    if is_clock(case, shown) {
        return Some(Cause::ClockDrift);
    }
    if is_redirect_uri(case, shown) {
        return Some(Cause::RedirectUriMismatch);
    }
    let waits = shown.is_none_or(|cause| {
        matches!(cause, Cause::AccessTokenExpired | Cause::RateLimited | Cause::Unknown)
    });
    if !waits {
        return shown;
    }
    if let Some((cause, _)) = case.app.frozen {
        return Some(cause);
    }
    // Frozen or not: who was refused last for the app's sake was not renewed since.
    let refused = || Some(&case.history()?.last_failure()?.evidence);
    if let (Some((cause, _)), Some(own)) = (case.app.refused, refused())
        && own.app_wide
        && own.cause == cause
    {
        return Some(cause);
    }
    if !case.store_up || !case.state_up {
        return Some(Cause::StoreUnreachable);
    }
    shown.or_else(|| case.account.door.objected().map(|one| one.cause))
}

/// By our clock a token has ended that lives by the provider's, or the other way round.
fn is_clock(case: &Case<'_>, shown: Option<Cause>) -> bool {
    let Some(ahead) = case.clock_ahead.filter(|ahead| ahead.abs() > CLOCK_AGREES_SECONDS) else {
        return false;
    };
    let theirs = Timestamp::from_unix(case.now.as_unix().saturating_add(ahead));
    let Some(token) = &case.account.token else { return false };
    let differs = |end: Option<Timestamp>| {
        end.is_some_and(|end| end.has_come(case.now) != end.has_come(theirs))
    };
    match shown {
        Some(Cause::AccessTokenExpired) => differs(token.expires_at),
        Some(Cause::RefreshTokenExpired) => differs(token.refresh_expires_at),
        _ => false,
    }
}

/// Connecting it failed because of the redirect URI, and until it is connected nothing else matters.
fn is_redirect_uri(case: &Case<'_>, shown: Option<Cause>) -> bool {
    let is_unconnected = shown.is_some_and(Cause::needs_reconnect)
        || (shown == Some(Cause::NotRenewable) && case.account.token.is_none());
    let failure = case.history().and_then(|history| history.last_of(Cause::RedirectUriMismatch));
    is_unconnected
        && failure.is_some_and(|failure| case.worked_at().is_none_or(|at| failure.evidence.at > at))
}

/// Weighs what is known.
pub(super) fn weigh(case: &Case<'_>, cause: Option<Cause>) -> Weighed {
    let Some(cause) = cause else { return well(case) };
    let objection = case.account.door.objected().filter(|one| one.cause == cause);
    if let Some(objection) = objection.filter(|_| case.account.cause.is_none()) {
        return publishing_refused(case, objection);
    }
    let mut pro = Vec::new();
    let mut contra = Vec::new();
    let failure = case.failure_of(cause);
    pro.extend(failure.map(Fact::said));
    let (confidence, suspects, step) = match cause {
        Cause::AccessTokenExpired => access_ended(case, &mut pro, &mut contra),
        Cause::RefreshTokenExpired => {
            pro.splice(0..0, refresh_end(case));
            (Confidence::Certain, vec![], Step::Reconnect)
        }
        Cause::RefreshTokenRejected | Cause::RotationLost => rejected(case, cause, &mut pro),
        Cause::ConsentRevoked => (certain_if(failure.is_some()), vec![], Step::Reconnect),
        Cause::ScopeMissing => scopes(case, &mut pro, &mut contra),
        Cause::AppCredentialsRejected => credentials(case, &mut pro, &mut contra),
        Cause::RedirectUriMismatch => (Confidence::Certain, vec![], Step::MendRedirectUri),
        Cause::WrongEnvironment => environment(case, &mut pro),
        Cause::RateLimited | Cause::ProviderOutage => waits(case, &mut pro, &mut contra),
        Cause::ClockDrift => {
            pro.splice(0..0, case.clock_ahead.map(|ahead| Fact::of(What::ClockAhead(ahead))));
            (Confidence::Likely, vec![], Step::MendClock)
        }
        Cause::StoreUnreachable => store(case, &mut pro),
        Cause::UnsavedToken => {
            pro.insert(0, Fact::of(What::Unsaved));
            (Confidence::Certain, vec![], Step::SaveAtOnce)
        }
        Cause::NotRenewable => not_renewable(case, &mut pro),
        Cause::Unknown => (Confidence::Possible, vec![], Step::AskSupport),
    };
    circumstances(case, cause, failure, &mut pro);
    Weighed { confidence, reasons_for: pro, reasons_against: contra, suspects, step }
}

fn well(case: &Case<'_>) -> Weighed {
    let mut pro = Vec::new();
    if case.worked_at().is_some() {
        pro.push(last_good(case));
    }
    pro.extend(access_end(case));
    Weighed {
        confidence: certain_if(!pro.is_empty()),
        reasons_for: pro,
        reasons_against: Vec::new(),
        suspects: Vec::new(),
        step: Step::Nothing,
    }
}

/// The token works, and the provider or the publisher says that publishing does not.
fn publishing_refused(case: &Case<'_>, objection: Objection) -> Weighed {
    let failures = case.history().map_or(&[][..], |history| &history.failures);
    let said = |one: &&Failure| matches!(one.source, Source::Check | Source::Publisher);
    let said = failures.iter().rev().find(said);
    let mut pro: Vec<Fact> = said.map(Fact::said).into_iter().collect();
    if case.worked_at().is_some() {
        pro.push(last_good(case));
    }
    pro.extend(access_end(case));
    Weighed {
        confidence: if said.is_some() { Confidence::Certain } else { Confidence::Likely },
        reasons_for: pro,
        reasons_against: Vec::new(),
        suspects: Vec::new(),
        step: if objection.is_owners { Step::Appeal } else { Step::MendPublishing },
    }
}

type Verdict = (Confidence, Vec<Cause>, Step);

fn access_ended(case: &Case<'_>, pro: &mut Vec<Fact>, contra: &mut Vec<Fact>) -> Verdict {
    let refused_at = case.history().and_then(|history| history.check);
    let refused = refused_at.filter(|check| check.alive == Some(false));
    pro.extend(refused.map(|check| Fact::at(What::CheckedRefused, check.at)));
    if !case.account.is_live(case.now) {
        pro.splice(0..0, access_end(case));
        return (Confidence::Certain, vec![], Step::Wait);
    }
    contra.extend(access_end(case));
    if case.is_in_set_up() {
        contra.push(Fact::of(What::NeverRefreshed));
        return (Confidence::Possible, SET_UP_SUSPECTS.to_vec(), Step::CheckSetUp);
    }
    (certain_if(refused.is_some()), vec![], Step::Wait)
}

/// "Expired or revoked" in one word, or the answer to a rotation was lost.
fn rejected(case: &Case<'_>, cause: Cause, pro: &mut Vec<Fact>) -> Verdict {
    let writing = case.history().and_then(History::last_writing);
    let others = writing.filter(|writing| {
        matches!(writing.by, Writer::Publisher | Writer::StaleCopy)
            && case.account.last_refresh_at.is_none_or(|at| writing.at > at)
    });
    if let Some(writing) = others {
        pro.push(Fact::at(What::WroteLast(writing.by), writing.at));
        return (Confidence::Likely, vec![Cause::ConsentRevoked], Step::StopPublisher);
    }
    if cause == Cause::RotationLost {
        return (Confidence::Likely, vec![Cause::ConsentRevoked], Step::Reconnect);
    }
    if case.is_in_set_up() {
        pro.push(Fact::of(What::NeverRefreshed));
        if case.app_is_unproven() {
            return (Confidence::Possible, SET_UP_SUSPECTS.to_vec(), Step::CheckSetUp);
        }
        let suspects = vec![Cause::WrongEnvironment, Cause::ScopeMissing];
        return (Confidence::Likely, suspects, Step::Reconnect);
    }
    if case.app.is_sandbox {
        pro.push(Fact::of(What::Sandbox));
        return (Confidence::Likely, vec![Cause::WrongEnvironment], Step::Reconnect);
    }
    if shares_with_all(case) {
        // Owners do not leave together.
        return (Confidence::Possible, SET_UP_SUSPECTS[..2].to_vec(), Step::CompareClient);
    }
    if case.worked_at().is_none() {
        pro.push(Fact::of(What::NeverRefreshed));
        return (Confidence::Likely, vec![Cause::WrongEnvironment], Step::Reconnect);
    }
    (Confidence::Certain, vec![], Step::Reconnect)
}

fn scopes(case: &Case<'_>, pro: &mut Vec<Fact>, contra: &mut Vec<Fact>) -> Verdict {
    let names_it = !case.missing.is_empty();
    let lost = lost_scopes(case);
    let is_said = !pro.is_empty();
    pro.splice(0..0, lost.clone());
    if names_it {
        pro.insert(0, missing_scopes(case));
    } else if case.scopes_known {
        contra.push(Fact::of(What::ScopesComplete));
    }
    if shares_with_all(case) {
        return (Confidence::Likely, vec![Cause::WrongEnvironment], Step::ApproveScopes);
    }
    let is_plain = names_it || (is_said && contra.is_empty());
    let suspects = if is_plain { vec![] } else { vec![Cause::WrongEnvironment] };
    (certain_if(is_plain), suspects, Step::ReconnectGranting)
}

fn credentials(case: &Case<'_>, pro: &mut Vec<Fact>, contra: &mut Vec<Fact>) -> Verdict {
    let refused = case.app.frozen.or(case.app.refused);
    if let Some((cause, at)) = refused.filter(|_| pro.is_empty()) {
        pro.push(Fact::at(What::AppRefused(cause), at));
    }
    let detail = |word| detail_of(case, Cause::AppCredentialsRejected) == Some(word);
    if detail("secret_unreadable") {
        pro.insert(0, Fact::of(What::SecretUnreadable));
        return (Confidence::Certain, vec![], Step::MendSecretFile);
    }
    let renewed = case.app.others_renewed_at;
    if let Some(at) = renewed.filter(|at| refused.is_none_or(|(_, refused)| *at > refused)) {
        contra.push(Fact::at(What::OthersRenewed, at));
    }
    match case.app.junk {
        Some(junk) if junk.app_is_accepted => contra.push(Fact::at(What::AppAccepted, junk.at)),
        Some(junk) => pro.push(Fact::at(What::AppRefusedJunk, junk.at)),
        None => {}
    }
    if case.app.is_sandbox {
        pro.push(Fact::of(What::Sandbox));
    }
    if !contra.is_empty() {
        let suspects = vec![Cause::WrongEnvironment, Cause::RefreshTokenRejected];
        return (Confidence::Possible, suspects, Step::CompareClient);
    }
    // A secret that never worked may be the other environment's.
    let suspects = if case.app_is_unproven() { vec![Cause::WrongEnvironment] } else { Vec::new() };
    let confidence = certain_if(suspects.is_empty());
    (confidence, suspects, Step::MendCredentials)
}

fn environment(case: &Case<'_>, pro: &mut Vec<Fact>) -> Verdict {
    if is_about_account(case) {
        pro.insert(0, Fact::of(What::AnothersToken));
        return (Confidence::Certain, vec![], Step::CompareAccount);
    }
    if detail_of(case, Cause::WrongEnvironment).is_some_and(|d| ABOUT_CLIENT.contains(&d)) {
        pro.insert(0, Fact::of(What::AnothersClient));
        return (Confidence::Certain, vec![], Step::CompareClient);
    }
    pro.push(Fact::of(if case.app.is_sandbox { What::Sandbox } else { What::Production }));
    let suspects = vec![Cause::AppCredentialsRejected, Cause::RefreshTokenRejected];
    (Confidence::Likely, suspects, Step::CompareEnvironment)
}

fn waits(case: &Case<'_>, pro: &mut Vec<Fact>, contra: &mut Vec<Fact>) -> Verdict {
    let failure = case.history().and_then(|history| history.last_failure());
    let failed_at = failure.map(|failure| failure.evidence.at);
    if case.account.in_doubt {
        pro.push(Fact::of(What::InDoubt));
    }
    let again = case.account.not_before.filter(|at| *at > case.now);
    pro.extend(again.map(|at| Fact::at(What::TriedAgain, at)));
    let others = case.app.others_renewed_at;
    let goes_on = others.filter(|at| failed_at.is_some_and(|failed| *at > failed));
    if let Some(at) = goes_on.filter(|_| case.account.cause == Some(Cause::ProviderOutage)) {
        // An outage would have met them too.
        contra.push(Fact::at(What::OthersRenewed, at));
        return (Confidence::Possible, vec![Cause::Unknown], Step::Wait);
    }
    (certain_if(!pro.is_empty()), vec![], Step::Wait)
}

fn store(case: &Case<'_>, pro: &mut Vec<Fact>) -> Verdict {
    if !case.store_up {
        pro.insert(0, Fact::of(What::Store(false)));
        return (Confidence::Certain, vec![], Step::MendStore);
    }
    pro.insert(0, Fact::of(What::State(case.state_up)));
    (certain_if(!case.state_up), vec![], Step::MendState)
}

fn not_renewable(case: &Case<'_>, pro: &mut Vec<Fact>) -> Verdict {
    let Some(token) = &case.account.token else {
        pro.insert(0, Fact::of(What::NoToken));
        let writing = case.history().and_then(History::last_writing);
        pro.extend(writing.map(|writing| Fact::at(What::WroteLast(writing.by), writing.at)));
        return (Confidence::Certain, vec![], Step::Connect);
    };
    let nothing_renews = token.renewable_by.is_none();
    if nothing_renews {
        pro.insert(0, Fact::of(What::NothingRenews));
    }
    if let Some(end) = case.account.refresh_end.filter(|_| !nothing_renews) {
        pro.insert(0, Fact::at(What::ConnectionEnds(end.from), end.at));
        let said = matches!(end.from, Provenance::Declared | Provenance::Learnt);
        pro.extend(access_end(case));
        return (certain_if(said), vec![], Step::Reconnect);
    }
    if !nothing_renews {
        pro.insert(0, Fact::of(What::TooOldToExtend));
    }
    pro.extend(access_end(case));
    // One that was never given a refresh token was not asked for one.
    let never_had = nothing_renews && case.account.last_refresh_at.is_none();
    let step = if never_had { Step::ReconnectOffline } else { Step::Reconnect };
    (Confidence::Certain, vec![], step)
}

/// What a person wants to see beside the reasons, whatever the cause.
fn circumstances(case: &Case<'_>, cause: Cause, failure: Option<&Failure>, pro: &mut Vec<Fact>) {
    let account = case.account;
    pro.extend(failure.and_then(|f| f.token_age).map(|age| Fact::of(What::TokenAge(age))));
    let differs = account.differs.access;
    pro.extend((differs != 0).then(|| Fact::of(What::StoreDiffers(differs))));
    let unauthorized = account.responses.unauthorized();
    if unauthorized > 0 {
        pro.push(Fact::of(What::Unauthorized(unauthorized)));
    }
    if case.worked_at().is_some() {
        pro.push(last_good(case));
    }
    let is_told = |pro: &[Fact]| pro.iter().any(|fact| matches!(fact.what, What::WroteLast(_)));
    if let Some(writing) = case.history().and_then(History::last_writing).filter(|_| !is_told(pro))
    {
        let ours = account.last_refresh_at.filter(|at| *at >= writing.at);
        pro.push(match ours {
            Some(at) => Fact::at(What::WeWroteLast, at),
            None => Fact::at(What::WroteLast(writing.by), writing.at),
        });
    }
    if let Some(moved) = case.history().and_then(|history| history.moved.as_ref()) {
        pro.push(Fact::at(What::MovedFrom(Arc::clone(&moved.from)), moved.at));
    }
    let off = case.clock_ahead.filter(|ahead| ahead.abs() > CLOCK_AGREES_SECONDS);
    if let Some(ahead) = off.filter(|_| cause != Cause::ClockDrift) {
        pro.push(Fact::of(What::ClockAhead(ahead)));
    }
    if case.app.accounts > 1 {
        let (sharing, accounts) = (case.app.sharing, case.app.accounts);
        pro.push(Fact::of(match sharing {
            0 | 1 => What::Alone { accounts },
            _ => What::Shared { sharing, accounts },
        }));
    }
    pro.extend(account.first_seen_at.map(|at| Fact::at(What::FirstSeen, at)));
}

/// What it is not, and why; only what a person would think of for this cause.
pub(super) fn ruled_out(
    case: &Case<'_>,
    cause: Option<Cause>,
    suspects: &[Cause],
) -> Vec<(Cause, Fact)> {
    let Some(cause) = cause else { return Vec::new() };
    let failed_at = case.history().and_then(|history| history.last_failure());
    let failed_at = failed_at.map(|failure| failure.evidence.at);
    let after = |at: &Timestamp| failed_at.is_none_or(|failed| *at >= failed);
    let token = case.account.token;
    let mut out: Vec<(Cause, Fact)> = Vec::new();
    let junk = case.app.junk.filter(|junk| junk.app_is_accepted);
    let others = case.app.others_renewed_at.filter(after);
    if let Some(junk) = junk {
        out.push((Cause::AppCredentialsRejected, Fact::at(What::AppAccepted, junk.at)));
    } else if let Some(at) = others {
        out.push((Cause::AppCredentialsRejected, Fact::at(What::OthersRenewed, at)));
    }
    if let Some(at) = others {
        out.push((Cause::ProviderOutage, Fact::at(What::OthersRenewed, at)));
    }
    if case.worked_at().is_some() {
        out.push((Cause::RedirectUriMismatch, last_good(case)));
        out.push((Cause::WrongEnvironment, last_good(case)));
    }
    if case.scopes_known && case.missing.is_empty() {
        out.push((Cause::ScopeMissing, Fact::of(What::ScopesComplete)));
    }
    let lives = token.and_then(|token| token.refresh_expires_at).filter(|end| *end > case.now);
    out.extend(lives.map(|end| (Cause::RefreshTokenExpired, Fact::at(What::RefreshLives, end))));
    let live = token.and_then(|token| token.expires_at).filter(|end| *end > case.now);
    out.extend(live.map(|end| (Cause::AccessTokenExpired, Fact::at(What::AccessLives, end))));
    if case.clock_ahead.is_some_and(|ahead| ahead.abs() <= CLOCK_AGREES_SECONDS) {
        out.push((Cause::ClockDrift, Fact::of(What::ClockAgrees)));
    }
    if case.store_up && case.state_up {
        out.push((Cause::StoreUnreachable, Fact::of(What::Store(true))));
    }
    let is_meant = |other: Cause| other == cause || suspects.contains(&other);
    // A refused access token is refused whatever its declared end says.
    out.retain(|(other, _)| !is_meant(*other) && !is_of_same_kind(cause, *other));
    out
}

/// One of them is what the other is called by somebody who knows less.
fn is_of_same_kind(cause: Cause, other: Cause) -> bool {
    cause == Cause::ClockDrift
        && matches!(other, Cause::AccessTokenExpired | Cause::RefreshTokenExpired)
}

/// The wrong account, rather than the wrong app or environment.
pub(super) fn is_about_account(case: &Case<'_>) -> bool {
    detail_of(case, Cause::WrongEnvironment).is_some_and(|detail| ABOUT_ACCOUNT.contains(&detail))
}

/// When it last worked, and how that was seen.
pub(super) fn last_good(case: &Case<'_>) -> Fact {
    let renewed = case.account.last_refresh_at;
    match case.worked_at() {
        at if at == renewed => Fact::at(What::Refreshed, at),
        at => Fact::at(What::CheckedAlive, at),
    }
}

pub(super) fn missing_scopes(case: &Case<'_>) -> Fact {
    Fact::of(What::ScopesMissing(case.missing.iter().map(|name| Arc::from(*name)).collect()))
}

/// What was granted once and is not any more.
pub(super) fn lost_scopes(case: &Case<'_>) -> Option<Fact> {
    let history = case.history()?;
    let now = history.scopes.last()?;
    let before = history.scopes.iter().rev().nth(1);
    // Before the first change nothing was missing, unless it was so from the first sight on.
    let knew = before.is_some() || case.account.first_seen_at.is_some_and(|first| first < now.at);
    let had = |name: &&Arc<str>| !before.is_some_and(|before| before.missing.contains(name));
    let lost: Vec<Arc<str>> = now.missing.iter().filter(had).cloned().collect();
    (knew && !lost.is_empty()).then(|| Fact::at(What::ScopesLost(lost), now.at))
}

/// The refresh token's own end, passed or not.
pub(super) fn refresh_end(case: &Case<'_>) -> Option<Fact> {
    let end = case.account.token?.refresh_expires_at?;
    let what = if end.has_come(case.now) { What::RefreshEnded } else { What::RefreshLives };
    Some(Fact::at(what, end))
}

fn access_end(case: &Case<'_>) -> Option<Fact> {
    let Some(end) = case.account.token?.expires_at else {
        return Some(Fact::of(What::AccessEndUnknown));
    };
    let what = if end.has_come(case.now) { What::AccessEnded } else { What::AccessLives };
    Some(Fact::at(what, end))
}

fn detail_of<'a>(case: &'a Case<'_>, cause: Cause) -> Option<&'a str> {
    case.history()?.last_of(cause)?.evidence.detail.as_deref()
}

fn shares_with_all(case: &Case<'_>) -> bool {
    case.app.accounts >= TOGETHER_FROM && case.app.sharing == case.app.accounts
}

const fn certain_if(it_is: bool) -> Confidence {
    if it_is { Confidence::Certain } else { Confidence::Likely }
}

/// An account that was connected so short a while ago may never have been set up rightly.
const SET_UP_FOR: Duration = Duration::from_secs(3 * 86_400);

/// What is wrong with an account that never worked, the likeliest first.
const SET_UP_SUSPECTS: [Cause; 4] = [
    Cause::AppCredentialsRejected,
    Cause::WrongEnvironment,
    Cause::RedirectUriMismatch,
    Cause::ScopeMissing,
];

/// Clocks within so many seconds of each other agree: a `Date` header has whole seconds, and an answer takes
/// its time.
const CLOCK_AGREES_SECONDS: i64 = crate::core::timeline::DATE_AGREES_SECONDS_MAX;

/// So many accounts with one trouble, and no account of the app without it, are no coincidence.
const TOGETHER_FROM: usize = 3;

/// Words of providers' tables, and ours, for a token of another account …
const ABOUT_ACCOUNT: [&str; 4] =
    ["another_account", "other_account", "wrong_account_token", "wrong_account_or_no_access"];

/// … and for one of another client id.
const ABOUT_CLIENT: [&str; 2] = ["token_of_other_client", "facebook_app_id_used"];
