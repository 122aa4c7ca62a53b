//! The form of what a provider file says about consent: the page, the code, and where a person may come back to.

use super::{AnswerForm, OneOrMany, Ordered, RequestForm};
use serde::Deserialize;

/// How a person connects an account.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizeForm {
    /// The query of the consent page, in this order. Values may hold `{client_id}`, `{scopes}`,
    /// `{redirect_uri}`, `{state}`, `{code_challenge}` and `{code_challenge_method}`; a parameter whose
    /// placeholder has no value is left out.
    pub params: Ordered,
    /// What stands between two scopes.
    #[serde(default)]
    pub scope_separator: SeparatorWord,
    /// A scope without which nothing renews the token; it is asked for besides those of the app.
    pub scope_for_renewal: Option<String>,
    /// What an answer without scopes means.
    #[serde(default)]
    pub scopes_unsaid: UnsaidWord,
    /// Under which names the code comes back; the first that is there counts.
    #[serde(default = "usual_code")]
    pub returned_code: OneOrMany<String>,
    /// What the provider appends to the code and does not want back.
    pub strip_code_suffix: Option<String>,
    /// The request that makes a token of the code. Values may hold `{client_id}`, `{client_secret}`, `{code}`,
    /// `{redirect_uri}` and `{code_verifier}`.
    pub exchange: RequestForm,
    /// Where things stand in its good answer, where that differs from `answer`.
    pub answer: Option<AnswerForm>,
    /// The request that makes a long-lived token of that one, at `endpoints.lengthen`.
    pub lengthen: Option<RequestForm>,
    /// Apps with a server of their own; absent where there are none.
    pub web: Option<KindForm>,
    /// Apps that run on their user's machine; absent where the provider does not tell them apart.
    pub desktop: Option<KindForm>,
}

/// What depends on the kind of an app.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindForm {
    /// RFC 7636, in the provider's dialect.
    pub pkce: PkceForm,
    /// Where a person may come back to.
    #[serde(default)]
    pub redirect: RedirectForm,
}

/// Whether a code is bound to who asked for it, and how.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PkceForm {
    /// Whether it is used.
    pub need: NeedWord,
    /// How the challenge is written.
    #[serde(default)]
    pub challenge: ChallengeWord,
}

/// Whether PKCE is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeedWord {
    /// The provider refuses without.
    Required,
    /// It goes without; it is used all the same (RFC 9700 section 2.1.1).
    Optional,
    /// The provider does not know it, or nobody says in which dialect.
    None,
}

/// How a challenge is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChallengeWord {
    /// SHA-256 as base64url without padding (RFC 7636 section 4.2).
    #[default]
    Base64url,
    /// SHA-256 as hexadecimal digits, which no RFC knows.
    Hex,
}

/// What stands between two scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeparatorWord {
    /// RFC 6749 section 3.3.
    #[default]
    Space,
    /// TikTok and Meta.
    Comma,
}

/// What an answer without scopes means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnsaidWord {
    /// Everything that was asked for was granted (RFC 6749 section 5.1).
    #[default]
    AsAsked,
    /// Nobody knows.
    Unknown,
}

/// Rules for redirect URIs beyond those that hold everywhere: absolute, without fragment (RFC 6749 section
/// 3.1.2), user and wildcard, and compared character for character.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedirectForm {
    /// `https`, `http`, or both.
    pub schemes: Vec<SchemeWord>,
    /// `http` is allowed to this machine even where it is not among the schemes.
    pub loopback_http: bool,
    /// The only hosts there may be; any when empty.
    pub hosts: Vec<String>,
    /// `localhost` is taken as a name for this machine; otherwise it has to be 127.0.0.1.
    pub localhost: bool,
    /// An address in figures is allowed besides those of this machine.
    pub raw_ip: bool,
    /// A port must be there.
    pub port_required: bool,
    /// On this machine any port will do, whichever is registered (RFC 8252 section 7.3).
    pub any_loopback_port: bool,
    /// `?…` is allowed.
    pub query: bool,
    /// How it must end.
    pub ends_with: Option<String>,
    /// Longest, in characters.
    pub characters_max: usize,
}

impl Default for RedirectForm {
    fn default() -> Self {
        Self {
            schemes: vec![SchemeWord::Https],
            loopback_http: false,
            hosts: Vec::new(),
            localhost: true,
            raw_ip: true,
            port_required: false,
            any_loopback_port: false,
            query: true,
            ends_with: None,
            characters_max: CHARACTERS_MAX,
        }
    }
}

/// Schemes of a redirect URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemeWord {
    /// Encrypted.
    Https,
    /// Not.
    Http,
}

/// RFC 6749 section 4.1.2.
fn usual_code() -> OneOrMany<String> {
    OneOrMany(vec!["code".to_owned()])
}

/// Longest redirect URI where the provider states none: longer ones are refused on the way.
pub const CHARACTERS_MAX: usize = 2_048;
