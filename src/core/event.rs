//! Everything worth telling, in one closed list.
//!
//! One `match` in `metrics::events` turns an event into its counter and one in `report` into its log line,
//! so that the two cannot drift apart and adding an event forces both decisions.

use super::{AccountId, Cause, Evidence, Gate, Revoker, Timestamp, gate::Why, notices::Notice};
use std::{sync::Arc, time::Duration};

/// What a request that the provider never saw came to.
pub const NOT_SENT: &str = "not_sent";

/// Something that happened. No variant can hold a token or a mail address.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields say what they are; each variant says when")]
pub enum Event {
    /// The store was read from end to end.
    StoreRead { accounts: usize, gone: usize, damaged: usize },
    /// One row of the store could not be read; the place is free of stored values.
    StoreRowDamaged { place: String },
    /// The store, or our state, stopped or started to work.
    StoreUp { up: bool },
    /// The same for our own state.
    StateUp { up: bool },
    /// A refresh request is about to be sent.
    RefreshStarted { id: AccountId, why: &'static str },
    /// A request to a token endpoint came to one of the four outcomes: `committed`, `not_committed`,
    /// `dead`, `ambiguous`. One event for each request on the wire, so that our count equals the
    /// provider's; one that never left this machine is not committed either, and counted as
    /// [`NOT_SENT`].
    RequestEnded { id: AccountId, outcome: &'static str, took: Duration },
    /// A new token is in the store.
    Refreshed { id: AccountId, expires_at: Option<Timestamp> },
    /// The store holds a token that somebody else put there; it is taken as it is.
    Adopted { id: AccountId },
    /// The store holds the token of a consent that was given on our own page.
    Reconnected { id: AccountId },
    /// The account shares a credential that was refreshed for another one, and has the new token too.
    Shared { id: AccountId },
    /// Somebody had written a token back that was replaced long ago; the newest is in the store again.
    Restored { id: AccountId },
    /// It happened again and again: somebody writes from a copy that they never read anew.
    WrittenBack { id: AccountId, times: u8 },
    /// A refresh brought no new token.
    RefreshFailed { id: AccountId, evidence: Arc<Evidence>, retry_at: Option<Timestamp> },
    /// A new token was received and the store has not taken it.
    Unsaved { id: AccountId },
    /// What is wrong with an account changed; `None` is healthy.
    CauseChanged { id: AccountId, from: Option<Cause>, to: Option<Cause> },
    /// The gate of an account moved; `why` it is, or was last, held.
    GateMoved { id: AccountId, from: Gate, to: Gate, why: Option<Why>, at: Timestamp },
    /// The provider was asked whether an account could publish: `passed`, `refused` or `unclear`.
    PublishChecked { id: AccountId, result: &'static str },
    /// Accounts of an app are not refreshed any more, because the provider refuses the app.
    AppFrozen { app: Arc<str>, cause: Cause },
    /// They are again.
    AppThawed { app: Arc<str> },
    /// The provider was asked about an app with a refresh token that is nobody's: `accepted`, `refused`,
    /// `unclear`, or [`NOT_SENT`]. `secret` is the position of the client secret, from one.
    AppAsked { app: Arc<str>, provider: Arc<str>, answer: &'static str, secret: u16 },
    /// Another client secret of an app is used from now on: its position, from one.
    CredentialsInUse { app: Arc<str>, secret: u16 },
    /// The provider asked for no request of an app's before an instant.
    AppPaused { app: Arc<str>, until: Timestamp },
    /// The publisher reported answers from the provider's API.
    ResponsesReported { id: AccountId, status: u16, times: u32 },
    /// An access token was tried at the provider's free check: `alive`, `refused` or `unknown`.
    Probed { id: AccountId, result: &'static str },
    /// It was announced that the consent for an account was taken back, by whom, and what came of it: `revoked`,
    /// `asked` when the provider is asked first, `waits` for what is under way, `overtaken` by a newer token.
    Announced { id: AccountId, by: Revoker, result: &'static str },
    /// Something is told to somebody; it is in the outbox.
    NoticeOwed { notice: Arc<Notice> },
    /// A mail was accepted by the server.
    MailSent { audience: super::notices::Audience, change: super::notices::Change },
    /// A cap holds notices back; they are in the next mail to the same person.
    NoticesHeld { cap: super::digest::Cap, notices: usize },
    /// A mail was not accepted; `permanent` when it is not tried again.
    MailFailed { permanent: bool, reason: String },
    /// A webhook took a notice.
    WebhookSent,
    /// A webhook did not; `permanent` when it is not tried again.
    WebhookFailed { permanent: bool, reason: String },
    /// The configuration was read again.
    Reloaded { successful: bool, at: Timestamp, reason: Option<String> },
    /// The wall clock stepped by so many seconds and nobody confirmed it.
    ClockStepped { seconds: i64 },
}
