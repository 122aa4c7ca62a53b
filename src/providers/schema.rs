//! The form of a provider file: what may be written in it, key by key.
//!
//! A file of this form ships for every provider in the catalogue, and a user may write one for a provider
//! that is not in it. Unknown keys are refused. Nothing is understood here: `check.rs` turns the
//! written form into the one that works, and finds what is contradictory.

mod authorize;
mod read;

pub use authorize::{
    AuthorizeForm, CHARACTERS_MAX, ChallengeWord, KindForm, NeedWord, PkceForm, RedirectForm,
    SchemeWord, SeparatorWord, UnsaidWord,
};

use crate::core::Cause;
use serde::{Deserialize, Deserializer, de};
use std::time::Duration;

/// What an error calls the file as a whole.
pub const WHOLE_FILE: &str = ".";

/// One provider as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderFile {
    /// Its name in configuration, labels and state: small letters, digits, underscores.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// The pages that the facts come from.
    pub docs: OneOrMany<String>,
    /// How its tokens live on.
    pub renewal: RenewalWord,
    /// A token younger than this cannot be renewed.
    #[serde(default, deserialize_with = "duration")]
    pub min_age: Duration,
    /// Lives to assume where an answer does not declare any.
    #[serde(default)]
    pub assumed_life: AssumedLife,
    /// What a renewal does to the refresh token's end.
    #[serde(default)]
    pub refresh_end: RefreshEndWord,
    /// Where its endpoints are; an app may name others.
    #[serde(default)]
    pub endpoints: EndpointUrls,
    /// The request that asks for a new token; absent only where nothing renews.
    pub refresh: Option<RequestForm>,
    /// How a person connects an account; absent where the provider has no consent page that we can use.
    pub authorize: Option<AuthorizeForm>,
    /// Where there is none: the sentence that says what to do instead.
    pub instead_of_consent: Option<String>,
    /// Where things stand in a good answer.
    #[serde(default)]
    pub answer: AnswerForm,
    /// Where things stand in a refusal.
    #[serde(default)]
    pub error: ErrorForm,
    /// The check whether an access token works.
    pub probe: Option<ProbeForm>,
    /// The check whether an account can publish, which publishes nothing; absent where there is none.
    pub publish_check: Option<ProbeForm>,
    /// The question whether the app itself is accepted; absent where it may not be asked.
    pub junk: Option<JunkForm>,
    /// The messages that it sends on its own account; absent where it sends none.
    pub webhook: Option<WebhookForm>,
    /// What refusals mean; the first row that fits counts.
    #[serde(default)]
    pub errors: Vec<ErrorRow>,
    /// A provider of the catalogue whose rows follow after these.
    pub errors_like: Option<String>,
}

/// The word for [`super::Renewal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewalWord {
    /// Each refresh retires the refresh token.
    Rotating,
    /// The refresh token stays.
    Stable,
    /// The access token itself is extended.
    ExtendInPlace,
    /// Nothing renews it.
    ReconnectOnly,
}

/// Lives that the provider's pages state.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssumedLife {
    /// Of an access token.
    #[serde(default, deserialize_with = "optional_duration")]
    pub access: Option<Duration>,
    /// Of a refresh token.
    #[serde(default, deserialize_with = "optional_duration")]
    pub refresh: Option<Duration>,
    /// Of a refresh token while the app is being tested (`apps[].testing`), from the consent on.
    #[serde(default, deserialize_with = "optional_duration")]
    pub testing: Option<Duration>,
}

/// The word for what a renewal does to the refresh token's end, where the provider's pages say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshEndWord {
    /// They do not say; it is learnt.
    #[default]
    Learnt,
    /// It was fixed when the owner consented.
    Absolute,
    /// It moves on.
    Sliding,
}

/// Absolute URLs without a query.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointUrls {
    /// The consent page.
    pub authorize: Option<String>,
    /// Where codes become tokens, and refresh tokens too unless `refresh` says otherwise.
    pub token: Option<String>,
    /// Where a short-lived token becomes a long-lived one.
    pub lengthen: Option<String>,
    /// Where refresh requests go, if elsewhere.
    pub refresh: Option<String>,
    /// Written down for people. Nothing in this program calls it.
    pub revoke: Option<String>,
    /// Where an access token is tried.
    pub probe: Option<String>,
    /// Where it is asked whether an account can publish.
    pub publish_check: Option<String>,
}

/// A request as written. Values may hold `{client_id}`, `{client_secret}`, `{refresh_token}` and
/// `{access_token}`; a parameter or header whose placeholder has no value is left out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestForm {
    /// `GET` or `POST`; `POST` when absent.
    #[serde(default)]
    pub method: MethodWord,
    /// Where the parameters travel; the body as a form when absent, the query with `GET`.
    pub send_as: Option<SendAs>,
    /// How the app names itself; among the parameters when absent.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// In the order in which they are sent.
    #[serde(default)]
    pub params: Ordered,
    /// Besides `Content-Type` and `User-Agent`.
    #[serde(default)]
    pub headers: Ordered,
}

/// The check of an access token, as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeForm {
    /// `GET` when absent.
    #[serde(default = "MethodWord::get")]
    pub method: MethodWord,
    /// Query parameters.
    #[serde(default)]
    pub query: Ordered,
    /// The access token usually travels here: `Authorization: "Bearer {access_token}"`.
    #[serde(default)]
    pub headers: Ordered,
    /// What must hold in a good answer besides a status of 2xx.
    pub success: Option<Condition>,
    /// Where the answer names the account.
    pub subject: Option<String>,
    /// False where the provider bills the call (X): it is then not used on its own account.
    #[serde(default = "yes")]
    pub free: bool,
}

/// The question whether the provider accepts the app, asked with a refresh token that is nobody's, so that
/// no real one is spent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JunkForm {
    /// Of the provider's shape, and with [`super::JUNK_MARK`] in it.
    pub refresh_token: String,
    /// What stands in the answer when only the token was refused. That the app was refused, the rows say.
    pub app_is_fine: MatchForm,
}

/// Messages that the provider sends on its own account. What they say, rows `where: webhook` know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookForm {
    /// How they are signed.
    pub signature: SignatureForm,
    /// Path of the Unix second at which it happened.
    pub at: String,
    /// Path of the provider's id of the account.
    pub subject: String,
    /// Path of the public id of the app that it is for; it is not compared when absent.
    pub client_id: Option<String>,
}

/// A header such as `t=1800000000,s=5f…`: HMAC-SHA256 with the client secret over the instant, a dot and the
/// body, in hexadecimal digits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureForm {
    /// Its name.
    pub header: String,
    /// What the instant stands behind.
    pub timestamp: String,
    /// What the digest stands behind.
    pub digest: String,
    /// How far the instant may be from our clock, either way; five minutes when absent.
    #[serde(default = "tolerance", deserialize_with = "duration")]
    pub tolerance: Duration,
}

/// HTTP methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MethodWord {
    /// Parameters in the query.
    Get,
    /// Parameters anywhere.
    #[default]
    Post,
}

/// Where parameters travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendAs {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/json`.
    Json,
    /// The query of the URL.
    Query,
}

/// How the app names itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// `{client_id}` and `{client_secret}` stand among the parameters: `client_secret_post`.
    #[default]
    Params,
    /// `Authorization: Basic` (RFC 6749 section 2.3.1); left out for an app without a secret.
    Basic,
    /// Not at all: the token speaks for itself (Instagram, Threads, Bluesky).
    None,
}

/// Keys of a good answer. Paths are dotted and start below `root`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerForm {
    /// What must hold in a good answer, for providers that refuse with a status of 200.
    pub success: Option<Condition>,
    /// Path of the object with the token, where it is not the whole answer.
    pub root: Option<String>,
    /// The new access token.
    pub access_token: String,
    /// The new refresh token.
    pub refresh_token: String,
    /// Life of the access token in seconds from now.
    pub expires_in: String,
    /// Life of the refresh token in seconds from now.
    pub refresh_expires_in: String,
    /// Granted scopes: a list, or text parted by spaces or commas.
    pub scope: String,
    /// The provider's id of the account.
    pub subject: Option<String>,
}

impl Default for AnswerForm {
    /// RFC 6749 section 5.1, and the name that most providers gave to what it left out.
    fn default() -> Self {
        Self {
            success: None,
            root: None,
            access_token: "access_token".to_owned(),
            refresh_token: "refresh_token".to_owned(),
            expires_in: "expires_in".to_owned(),
            refresh_expires_in: "refresh_token_expires_in".to_owned(),
            scope: "scope".to_owned(),
            subject: None,
        }
    }
}

/// Keys of a refusal; of several paths the first that leads to a text or a number counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorForm {
    /// The error code.
    pub code: OneOrMany<String>,
    /// A finer code.
    pub subcode: OneOrMany<String>,
    /// The id to quote to the provider's support.
    pub log_id: OneOrMany<String>,
    /// Codes that may be shown although no row tests for them. Others are not shown: a provider
    /// may put anything into its answer, the token included.
    pub known_codes: Vec<Scalar>,
}

impl Default for ErrorForm {
    /// RFC 6749 section 5.2.
    fn default() -> Self {
        Self {
            code: OneOrMany(vec!["error".to_owned()]),
            subcode: OneOrMany(Vec::new()),
            log_id: OneOrMany(Vec::new()),
            known_codes: Vec::new(),
        }
    }
}

/// A value that must stand at a path.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Dotted path.
    pub path: String,
    /// Its value.
    pub eq: Scalar,
}

/// One line of the error map.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorRow {
    /// To whose answers it applies.
    #[serde(rename = "where")]
    pub place: Where,
    /// To which statuses; all when absent.
    #[serde(default)]
    pub status: StatusSet,
    /// Only to what this was asked with; to both when absent.
    pub grant: Option<GrantWord>,
    /// Only for apps of this environment; for all when absent.
    pub environment: Option<Environment>,
    /// Only while the token is younger than this.
    #[serde(default, deserialize_with = "optional_duration")]
    pub younger_than: Option<Duration>,
    /// What must stand in the answer; anything when absent.
    #[serde(rename = "match")]
    pub matches: Option<MatchForm>,
    /// What it amounts to.
    #[serde(deserialize_with = "cause")]
    pub cause: Cause,
    /// A finer word.
    pub detail: Option<String>,
    /// Whether it concerns every account of the app; follows from the cause when absent.
    pub app_wide: Option<bool>,
    /// What became of the refresh token, where that does not follow from the cause.
    pub outcome: Option<OutcomeWord>,
}

/// To whose answers a row applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Where {
    /// Every HTTP answer.
    Any,
    /// The token endpoint's.
    Token,
    /// Those to a call with an access token, our own probe and publishing among them.
    Api,
    /// Those to our own probe alone.
    Probe,
    /// Those to calls that publish, ask whether one may, or ask how it went.
    Publish,
    /// The parameters with which the consent page sends a person back; there is no status.
    Redirect,
    /// The body of a message that the provider sends on its own account; there is no status.
    Webhook,
}

/// What the token endpoint was asked with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantWord {
    /// What renews: the refresh token, or the access token where that is extended.
    #[default]
    Refresh,
    /// The code with which a person comes back from the consent page.
    Code,
}

/// Which of a provider's worlds an app lives in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// The real one.
    #[default]
    Production,
    /// The one for trying things out, with credentials of its own.
    Sandbox,
}

/// What became of the refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeWord {
    /// It is as good as before.
    NotCommitted,
    /// It is finished.
    Dead,
    /// Nobody knows.
    Ambiguous,
}

/// What must stand in an answer: one subject (`path` or `bearer_error`) and one test.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchForm {
    /// Dotted path; `name[]` means any element of a list, `name{}` what the text holds as JSON.
    pub path: Option<String>,
    /// The `error` parameter of `WWW-Authenticate` equals this (RFC 6750 section 3.1).
    pub bearer_error: Option<String>,
    /// The value equals this; 190 and "190" are equal.
    pub eq: Option<Scalar>,
    /// The value is one of these.
    #[serde(rename = "in")]
    pub one_of: Option<Vec<Scalar>>,
    /// The text contains this, a regular expression without regard to case.
    pub re: Option<String>,
    /// The number lies between these, both included.
    pub range: Option<(i64, i64)>,
    /// The value is there, or is not.
    pub present: Option<bool>,
    /// The value is an instant in Unix seconds that has come, or has not; 0 says nothing.
    pub past: Option<bool>,
    /// The value is there and is another than what we know.
    pub differs_from: Option<KnownWord>,
    /// This must hold too.
    pub and: Option<Box<Self>>,
}

/// What a value may be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownWord {
    /// The app's public id.
    ClientId,
    /// The account's id at the provider.
    Subject,
}

/// Statuses: `any`, `4xx`, `401`, or a list of these. Empty means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusSet(pub Vec<StatusClass>);

/// One status, or a hundred of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusClass {
    /// Exactly this one.
    Exactly(u16),
    /// `5xx` is 5.
    Hundred(u16),
}

/// A text, a number or a truth value, as the text that it is compared by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scalar(pub String);

/// One value, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

/// Names with texts, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ordered(pub Vec<(String, String)>);

impl MethodWord {
    const fn get() -> Self {
        Self::Get
    }
}

const fn tolerance() -> Duration {
    Duration::from_secs(5 * 60)
}

const fn yes() -> bool {
    true
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|_| de::Error::custom("expected a duration such as `2h` or `60 days`"))
}

fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

fn cause<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cause, D::Error> {
    let label = String::deserialize(deserializer)?;
    Cause::from_label(&label).filter(|cause| !is_ours_to_find(*cause)).ok_or_else(|| {
        let labels: Vec<_> = Cause::ALL
            .into_iter()
            .filter(|cause| !is_ours_to_find(*cause))
            .map(Cause::as_label)
            .collect();
        de::Error::custom(format!("expected one of {}", labels.join(", ")))
    })
}

/// Causes that no answer of a provider can prove.
const fn is_ours_to_find(cause: Cause) -> bool {
    matches!(cause, Cause::StoreUnreachable | Cause::RotationLost | Cause::UnsavedToken)
}
