//! What the server says of itself, and the notifications it sends. Asks; never changes a setting.

use super::{
    Settings,
    link::{self, Link, Trouble},
    news::{Counted, News},
};
use crate::stores::Error;
use redis::{PushInfo, PushKind, Value, aio::MultiplexedConnection};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{sync::Notify, task::AbortHandle, time::timeout};

/// What moves when anything is written; `None` where this user may not ask, or the server does not say.
pub(super) async fn counted(link: &Link) -> Result<Option<Counted>, Error> {
    let about = info(link).await?;
    Ok(COUNTED
        .iter()
        .map(|name| about.get(*name).cloned())
        .collect::<Option<Vec<_>>>()
        .and_then(|values| <[String; COUNTED.len()]>::try_from(values).ok().map(Counted)))
}

/// Whether it takes writes now. Changes nothing: what is deleted was never there, but the server refuses
/// it as it would refuse any write.
pub(super) async fn writable(link: &Link, nobodys_key: &str) -> Result<(), Error> {
    let about = info(link).await?;
    let is = |name: &str, value: &str| about.get(name).is_some_and(|found| found == value);
    let number = |name: &str| about.get(name).and_then(|value| value.parse::<u64>().ok());
    if is("role", "slave") {
        return Err(link.unavailable("it is a replica; name the primary, whose token counts"));
    }
    let (used, max) = (number("used_memory").unwrap_or(0), number("maxmemory").unwrap_or(0));
    if max > 0 && used >= max && is("maxmemory_policy", "noeviction") {
        return Err(link.unavailable("its memory is full and it evicts nothing; raise maxmemory"));
    }
    let mut nothing = redis::cmd("HDEL");
    nothing.arg(nobodys_key).arg("oauth-keepalive-probe");
    link.read(&nothing).await.map_err(|trouble| link.error_at(trouble, nobodys_key))
}

/// What works and is dangerous all the same.
pub(super) async fn warnings(link: &Link, settings: &Settings) -> Result<Vec<String>, Error> {
    let about = info(link).await?;
    let config = config(link).await?;
    let is = |name: &str, value: &str| about.get(name).is_some_and(|found| found == value);
    let mut warnings = Vec::new();
    if is("aof_enabled", "0") {
        let snapshots = config.get("save").is_none_or(|save| !save.trim().is_empty());
        warnings.push(if snapshots {
            "appendonly is off: a crash of the server loses every token since its last snapshot, and a \
             provider that rotates has forgotten the older ones; switch appendonly on"
                .to_owned()
        } else {
            "persistence is off (no appendonly, no save points): a restart of the server loses every \
             token; switch appendonly on"
                .to_owned()
        });
    } else if config.get("appendfsync").is_some_and(|value| value != "always") {
        warnings.push(
            "appendfsync is not always: a save is acknowledged up to a second before it is on the disk; \
             set appendfsync to always where tokens rotate"
                .to_owned(),
        );
    }
    if about.get("maxmemory_policy").is_some_and(|policy| policy.starts_with("allkeys"))
        && !is("maxmemory", "0")
    {
        warnings.push(
            "maxmemory-policy evicts any key: a full server deletes accounts; set noeviction or a \
             volatile policy"
                .to_owned(),
        );
    }
    if settings.notifications
        && config.get("notify-keyspace-events").is_some_and(|flags| !tells_of_hashes(flags))
    {
        warnings.push(
            "keyspace notifications are off in the server: changes are noticed by polling only; set \
             notify-keyspace-events to Kghxe, or notifications to false here"
                .to_owned(),
        );
    }
    Ok(warnings)
}

/// Ends listening when dropped.
pub(super) struct Listener(AbortHandle);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Listens from now on; where that does not work yet, tries again and again.
pub(super) async fn listen(link: &Arc<Link>, news: &Arc<News>, settings: &Settings) -> Listener {
    let subscription = Subscription {
        link: Arc::clone(link),
        news: Arc::clone(news),
        channel: format!("__keyspace@{}__:", settings.database),
        glob: settings.key.glob(),
        within: settings.command_timeout,
        broken: Arc::default(),
    };
    let first = subscription.begin().await;
    if let Err(error) = &first {
        tracing::warn!(%error, "no keyspace notifications, changes are noticed by polling");
    }
    Listener(tokio::spawn(subscription.keep(first.ok())).abort_handle())
}

struct Subscription {
    link: Arc<Link>,
    news: Arc<News>,
    /// What a channel's name begins with; the key follows.
    channel: String,
    glob: String,
    within: Duration,
    broken: Arc<Notify>,
}

impl Subscription {
    async fn keep(self, mut connection: Option<MultiplexedConnection>) {
        let mut pause = RESUBSCRIBE_FIRST;
        loop {
            if let Some(connection) = connection.take() {
                self.until_broken(connection).await;
                pause = RESUBSCRIBE_FIRST;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RESUBSCRIBE_MAX);
            connection = self.begin().await.ok();
            if connection.is_some() {
                // What was written meanwhile was told to nobody.
                self.news.missed();
            }
        }
    }

    async fn begin(&self) -> Result<MultiplexedConnection, Error> {
        let (news, broken) = (Arc::clone(&self.news), Arc::clone(&self.broken));
        let channel = self.channel.clone().into_bytes();
        let each = move |push: PushInfo| match push.kind {
            PushKind::PMessage => match push.data.get(1) {
                Some(Value::BulkString(name)) if name.starts_with(&channel) => {
                    news.touched(name[channel.len()..].to_vec());
                }
                _ => news.missed(),
            },
            PushKind::Disconnection => broken.notify_one(),
            _ => {}
        };
        let mut connection = self.link.subscriber(each).await?;
        let pattern = format!("{}{}", self.channel, self.glob);
        match timeout(self.within, connection.psubscribe(pattern)).await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(error)) => Err(self.link.error(Trouble::Refused(error))),
            Err(_) => Err(self.link.unavailable("no answer to a subscription")),
        }
    }

    async fn until_broken(&self, mut connection: MultiplexedConnection) {
        loop {
            tokio::select! {
                () = self.broken.notified() => return,
                () = tokio::time::sleep(PING_EVERY) => {}
            }
            // A connection whose other end vanished without a word is only noticed by talking.
            let ping = redis::cmd("PING");
            let answer = timeout(self.within, ping.exec_async(&mut connection)).await;
            if !matches!(answer, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// What `INFO` says; nothing where this user may not ask.
async fn info(link: &Link) -> Result<HashMap<String, String>, Error> {
    let info = redis::cmd("INFO");
    let text: Result<String, _> = link.read(&info).await;
    match text {
        Ok(text) => Ok(text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(name, _)| INFO_READ.contains(name) || COUNTED.contains(name))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect()),
        Err(Trouble::Refused(error)) if link::code(&error) == Some("NOPERM") => Ok(HashMap::new()),
        Err(trouble) => Err(link.error(trouble)),
    }
}

/// Some of its settings; what cannot be asked is not there. Hosted servers often refuse all of it.
async fn config(link: &Link) -> Result<HashMap<String, String>, Error> {
    let mut values = HashMap::new();
    for name in ["save", "appendfsync", "notify-keyspace-events"] {
        let mut ask = redis::cmd("CONFIG");
        ask.arg("GET").arg(name);
        match link.read::<HashMap<String, String>>(&ask).await {
            Ok(found) => values.extend(found),
            Err(Trouble::Refused(_)) => {}
            Err(trouble) => return Err(link.error(trouble)),
        }
    }
    Ok(values)
}

/// `K` for keyspace channels, and `A`, or `g` for deletions and `h` for hashes.
fn tells_of_hashes(flags: &str) -> bool {
    flags.contains('K') && (flags.contains('A') || (flags.contains('g') && flags.contains('h')))
}

const COUNTED: [&str; 4] =
    ["run_id", "rdb_changes_since_last_save", "rdb_last_save_time", "rdb_last_bgsave_time_sec"];
const INFO_READ: [&str; 5] =
    ["role", "used_memory", "maxmemory", "maxmemory_policy", "aof_enabled"];
const RESUBSCRIBE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause between two attempts to subscribe again.
const RESUBSCRIBE_MAX: Duration = Duration::from_secs(30);
const PING_EVERY: Duration = Duration::from_secs(30);
