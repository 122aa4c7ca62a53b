//! `store` and `state`: where tokens are, and where what we must remember ourselves is.

use super::super::explain::OWN_MESSAGE;
use super::Span;
use serde::{
    Deserialize, Deserializer,
    de::{self, value::MapAccessDeserializer},
};
use std::{fmt, path::PathBuf};

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Store {
    pub(in crate::config) kind: Option<StoreKind>,
    pub(in crate::config) path: Option<PathBuf>,
    pub(in crate::config) poll_every: Span,
    pub(in crate::config) busy_timeout: Option<Span>,
    pub(in crate::config) host: Option<String>,
    pub(in crate::config) port: Option<u16>,
    pub(in crate::config) socket: Option<PathBuf>,
    pub(in crate::config) database: Option<String>,
    pub(in crate::config) user: Option<String>,
    pub(in crate::config) password_file: Option<PathBuf>,
    pub(in crate::config) password_env: Option<String>,
    pub(in crate::config) tls: Option<StoreTls>,
    pub(in crate::config) ca_file: Option<PathBuf>,
    pub(in crate::config) pool_max: Option<u32>,
    pub(in crate::config) statement_timeout: Option<Span>,
    pub(in crate::config) connect_timeout: Option<Span>,
    pub(in crate::config) notify_channel: Option<String>,
    pub(in crate::config) change_column: Option<String>,
    pub(in crate::config) schema: Option<String>,
    pub(in crate::config) table: Option<String>,
    pub(in crate::config) columns: Option<Columns>,
    pub(in crate::config) redis: Option<Redis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum StoreKind {
    File,
    Redis,
    Sqlite,
    Postgres,
    Mysql,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum StoreTls {
    Require,
    Off,
}

/// What is absent here is absent from the table.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Columns {
    pub(in crate::config) account: Option<String>,
    pub(in crate::config) provider: Option<String>,
    pub(in crate::config) provider_name: Option<String>,
    pub(in crate::config) access_token: Option<String>,
    pub(in crate::config) refresh_token: Option<String>,
    pub(in crate::config) expires_at: Option<TimeColumn>,
    pub(in crate::config) refresh_expires_at: Option<TimeColumn>,
    pub(in crate::config) issued_at: Option<TimeColumn>,
    pub(in crate::config) scopes: Option<String>,
    pub(in crate::config) subject: Option<String>,
    pub(in crate::config) app: Option<String>,
    pub(in crate::config) owner: Option<String>,
    pub(in crate::config) enabled: Option<String>,
    pub(in crate::config) status: Option<Status>,
}

/// `store.redis`, where the kind is `redis`.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Redis {
    pub(in crate::config) host: Option<String>,
    pub(in crate::config) port: u16,
    pub(in crate::config) socket: Option<PathBuf>,
    pub(in crate::config) database: u16,
    pub(in crate::config) username: Option<String>,
    pub(in crate::config) password_file: Option<PathBuf>,
    pub(in crate::config) password_env: Option<String>,
    pub(in crate::config) tls: RedisTls,
    pub(in crate::config) ca_file: Option<PathBuf>,
    pub(in crate::config) connect_timeout: Span,
    pub(in crate::config) command_timeout: Span,
    pub(in crate::config) notifications: bool,
    pub(in crate::config) key: Option<String>,
    pub(in crate::config) provider_name: Option<String>,
    pub(in crate::config) fields: Option<RedisFields>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RedisTls {
    Require,
    Off,
}

/// What is absent here is absent from the hashes.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RedisFields {
    pub(in crate::config) access_token: Option<String>,
    pub(in crate::config) refresh_token: Option<String>,
    pub(in crate::config) expires_at: Option<TimeColumn>,
    pub(in crate::config) refresh_expires_at: Option<TimeColumn>,
    pub(in crate::config) issued_at: Option<TimeColumn>,
    pub(in crate::config) scopes: Option<String>,
    pub(in crate::config) subject: Option<String>,
    pub(in crate::config) app: Option<String>,
    pub(in crate::config) owner: Option<String>,
    pub(in crate::config) enabled: Option<String>,
    pub(in crate::config) status: Option<Status>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Status {
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) connected: Option<String>,
    pub(in crate::config) needs_reconnect: Option<String>,
}

/// A name alone, or a name with a unit.
#[derive(Debug, PartialEq)]
pub(in crate::config) struct TimeColumn {
    pub(in crate::config) name: String,
    pub(in crate::config) unit: TimeUnit,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum TimeUnit {
    #[default]
    UnixSeconds,
    UnixMillis,
    Text,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct State {
    pub(in crate::config) kind: StateKind,
    pub(in crate::config) directory: PathBuf,
    pub(in crate::config) key_file: Option<PathBuf>,
    pub(in crate::config) spill: Option<PathBuf>,
    pub(in crate::config) host: Option<String>,
    pub(in crate::config) port: Option<u16>,
    pub(in crate::config) socket: Option<PathBuf>,
    pub(in crate::config) database: Option<String>,
    pub(in crate::config) user: Option<String>,
    pub(in crate::config) password_file: Option<PathBuf>,
    pub(in crate::config) password_env: Option<String>,
    pub(in crate::config) tls: Option<StateTls>,
    pub(in crate::config) ca_file: Option<PathBuf>,
    pub(in crate::config) schema: Option<String>,
    pub(in crate::config) statement_timeout: Option<Span>,
    pub(in crate::config) connect_timeout: Option<Span>,
    pub(in crate::config) lease: Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum StateKind {
    Sqlite,
    Postgres,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum StateTls {
    Require,
    Off,
}

// The defaults, all of them. `config.example.yaml` repeats each, and a test compares the two.

impl Default for Store {
    fn default() -> Self {
        Self {
            kind: None,
            path: None,
            poll_every: Span::seconds(10),
            busy_timeout: None,
            host: None,
            port: None,
            socket: None,
            database: None,
            user: None,
            password_file: None,
            password_env: None,
            tls: None,
            ca_file: None,
            pool_max: None,
            statement_timeout: None,
            connect_timeout: None,
            notify_channel: None,
            change_column: None,
            schema: None,
            table: None,
            columns: None,
            redis: None,
        }
    }
}

/// `store.busy_timeout`, where the kind is `sqlite`.
pub(in crate::config) const BUSY_TIMEOUT: Span = Span::seconds(5);

/// `store.table`, where the kind is not `file`.
pub(in crate::config) const TABLE: &str = "accounts";

/// `store.port` of PostgreSQL and of MySQL.
pub(in crate::config) const PORT_POSTGRES: u16 = 5432;

pub(in crate::config) const PORT_MYSQL: u16 = 3306;

/// `store.pool_max`, `store.statement_timeout` and `store.connect_timeout` of a database server.
pub(in crate::config) const POOL_MAX: u32 = 4;

pub(in crate::config) const STATEMENT_TIMEOUT: Span = Span::seconds(5);

pub(in crate::config) const CONNECT_TIMEOUT: Span = Span::seconds(5);

impl Default for Redis {
    fn default() -> Self {
        Self {
            host: None,
            port: 6379,
            socket: None,
            database: 0,
            username: None,
            password_file: None,
            password_env: None,
            tls: RedisTls::Require,
            ca_file: None,
            connect_timeout: Span::seconds(4),
            command_timeout: Span::seconds(4),
            notifications: true,
            key: None,
            provider_name: None,
            fields: None,
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            kind: StateKind::Sqlite,
            directory: PathBuf::from("./state"),
            key_file: None,
            spill: None,
            host: None,
            port: None,
            socket: None,
            database: None,
            user: None,
            password_file: None,
            password_env: None,
            tls: None,
            ca_file: None,
            schema: None,
            statement_timeout: None,
            connect_timeout: None,
            lease: None,
        }
    }
}

/// `state.port`, `schema`, `statement_timeout` and `connect_timeout`, where the kind is `postgres`.
pub(in crate::config) const STATE_PORT: u16 = 5432;

pub(in crate::config) const STATE_SCHEMA: &str = "oauth_keepalive";

pub(in crate::config) const STATE_STATEMENT_TIMEOUT: Span = Span::seconds(5);

pub(in crate::config) const STATE_CONNECT_TIMEOUT: Span = Span::seconds(5);

pub(in crate::config) const STATE_LEASE: Span = Span::seconds(30);

impl<'de> Deserialize<'de> for TimeColumn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            name: Option<String>,
            #[serde(default)]
            unit: TimeUnit,
        }

        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = TimeColumn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{OWN_MESSAGE}{TIME_COLUMN_EXPECTED}")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<TimeColumn, E> {
                Ok(TimeColumn { name: name.to_owned(), unit: TimeUnit::default() })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<TimeColumn, A::Error> {
                let long = Long::deserialize(MapAccessDeserializer::new(map))?;
                let Some(name) = long.name else {
                    return Err(de::Error::custom(format!("{OWN_MESSAGE}{TIME_COLUMN_EXPECTED}")));
                };
                Ok(TimeColumn { name, unit: long.unit })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

const TIME_COLUMN_EXPECTED: &str =
    "a column with an instant; write its name, or {name: its_name, unit: unix_millis}";
