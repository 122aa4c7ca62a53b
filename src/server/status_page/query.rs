//! Which accounts a page shows, in which order, read from its query string.

use super::words::{self, percent_encoded};
use crate::{
    core::{Account, Gate},
    metrics::accounts::HEALTHY,
};
use serde::Serialize;

/// What was asked for. Text that means nothing matches nothing; a page that does not exist is the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Counted from zero here, from one in the query string.
    pub(super) page: usize,
    /// Part of `provider/account`, in any case.
    pub(super) search: String,
    /// A provider's name, or nothing for all.
    pub(super) provider: String,
    /// An app's name, or nothing for all.
    pub(super) app: String,
    /// A cause's label, who must act, [`HEALTHY`], [`IN_TROUBLE`], or nothing for all.
    pub(super) cause: String,
    /// A gate's label, [`SHUT`], or nothing for all.
    pub(super) gate: String,
    pub(super) sort: Sort,
    pub(super) refresh: Refresh,
}

/// What the accounts are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// How bad it is, then how little life is left, then the name.
    #[default]
    Worst,
    /// Provider and name.
    Name,
    /// Whose access token ends first.
    Ends,
    /// Who is renewed next.
    Due,
    /// Who was renewed longest ago.
    Renewed,
    /// Who had most 401s in the last day.
    Unauthorized,
}

/// After how many seconds the page loads itself again; zero never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Refresh(pub(super) u32);

/// The value of `cause` that stands for every cause.
pub(super) const IN_TROUBLE: &str = "any";

/// The value of `gate` that stands for every gate that is not open.
pub(super) const SHUT: &str = "shut";

impl Query {
    /// Reads `q=…&provider=…&cause=…&page=…`.
    pub(super) fn read(query: &str) -> Self {
        let mut read = Self::default();
        for (key, value) in
            query.split('&').take(PARAMETERS_MAX).filter_map(|pair| pair.split_once('='))
        {
            let value = form_decoded(value);
            match key {
                "q" => read.search = value.trim().to_owned(),
                "provider" => read.provider = value,
                "app" => read.app = value,
                "cause" => read.cause = value,
                "gate" => read.gate = value,
                "sort" => read.sort = Sort::read(&value),
                "refresh" => read.refresh = Refresh::read(&value),
                "page" => read.page = value.parse().unwrap_or(1_usize).saturating_sub(1),
                _ => {}
            }
        }
        read
    }

    /// True when not all accounts are meant.
    pub(super) fn is_filtered(&self) -> bool {
        let parts = [&self.search, &self.provider, &self.app, &self.cause, &self.gate];
        parts.into_iter().any(|part| !part.is_empty())
    }

    pub(super) fn matches(&self, account: &Account) -> bool {
        let cause_fits = match &*self.cause {
            "" => true,
            IN_TROUBLE => account.cause.is_some(),
            HEALTHY => account.cause.is_none(),
            label => account.cause.is_some_and(|cause| {
                cause.as_label() == label || words::actor(cause.actor()) == label
            }),
        };
        let gate_fits = match &*self.gate {
            "" => true,
            SHUT => account.door.gate != Gate::Open,
            label => account.door.gate.as_label() == label,
        };
        cause_fits
            && gate_fits
            && (self.provider.is_empty() || *self.provider == *account.id.provider)
            && (self.app.is_empty() || *self.app == *account.app)
            && (self.search.is_empty() || self.finds(account))
    }

    /// Where the answer to the same question is.
    pub(super) fn path(&self) -> String {
        self.path_below("/")
    }

    /// The same, of another list.
    pub(super) fn path_below(&self, path: &str) -> String {
        let page = if self.page > 0 { (self.page + 1).to_string() } else { String::new() };
        let refresh = if self.refresh == Refresh::default() {
            String::new()
        } else {
            self.refresh.0.to_string()
        };
        let parts = [
            ("q", &*self.search),
            ("provider", &*self.provider),
            ("app", &*self.app),
            ("cause", &*self.cause),
            ("gate", &*self.gate),
            ("sort", self.sort.as_label()),
            ("page", &*page),
            ("refresh", &*refresh),
        ];
        let parts = parts.iter().filter(|(_, value)| !value.is_empty());
        let pairs: Vec<String> =
            parts.map(|(key, value)| format!("{key}={}", percent_encoded(value))).collect();
        if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
    }

    pub(super) fn with_page(&self, page: usize) -> Self {
        Self { page, ..self.clone() }
    }

    pub(super) fn with_refresh(&self, seconds: u32) -> Self {
        Self { refresh: Refresh(seconds), ..self.clone() }
    }

    /// Nothing but how often the page loads itself again.
    pub(super) fn bare(&self) -> Self {
        Self { refresh: self.refresh, ..Self::default() }
    }

    /// Somebody types part of a name, or pastes `provider/account` whole.
    fn finds(&self, account: &Account) -> bool {
        contains(&account.id.account, &self.search)
            || self.search.contains('/') && contains(&account.id.to_string(), &self.search)
    }
}

impl Sort {
    /// Each with what it is called on the page.
    pub(super) const ALL: [(Self, &'static str); 6] = [
        (Self::Worst, "worst first"),
        (Self::Ends, "token ends first"),
        (Self::Due, "next to be renewed"),
        (Self::Renewed, "longest not renewed"),
        (Self::Unauthorized, "most 401s"),
        (Self::Name, "name"),
    ];

    /// The word for it; the usual one has none.
    pub(super) const fn as_label(self) -> &'static str {
        match self {
            Self::Worst => "",
            Self::Name => "name",
            Self::Ends => "ends",
            Self::Due => "due",
            Self::Renewed => "renewed",
            Self::Unauthorized => "401s",
        }
    }

    fn read(label: &str) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|(sort, _)| sort.as_label() == label).unwrap_or_default().0
    }

    pub(super) fn words(self) -> &'static str {
        Self::ALL.into_iter().find(|(sort, _)| *sort == self).unwrap_or_default().1
    }
}

impl Refresh {
    /// What the page offers.
    pub(super) const CHOICES: [u32; 3] = [10, 30, 120];

    /// Between the shortest and an hour, or never.
    fn read(value: &str) -> Self {
        match value.parse() {
            Ok(0) => Self(0),
            Ok(seconds) => Self(u32::clamp(seconds, Self::CHOICES[0], 3_600)),
            Err(_) => Self::default(),
        }
    }
}

impl Default for Refresh {
    fn default() -> Self {
        Self(Self::CHOICES[1])
    }
}

/// Upper and lower case are not told apart in ASCII; other letters are compared as they are.
fn contains(text: &str, part: &str) -> bool {
    text.len() >= part.len()
        && text
            .as_bytes()
            .windows(part.len())
            .any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

/// A form's value (`application/x-www-form-urlencoded`), cut to a length that fits every name.
fn form_decoded(text: &str) -> String {
    decoded(text, true)
}

/// A part of a path, cut likewise: a plus is a plus there (RFC 3986).
pub(super) fn path_decoded(text: &str) -> String {
    decoded(text, false)
}

fn decoded(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest
        && bytes.len() < VALUE_BYTES_MAX
    {
        rest = after;
        match (byte, hex_pair(after)) {
            (b'+', _) if plus_is_space => bytes.push(b' '),
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digits = bytes.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// As long as the longest account key.
const VALUE_BYTES_MAX: usize = 256;

const PARAMETERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{AccountId, Cause};

    #[test]
    fn a_link_leads_to_the_same_question() {
        for search in ["", "a b", "50% & more=yes", "🎬/\"<x>", "%zz%4", "a+b"] {
            let query = Query {
                page: 3,
                search: search.to_owned(),
                provider: "tiktok".into(),
                app: "a/b".into(),
                cause: "consent_revoked".into(),
                gate: "held".into(),
                sort: Sort::Unauthorized,
                refresh: Refresh(0),
            };
            let path = query.path();
            assert_eq!(Query::read(path.trim_start_matches("/?")), query, "{path}");
        }
        assert_eq!(Query::default().path(), "/");
    }

    #[test]
    fn nonsense_is_the_first_page_worst_first() {
        for query in ["", "&&&", "page=-1", "page=0", "page=x", "%", "=", "page", "sort=x&refresh="]
        {
            assert_eq!(Query::read(query), Query::default(), "{query}");
        }
    }

    #[test]
    fn how_often_the_page_loads_itself_again_has_bounds() {
        for (query, seconds) in
            [("refresh=0", 0), ("refresh=1", 10), ("refresh=99999", 3_600), ("refresh=-1", 30)]
        {
            assert_eq!(Query::read(query).refresh, Refresh(seconds), "{query}");
        }
    }

    #[test]
    fn a_value_is_no_longer_than_a_name_can_be() {
        let query = Query::read(&format!("provider={}", "x".repeat(10_000)));
        assert_eq!(query.provider.len(), VALUE_BYTES_MAX);
    }

    #[test]
    fn accounts_are_found_by_part_of_their_name_and_by_what_they_are() {
        let mut account = Account::new(AccountId::new("tiktok", "Brand-7"), "main".into());
        account.cause = Some(Cause::ConsentRevoked);
        account.door.gate = Gate::Held;
        let cases = [
            ("", true),
            ("q=brand", true),
            ("q=%20AND-7%20", true),
            ("q=tiktok/brand", true),
            ("q=tiktok", false),
            ("q=brand-8", false),
            ("provider=tiktok", true),
            ("provider=tik", false),
            ("app=main", true),
            ("app=mai", false),
            ("cause=any", true),
            ("cause=none", false),
            ("cause=consent_revoked", true),
            ("cause=unknown", false),
            ("cause=nonsense", false),
            ("cause=owner", true),
            ("cause=operator", false),
            ("gate=held", true),
            ("gate=shut", true),
            ("gate=open", false),
            ("gate=nonsense", false),
            ("provider=tiktok&cause=any&q=7&gate=held&app=main", true),
            ("provider=x&cause=any&q=7", false),
        ];
        for (query, expected) in cases {
            assert_eq!(Query::read(query).matches(&account), expected, "{query}");
        }
    }
}
