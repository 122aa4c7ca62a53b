//! The series of each account: one list of families, each with the line or lines it has for an account.
//!
//! Nothing is kept for an account between two scrapes, so an account that is gone is gone from the next
//! one. What is not known has no series: zero would be an alarm, and `NaN` matches nothing.

use super::{
    negotiation::Format,
    text::{Family, write_escaped, write_integer_line},
};
use crate::core::{
    Account, Cause, Timestamp,
    second_clock::{self, Moves, Provenance},
};

/// A family and what it shows of one account.
pub struct Column {
    family: Family,
    write: fn(&mut Lines<'_>, &Account, Timestamp),
}

/// Every family with labels `provider` and `account`.
pub const COLUMNS: [Column; 15] = [
    Column {
        family: Family::gauge(
            "token_age_seconds",
            "Age of the token at this scrape, counted from when the provider issued it.",
        ),
        write: |lines, account, now| {
            let age = account.token.map(|token| now.since(token.issued_at).as_secs());
            lines.write_known(ACCESS, age.map(|age| age as i64));
        },
    },
    Column {
        family: Family::gauge(
            "token_expires_in_seconds",
            "Seconds from this scrape until the token's declared end, negative once it has passed.",
        ),
        write: |lines, account, now| {
            let Some(token) = account.token else { return };
            lines.write_known(ACCESS, token.expires_at.map(|end| end.seconds_from(now)));
            lines.write_known(REFRESH, token.refresh_expires_at.map(|end| end.seconds_from(now)));
        },
    },
    Column {
        family: Family::gauge(
            "token_expiry_timestamp_seconds",
            "The token's declared end as Unix time.",
        ),
        write: |lines, account, _| {
            let Some(token) = account.token else { return };
            lines.write_known(ACCESS, token.expires_at.map(Timestamp::as_unix));
            lines.write_known(REFRESH, token.refresh_expires_at.map(Timestamp::as_unix));
        },
    },
    Column {
        family: Family::gauge(
            "token_end_info",
            "How the token's end is known, and whether a renewal moves it.",
        ),
        write: |lines, account, _| {
            if let Some(from) = second_clock::access_end_from(account) {
                let renewed = account.token.is_some_and(|token| token.renewable_by.is_some());
                let moves = if renewed { Moves::Sliding } else { Moves::Absolute };
                lines.write_end(ACCESS_OPEN, from, moves);
            }
            if let Some(end) = account.refresh_end {
                lines.write_end(REFRESH_OPEN, end.from, end.moves);
            }
        },
    },
    Column {
        family: Family::gauge(
            "token_end_difference_seconds",
            "Seconds by which the end in the store is later than the one that the provider declared of the same token.",
        ),
        write: |lines, account, _| {
            let known = |by: i32| (by != 0).then(|| i64::from(by));
            lines.write_known(ACCESS, known(account.differs.access));
            lines.write_known(REFRESH, known(account.differs.refresh));
        },
    },
    Column {
        family: Family::gauge(
            "token_lifetime_seconds",
            "How long the token lives from issue to its declared end.",
        ),
        write: |lines, account, _| {
            let life = account.token.and_then(|token| token.life());
            lines.write_known(ACCESS, life.map(|life| life.as_secs() as i64));
        },
    },
    Column {
        family: Family::gauge(
            "refresh_due_timestamp_seconds",
            "When the next refresh is due by the token's own life, as Unix time.",
        ),
        write: |lines, account, _| {
            lines.write_known(PLAIN, account.due_at.map(Timestamp::as_unix));
        },
    },
    Column {
        family: Family::gauge(
            "last_refresh_timestamp_seconds",
            "When a refresh last put a new token into the store, as Unix time.",
        ),
        write: |lines, account, _| {
            lines.write_known(PLAIN, account.last_refresh_at.map(Timestamp::as_unix));
        },
    },
    Column {
        family: Family::counter(
            "api_responses",
            "Answers of the provider's API that the publisher had, by status code; 200 stands for every 2xx.",
        ),
        write: |lines, account, _| {
            for ((code, count), end) in account.responses.iter().zip(CODES) {
                // 401 is what people alert on, so it begins at zero; the others begin when they occur.
                if count > 0 || code == "401" {
                    lines.write(end, i64::from(count));
                }
            }
        },
    },
    Column {
        family: Family::counter(
            "refresh_attempts",
            "Requests to the token endpoint that reached the wire and ended.",
        ),
        write: |lines, account, _| lines.write(PLAIN, i64::from(account.refresh_attempts)),
    },
    Column {
        family: Family::counter(
            "refresh_failures",
            "Refreshes that brought no new token, by cause; a cause begins when it occurs.",
        ),
        write: |lines, account, _| {
            let Some(failures) = &account.refresh_failures else { return };
            for (cause, count) in Cause::ALL.into_iter().zip(failures.iter()) {
                if *count > 0 {
                    lines.write_cause(cause.as_label(), i64::from(*count));
                }
            }
        },
    },
    Column {
        family: Family::gauge(
            "cause",
            "What is wrong with the account, one series for each account; none while it is healthy.",
        ),
        write: |lines, account, _| {
            lines.write_cause(account.cause.map_or(HEALTHY, Cause::as_label), 1);
        },
    },
    Column {
        family: Family::gauge(
            "gate",
            "Whether the publisher may publish on the account, one series for each account.",
        ),
        write: |lines, account, _| lines.write(GATES[account.door.gate as usize], 1),
    },
    Column {
        family: Family::gauge(
            "missing_scopes",
            "Scopes that the app requires and the account did not grant.",
        ),
        write: |lines, account, _| {
            let missing = account.token.map(|token| token.missing_scopes.count_ones());
            lines.write_known(PLAIN, missing.map(i64::from));
        },
    },
    Column {
        family: Family::gauge("account_info", "The app through which the account is connected."),
        write: |lines, account, _| lines.write_app(&account.app),
    },
];

/// The value of the label `cause` while nothing is wrong.
pub const HEALTHY: &str = "none";

impl Column {
    /// The lines before the first account.
    pub fn write_header(&self, out: &mut Vec<u8>, format: Format) {
        self.family.write_header(out, format);
    }

    /// The lines of these accounts.
    pub fn write_rows(&self, out: &mut Vec<u8>, rows: &[Account], now: Timestamp) {
        let Some(first) = rows.first() else { return };
        let mut lines = Lines { out, head: Vec::new(), family: &self.family, account: "" };
        lines.begin_provider(&first.id.provider);
        let mut provider = &first.id.provider;
        for account in rows {
            if account.id.provider != *provider {
                provider = &account.id.provider;
                lines.begin_provider(provider);
            }
            lines.account = &account.id.account;
            (self.write)(&mut lines, account, now);
        }
    }
}

/// Writes lines of one family. Accounts come sorted, so everything up to the account's own name is made
/// once for a provider and copied from then on.
struct Lines<'a> {
    out: &'a mut Vec<u8>,
    /// `name{provider="…",account="`.
    head: Vec<u8>,
    family: &'a Family,
    account: &'a str,
}

impl Lines<'_> {
    fn begin_provider(&mut self, provider: &str) {
        self.head.clear();
        self.family.write_sample_name(&mut self.head);
        self.head.extend_from_slice(b"{provider=\"");
        write_escaped(&mut self.head, provider);
        self.head.extend_from_slice(b"\",account=\"");
    }

    /// `end` is one of this file's constants: what stands between the account's name and the value. It is
    /// copied in one go, because a line is little more than its copies.
    fn write(&mut self, end: &'static str, value: i64) {
        self.begin_line();
        self.out.extend_from_slice(end.as_bytes());
        write_integer_line(self.out, value);
    }

    fn write_known(&mut self, end: &'static str, value: Option<i64>) {
        if let Some(value) = value {
            self.write(end, value);
        }
    }

    fn write_cause(&mut self, cause: &'static str, value: i64) {
        self.begin_line();
        self.out.extend_from_slice(b"\",cause=\"");
        self.out.extend_from_slice(cause.as_bytes());
        self.end_line(value);
    }

    /// `token` is one of this file's constants.
    fn write_end(&mut self, token: &'static str, from: Provenance, moves: Moves) {
        self.begin_line();
        let parts = [token, "provenance=\"", from.as_label(), "\",moves=\"", moves.as_label()];
        parts.iter().for_each(|part| self.out.extend_from_slice(part.as_bytes()));
        self.end_line(1);
    }

    fn write_app(&mut self, app: &str) {
        self.begin_line();
        self.out.extend_from_slice(b"\",app=\"");
        write_escaped(self.out, app);
        self.end_line(1);
    }

    fn begin_line(&mut self) {
        self.out.extend_from_slice(&self.head);
        write_escaped(self.out, self.account);
    }

    fn end_line(&mut self, value: i64) {
        self.out.extend_from_slice(PLAIN.as_bytes());
        write_integer_line(self.out, value);
    }
}

const PLAIN: &str = "\"} ";
const ACCESS: &str = "\",token=\"access\"} ";
const ACCESS_OPEN: &str = "\",token=\"access\",";
const REFRESH_OPEN: &str = "\",token=\"refresh\",";
const REFRESH: &str = "\",token=\"refresh\"} ";

/// In the order of [`crate::core::Gate::ALL`].
const GATES: [&str; 3] = ["\",gate=\"open\"} ", "\",gate=\"held\"} ", "\",gate=\"canary\"} "];

/// In the order of [`crate::core::Responses::CODES`].
const CODES: [&str; 5] = [
    "\",code=\"200\"} ",
    "\",code=\"401\"} ",
    "\",code=\"403\"} ",
    "\",code=\"429\"} ",
    "\",code=\"other\"} ",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{AccountId, Fingerprint, Gate, Responses, TokenFacts};

    const NOON: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn lines_of(name: &str, account: Account) -> Vec<String> {
        let column = COLUMNS.iter().find(|column| column.family.name == name).unwrap();
        let mut out = Vec::new();
        column.write_rows(&mut out, &[account], NOON);
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    fn account() -> Account {
        Account::new(AccountId::new("tiktok", "a"), "main".into())
    }

    fn token(issued_ago: i64, ends_in: Option<i64>) -> TokenFacts {
        let at = |seconds: i64| Timestamp::from_unix(NOON.as_unix() + seconds);
        TokenFacts {
            token: Fingerprint::from_hash(1),
            renewable_by: None,
            issued_at: at(-issued_ago),
            expires_at: ends_in.map(at),
            refresh_expires_at: None,
            missing_scopes: 0,
        }
    }

    #[test]
    fn the_labels_of_codes_and_gates_are_those_of_the_core() {
        for (code, end) in Responses::CODES.into_iter().zip(CODES) {
            assert_eq!(end, format!("\",code=\"{code}\"}} "));
        }
        for (gate, end) in Gate::ALL.into_iter().zip(GATES) {
            assert_eq!(end, format!("\",gate=\"{}\"}} ", gate.as_label()));
        }
    }

    #[test]
    fn what_is_not_known_has_no_series() {
        let always = ["api_responses", "refresh_attempts", "cause", "gate", "account_info"];
        for column in &COLUMNS {
            let name = column.family.name;
            assert_eq!(!lines_of(name, account()).is_empty(), always.contains(&name), "{name}");
        }
        let endless = Account { token: Some(token(60, None)), ..account() };
        assert_eq!(lines_of("token_expires_in_seconds", endless.clone()), Vec::<String>::new());
        assert_eq!(lines_of("token_lifetime_seconds", endless.clone()), Vec::<String>::new());
        assert_eq!(
            lines_of("token_age_seconds", endless),
            [
                r#"oauth_keepalive_token_age_seconds{provider="tiktok",account="a",token="access"} 60"#
            ]
        );
    }

    #[test]
    fn a_token_that_has_ended_counts_below_zero() {
        let ended = Account { token: Some(token(100, Some(-40))), ..account() };
        assert_eq!(
            lines_of("token_expires_in_seconds", ended),
            [
                r#"oauth_keepalive_token_expires_in_seconds{provider="tiktok",account="a",token="access"} -40"#
            ]
        );
    }

    #[test]
    fn a_token_from_a_clock_ahead_of_ours_is_new_and_not_of_negative_age() {
        let early = Account { token: Some(token(-30, Some(100))), ..account() };
        assert!(lines_of("token_age_seconds", early)[0].ends_with(" 0"));
    }

    #[test]
    fn every_account_has_exactly_one_cause() {
        for cause in Cause::ALL.into_iter().map(Some).chain([None]) {
            let label = cause.map_or("none", Cause::as_label);
            assert_eq!(
                lines_of("cause", Account { cause, ..account() }),
                [format!(
                    r#"oauth_keepalive_cause{{provider="tiktok",account="a",cause="{label}"}} 1"#
                )]
            );
        }
    }

    #[test]
    fn only_401_begins_at_zero() {
        let mut responses = Responses::default();
        responses.count(429, 2);
        let lines = lines_of("api_responses", Account { responses, ..account() });
        let name = "oauth_keepalive_api_responses_total";
        assert_eq!(
            lines,
            [
                format!(r#"{name}{{provider="tiktok",account="a",code="401"}} 0"#),
                format!(r#"{name}{{provider="tiktok",account="a",code="429"}} 2"#),
            ]
        );
    }

    #[test]
    fn a_name_that_tries_to_write_a_series_of_its_own_stays_a_name() {
        let hostile = "a\"} 1\noauth_keepalive_store_up 0\n# 🎬\\";
        let account = Account::new(AccountId::new("tiktok", hostile), "main".into());
        assert_eq!(
            lines_of("refresh_attempts", account),
            [concat!(
                r#"oauth_keepalive_refresh_attempts_total{provider="tiktok","#,
                r#"account="a\"} 1\noauth_keepalive_store_up 0\n# 🎬\\"} 0"#
            )]
        );
    }

    #[test]
    fn two_providers_in_one_block_keep_their_own_names() {
        let rows = [account(), Account::new(AccountId::new("x", "b"), "other".into())];
        let mut out = Vec::new();
        let attempts = COLUMNS.iter().find(|column| column.family.name == "refresh_attempts");
        attempts.unwrap().write_rows(&mut out, &rows, NOON);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r#"{provider="tiktok",account="a"} 0"#), "{text}");
        assert!(text.contains(r#"{provider="x",account="b"} 0"#), "{text}");
    }
}
