//! What goes into the fleet and what comes out of it.

use crate::core::{
    AccountId, AppMemory, Event, Evidence, Fingerprint, History, Memory, Order, Shares, Timestamp,
    TokenFacts, decide::App, notices::Notice, schedule::Policy,
};
use std::sync::Arc;

/// Everything that can wake the program.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Woke,
    /// The configuration was read, at start or again.
    Configured {
        /// When and how hard to refresh.
        policy: Policy,
        /// Every app.
        apps: Vec<App>,
    },
    /// What is remembered of accounts that are about to become ours. Before [`Input::Holding`] names their
    /// shares.
    Recalled(Vec<Memory>),
    /// What happened to such accounts. Before [`Input::Holding`] as well; nothing but what people are told
    /// hangs on it.
    Recounted(Vec<(AccountId, History)>),
    /// Attempts at such accounts that were not brought to their end. Before [`Input::Holding`] as well.
    Reopened(Vec<Reopened>),
    /// What is remembered of the apps, by the last run or by another replica.
    AppsRecalled(Vec<AppMemory>),
    /// These shares and no others are ours to look after. Before that, none is. A share that somebody else
    /// may have held meanwhile must be left out once before it is named again.
    Holding {
        /// All that are ours.
        shares: Shares,
        /// When that ends unless we are told anew; `None` for never.
        until: Option<Timestamp>,
    },
    /// A pass over the store begins.
    LoadBegan,
    /// Accounts that the pass found, in any order.
    Seen(Vec<Seen>),
    /// Accounts whose rows the pass found and could not read: they are there, and what is known of them
    /// stands.
    Unreadable(Vec<AccountId>),
    /// The pass is complete: whoever was not seen is gone.
    LoadEnded {
        /// Rows that could not be read.
        damaged: usize,
    },
    /// The store could not be read or written, or could be again.
    Store {
        /// Whether it works.
        up: bool,
    },
    /// The same of our own state.
    State {
        /// Whether it works.
        up: bool,
    },
    /// A refresh, a settlement or a save came to its end.
    Finished {
        /// Whose.
        id: AccountId,
        /// How.
        result: Finished,
    },
    /// Requests to token endpoints ended, whatever they came to: one entry for each that was on the wire.
    Requested(Vec<AccountId>),
    /// The question about an app came back.
    AppAsked {
        /// Which app.
        app: Arc<str>,
        /// What was said.
        asked: Asked,
    },
    /// The free check of an access token came back.
    Probed {
        /// Whose.
        id: AccountId,
        /// What it said.
        checked: Checked,
    },
    /// The publisher had answers from the provider's API.
    Responded {
        /// For which account.
        id: AccountId,
        /// HTTP status.
        status: u16,
        /// How often.
        times: u32,
    },
    /// The publisher passed on what the provider said about an account, and it was understood. Before the
    /// [`Input::Responded`] of the same answer.
    Said {
        /// Of which account.
        id: AccountId,
        /// What it amounts to.
        evidence: Evidence,
    },
    /// The provider, or a publisher that knows more, announced it under a signature. The same may be told again.
    Announced {
        /// Of which account.
        id: AccountId,
        /// What it amounts to, and as of when.
        evidence: Evidence,
    },
    /// It is time to check an account although nobody reported anything.
    Wondered {
        /// Which account.
        id: AccountId,
    },
    /// The check whether an account could publish came back.
    Proven {
        /// Whose.
        id: AccountId,
        /// What it said.
        checked: Checked,
    },
    /// Somebody wants something of an account. The same may be told again.
    Told {
        /// Of which account.
        id: AccountId,
        /// What.
        order: Order,
        /// Its place among all that was ever told.
        position: i64,
    },
    /// An owner was on the way to connect an account, and the provider refused the app.
    ConnectRefused {
        /// Which app.
        app: Arc<str>,
        /// What was said.
        evidence: Evidence,
    },
    /// An owner connected an account: the provider takes the app as it is registered.
    ConnectWorked {
        /// Which account.
        id: AccountId,
        /// Which app.
        app: Arc<str>,
    },
    /// Somebody asked for a refresh now.
    Asked {
        /// Of which account.
        id: AccountId,
    },
    /// The secret of an app reads differently than before.
    CredentialsChanged {
        /// Which app.
        app: Arc<str>,
    },
    /// A provider's clock is ahead of ours by so many seconds, by its last answers.
    ClockOffset {
        /// Which provider.
        provider: Arc<str>,
        /// By how much.
        seconds: i64,
    },
    /// The machine's clock seems to be wrong by so many seconds: it differs from the time believed, or the
    /// providers do.
    ClockStep {
        /// By how much; zero when they agree.
        seconds: i64,
    },
    /// The program is about to end: begin no refresh, but go on saving.
    Stopping,
}

/// An account as a pass over the store found it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which account.
    pub id: AccountId,
    /// The app it belongs to; one that the configuration names.
    pub app: Arc<str>,
    /// Its token; `None` for a row without one.
    pub token: Option<TokenFacts>,
}

/// An attempt of the last run that was not brought to its end.
#[derive(Clone, Debug)]
pub struct Reopened {
    /// Whose.
    pub id: AccountId,
    /// The token that was received and not saved; `None` when nobody knows whether there is one.
    pub unsaved: Option<TokenFacts>,
    /// When the request is certainly over at the provider's side too.
    pub over_at: Timestamp,
}

/// What became of a refresh, a settlement or a save.
#[derive(Clone, Debug)]
pub enum Finished {
    /// A new token is in the store and was read back.
    Renewed(TokenFacts),
    /// The store holds a token that somebody else put there; it was left alone.
    Adopted(TokenFacts),
    /// The store held a token that was replaced before; our newest is there again. No request was sent.
    Restored(TokenFacts),
    /// The account shares a credential that was refreshed for another account, and its row holds the new token
    /// too. No request was sent.
    Shared(TokenFacts),
    /// A new token was received; the store has not taken it.
    Unsaved(TokenFacts),
    /// The refresh token is finished.
    Dead(Evidence),
    /// The store holds a refresh token of which the provider said so before: it was not asked again.
    KnownDead(Evidence),
    /// The new token is another account's: it was not stored, and the old one is spent.
    WrongAccount(Evidence),
    /// The refresh token was not spent.
    NotCommitted(Evidence),
    /// Nobody knows whether it was.
    Ambiguous {
        /// What was seen.
        evidence: Evidence,
        /// When the request is certainly over at the provider's side too.
        over_at: Timestamp,
    },
    /// No request was sent.
    Blocked(Blocked),
    /// The account is not in the store any more, or switched off there.
    Gone,
    /// The store has the account, but no token for it any more.
    NoToken,
}

/// Why no request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Another holder is at it.
    LeaseHeld,
    /// The account's row in the store cannot be read.
    RowDamaged,
    /// The store cannot be read or written.
    StoreDown,
    /// Our state cannot be written.
    StateDown,
    /// The app's secret cannot be read.
    NoCredentials,
    /// An outcome is unknown, and the provider's free check does not answer: the one probe is kept until
    /// it does.
    ProviderSilent,
}

/// What the provider said about an app.
#[derive(Clone, Debug)]
pub enum Asked {
    /// It accepts the app.
    Accepted,
    /// It refuses the app.
    Refused(Evidence),
    /// It said neither, or nothing.
    Unclear(Evidence),
    /// Nothing was asked: somebody else is at it, or our state does not answer.
    Elsewhere,
}

/// What the free check said.
#[derive(Clone, Debug)]
pub enum Checked {
    /// The access token works.
    Alive,
    /// The provider refuses it.
    Refused(Evidence),
    /// It said nothing about the token.
    Unknown,
}

/// Everything the program can do.
#[derive(Debug)]
pub enum Effect {
    /// Refresh, in the order of the design. Answered by [`Input::Finished`].
    Refresh {
        /// Which account.
        id: AccountId,
        /// The token that the decision was about.
        expected: Fingerprint,
        /// Why, for the log.
        why: &'static str,
    },
    /// Settle an unknown outcome. Answered by [`Input::Finished`].
    Settle {
        /// Which account.
        id: AccountId,
        /// The access token lives well beyond now: the one probe may be kept until the provider is known
        /// to answer.
        may_wait: bool,
    },
    /// Save the token that the journal holds, or put back the newest one. Answered by [`Input::Finished`].
    Save {
        /// Which account.
        id: AccountId,
    },
    /// Try the access token. Answered by [`Input::Probed`].
    Probe {
        /// Which account.
        id: AccountId,
    },
    /// Ask whether the account could publish. Answered by [`Input::Proven`].
    Prove {
        /// Which account.
        id: AccountId,
    },
    /// Ask the provider about an app, with a token that is nobody's. Answered by [`Input::AppAsked`].
    AskAboutApp {
        /// Which app.
        app: Arc<str>,
    },
    /// Put a notice into the outbox.
    Notify(Notice),
    /// Tell the publisher in its own status column, if it has one.
    Mark {
        /// Which account.
        id: AccountId,
        /// Whether it may publish, as far as a person has to do with it.
        connected: bool,
    },
    /// Count and log.
    Report(Event),
}
