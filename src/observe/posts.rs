//! Asks the publisher's own tables which posts wait, so that people see what an account's trouble costs.
//!
//! What was last heard stays while the tables cannot be read, for a while; after that nobody claims to know.

use super::{Observer, Posts, goes_on_after};
use crate::{
    core::{self, AccountId, PostsAtRisk, Snapshot},
    metrics::observed::SourceKind,
    stores::{AnswerRow, AnyStore, Error, Question},
};
use std::{sync::Arc, time::Instant};
use tokio::sync::watch;

pub(super) async fn count(observer: Observer, posts: Posts, mut stop: watch::Receiver<bool>) {
    if !observer.knows_the_accounts(&mut stop).await {
        return;
    }
    let (mut heard_at, mut trouble) = (Instant::now(), String::new());
    loop {
        let result = look(&observer, &posts).await;
        observer.metrics.observing(SourceKind::Posts, "", result.is_ok());
        match result {
            Ok(found) => {
                trouble.clear();
                heard_at = Instant::now();
                observer.gauges.posts.store(Some(Arc::new(found)));
            }
            Err(error) => {
                let error = error.to_string();
                // The same again and again is said once.
                if error != trouble {
                    tracing::warn!(%error, "the publisher's posts that wait cannot be counted");
                    trouble = error;
                }
                if heard_at.elapsed() > posts.every * LOOKS_BEFORE_UNKNOWN {
                    observer.gauges.posts.store(None);
                }
            }
        }
        if !goes_on_after(posts.every, &mut stop).await {
            return;
        }
    }
}

async fn look(observer: &Observer, posts: &Posts) -> Result<PostsAtRisk, Error> {
    let columns = prepare(&observer.store, posts).await?;
    let until = observer.clock.now().plus(posts.window);
    let question = Question {
        sql: posts.sql.clone(),
        parameter: PARAMETER,
        value: until.as_unix().to_string(),
        columns,
        order_by: None,
        rows_max: ROWS_MAX,
    };
    let rows = observer.store.ask(question).await?;
    let snapshot = observer.snapshot.load_full();
    Ok(rows.into_iter().filter_map(|row| read(row, posts, &snapshot)).collect())
}

/// Looks which of the wanted columns there are.
pub(super) async fn prepare(store: &AnyStore, posts: &Posts) -> Result<Vec<&'static str>, Error> {
    let there = store.columns_of(&posts.sql, PARAMETER).await?;
    let damaged = |reason| Error::Damaged {
        place: "the publisher's posts that wait cannot be counted".to_owned(),
        reason,
    };
    columns_of(&there, posts).map_err(damaged)
}

/// `None` for accounts that are not ours, and for what is no number.
fn read(row: AnswerRow, posts: &Posts, snapshot: &Snapshot) -> Option<(AccountId, core::Posts)> {
    let mut row = row.into_iter();
    let (account, held, at_risk) = (row.next()??, row.next()?, row.next()?);
    let provider = posts.provider_name.clone().or_else(|| row.next()?)?;
    let account = snapshot.accounts.find(&AccountId::new(provider, account))?;
    // A sum over nothing is NULL, and a sum over something may be written as a decimal.
    let number = |text: Option<String>| {
        text.map_or(Some(0), |text| text.split('.').next()?.trim().parse().ok())
    };
    Some((account.id.clone(), core::Posts { held: number(held)?, at_risk: number(at_risk)? }))
}

/// What a question answers with of what is wanted.
///
/// # Errors
/// A sentence about what is missing.
fn columns_of(there: &[String], posts: &Posts) -> Result<Vec<&'static str>, String> {
    let mut columns = vec!["account", "held", "at_risk"];
    if posts.provider_name.is_none() {
        columns.push("provider");
    }
    let has = |name: &str| there.iter().any(|column| column == name);
    let missing: Vec<_> = columns.iter().copied().filter(|name| !has(name)).collect();
    if missing.is_empty() {
        return Ok(columns);
    }
    let (missing, there) = (missing.join(" and no column "), there.join(", "));
    Err(format!("its answer has no column {missing}; it has: {there}"))
}

/// What stands for the end of the window in a question.
const PARAMETER: &str = "until";

/// Accounts that are looked at.
const ROWS_MAX: usize = 200_000;

/// After so many looks in vain what was heard before is too old.
const LOOKS_BEFORE_UNKNOWN: u32 = 3;
