//! The accounts, page by page, and one of them.

use super::{
    Context,
    clients::{Client, Right},
    gates::{self, Seen, View},
    path,
    problem::{Code, Problem},
};
use crate::{
    core::{Account, AccountId, Cause, Gate, Snapshot, Timestamp, Why, cause::Actor},
    server::answer::{Answer, json},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::StatusCode;
use serde::Serialize;

/// One page of the accounts that the client may see and that fit the query.
pub(super) fn list(
    context: &Context,
    client: &Client,
    query: Option<&str>,
) -> Result<Answer, Problem> {
    client.needs(Right::Read)?;
    let filter = Filter::read(query)?;
    let snapshot = context.seen();
    if !snapshot.loaded {
        return Err(Problem::unavailable("the token store has not been read yet"));
    }
    let blocks = snapshot.accounts.blocks();
    let after = filter.after.as_ref();
    let is_past = |id: &AccountId| after.is_some_and(|after| id <= after);
    // Whole blocks before the cursor are stepped over.
    let first = blocks.partition_point(|rows| rows.last().is_some_and(|row| is_past(&row.id)));
    let rows = blocks[first..].iter().flat_map(|rows| rows.iter());
    let mut page = Vec::new();
    let mut next = None;
    for (looked_at, account) in rows.filter(|account| !is_past(&account.id)).enumerate() {
        if page.len() == filter.limit || looked_at == LOOKED_AT_MAX {
            break;
        }
        next = Some(&account.id);
        let seen = gates::of_account(context, &snapshot, account);
        if client.may_see(&account.id) && filter.takes(account, &seen) {
            page.push(AccountView::of(&snapshot, account, seen));
        }
    }
    let last = blocks.last().and_then(|rows| rows.last()).map(|last| &last.id);
    let next = next.filter(|next| Some(*next) != last).map(cursor_of);
    Ok(json(StatusCode::OK, &Page { accounts: page, next }))
}

pub(super) fn one(
    context: &Context,
    id: &AccountId,
    query: Option<&str>,
) -> Result<Answer, Problem> {
    path::query(query, [])?;
    let snapshot = context.seen();
    let Some(account) = snapshot.accounts.find(id) else {
        return Err(match snapshot.loaded {
            true if snapshot.holding.contain(id) => gates::no_such_account(),
            true => Problem::new(Code::NotHeldHere, "ask the replica that looks after it"),
            false => Problem::unavailable("the token store has not been read yet"),
        });
    };
    let seen = gates::of_account(context, &snapshot, account);
    Ok(json(StatusCode::OK, &AccountView::of(&snapshot, account, seen)))
}

/// Tells two answers about a gate apart.
pub(super) fn etag_of(seen: &Seen) -> String {
    let known = if seen.known { 'k' } else { 'u' };
    let why = seen.why.map_or("none", Why::as_label);
    let since = seen.since.map_or(0, Timestamp::as_unix);
    format!("{}-{why}-{since}-{known}", seen.gate.as_label())
}

struct Filter {
    provider: Option<String>,
    app: Option<String>,
    /// `Some(None)` wants the healthy ones.
    cause: Option<Option<Cause>>,
    gate: Option<Gate>,
    limit: usize,
    after: Option<AccountId>,
}

impl Filter {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        let names = ["provider", "app", "cause", "gate", "limit", "cursor"];
        let [provider, app, cause, gate, limit, cursor] = path::query(query, names)?;
        let cause = cause.map(|word| match &*word {
            HEALTHY => Ok(None),
            word => Cause::from_label(word).map(Some).ok_or_else(|| {
                Problem::malformed("cause: expected none, or a cause of docs/metrics.md")
            }),
        });
        let gate = gate.map(|word| {
            Gate::from_label(&word)
                .ok_or_else(|| Problem::malformed("gate: expected open, held or canary"))
        });
        let limit = limit.map_or(Ok(PAGE_USUAL), |text| {
            let number = Some(&*text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let number = number.and_then(|text| text.parse().ok());
            number.filter(|limit| (1..=PAGE_MAX).contains(limit)).ok_or_else(|| {
                Problem::malformed(format!("limit: expected a number from 1 to {PAGE_MAX}"))
            })
        });
        let name = |text: Option<std::borrow::Cow<'_, str>>, key| match text {
            Some(text) if text.is_empty() || text.chars().count() > NAME_CHARS_MAX => {
                Err(Problem::malformed(format!("{key}: expected a name")))
            }
            text => Ok(text.map(std::borrow::Cow::into_owned)),
        };
        Ok(Self {
            provider: name(provider, "provider")?,
            app: name(app, "app")?,
            cause: cause.transpose()?,
            gate: gate.transpose()?,
            limit: limit?,
            after: cursor.map(|text| read_cursor(&text)).transpose()?,
        })
    }

    fn takes(&self, account: &Account, seen: &Seen) -> bool {
        let fits = |wanted: &Option<String>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == name)
        };
        fits(&self.provider, &account.id.provider)
            && fits(&self.app, &account.app)
            && self.cause.is_none_or(|cause| account.cause == cause)
            && self.gate.is_none_or(|gate| seen.gate == gate)
    }
}

/// Where to go on: after the account that was looked at last, whether or not it is still there then.
fn cursor_of(id: &AccountId) -> String {
    URL_SAFE_NO_PAD.encode(id.to_string())
}

fn read_cursor(text: &str) -> Result<AccountId, Problem> {
    let wrong = || Problem::new(Code::BadCursor, "cursor: expected the `next` of an earlier page");
    if text.len() > CURSOR_BYTES_MAX {
        return Err(wrong());
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
    let name = String::from_utf8(bytes).map_err(|_| wrong())?;
    AccountId::parse(&name).ok_or_else(wrong)
}

#[derive(Serialize)]
struct Page<'a> {
    accounts: Vec<AccountView<'a>>,
    /// The cursor of the next page. A page may be empty and have one.
    next: Option<String>,
}

#[derive(Serialize)]
struct AccountView<'a> {
    provider: &'a str,
    account: &'a str,
    app: &'a str,
    cause: Option<&'static str>,
    cause_since: Option<i64>,
    who_acts: Option<&'static str>,
    gate: View,
    token: Option<TokenView>,
    missing_scopes: Vec<&'a str>,
    last_refresh_at: Option<i64>,
    refresh_due_at: Option<i64>,
}

#[derive(Serialize)]
struct TokenView {
    issued_at: i64,
    expires_at: Option<i64>,
    refresh_expires_at: Option<i64>,
    renewable: bool,
}

impl<'a> AccountView<'a> {
    fn of(snapshot: &'a Snapshot, account: &'a Account, seen: Seen) -> Self {
        let unix = |at: Option<Timestamp>| at.map(Timestamp::as_unix);
        let who = |cause: Cause| match cause.actor() {
            Actor::Nobody => "nobody",
            Actor::Owner => "owner",
            Actor::Operator => "operator",
        };
        Self {
            provider: &account.id.provider,
            account: &account.id.account,
            app: &account.app,
            cause: account.cause.map(Cause::as_label),
            cause_since: unix(account.cause_since),
            who_acts: account.cause.map(who),
            gate: seen.view(),
            token: account.token.map(|token| TokenView {
                issued_at: token.issued_at.as_unix(),
                expires_at: unix(token.expires_at),
                refresh_expires_at: unix(token.refresh_expires_at),
                renewable: token.renewable_by.is_some(),
            }),
            missing_scopes: snapshot.missing_scopes(account).collect(),
            last_refresh_at: unix(account.last_refresh_at),
            refresh_due_at: unix(account.due_at),
        }
    }
}

/// What a filter calls an account without a cause.
const HEALTHY: &str = "none";

const PAGE_USUAL: usize = 100;

/// Most accounts in a page.
pub const PAGE_MAX: usize = 1_000;

/// Accounts that are looked at for one page; a filter that fits few of a million must not cost a second.
const LOOKED_AT_MAX: usize = 20_000;

/// The longest name of an account, in base64.
const CURSOR_BYTES_MAX: usize = 1_024;

const NAME_CHARS_MAX: usize = 256;
