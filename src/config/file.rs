//! The file as it is written: a mirror of the YAML, and the one place where the defaults stand.
//!
//! Nothing in here is checked beyond its type; [`super::check`] turns it into settings. There are no
//! tagged enums: a `kind` and optional keys let every mistake be named with its key and line.

use super::explain::OWN_MESSAGE;
use crate::{
    core::Secret,
    logs,
    observe::{Start, Wrapped},
    providers::{Environment, Kind, schema::OneOrMany},
    server::publisher::Place,
};
use serde::{
    Deserialize, Deserializer,
    de::{self, value::MapAccessDeserializer},
};
use std::{fmt, path::PathBuf, time::Duration};

/// The whole file.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) store: Store,
    pub(super) providers: Vec<PathBuf>,
    pub(super) apps: Vec<App>,
    pub(super) refresh: Refresh,
    pub(super) gate: Gate,
    pub(super) http: Http,
    pub(super) mail: Mail,
    pub(super) notify: Notify,
    pub(super) server: Server,
    pub(super) publisher: Publisher,
    pub(super) webhooks: Webhooks,
    pub(super) connect: Connect,
    pub(super) observe: Observe,
    pub(super) metrics: Metrics,
    pub(super) log: Log,
    pub(super) state: State,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Store {
    pub(super) kind: Option<StoreKind>,
    pub(super) path: Option<PathBuf>,
    pub(super) poll_every: Span,
    pub(super) busy_timeout: Option<Span>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) socket: Option<PathBuf>,
    pub(super) database: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_env: Option<String>,
    pub(super) tls: Option<StoreTls>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) pool_max: Option<u32>,
    pub(super) statement_timeout: Option<Span>,
    pub(super) connect_timeout: Option<Span>,
    pub(super) notify_channel: Option<String>,
    pub(super) change_column: Option<String>,
    pub(super) schema: Option<String>,
    pub(super) table: Option<String>,
    pub(super) columns: Option<Columns>,
    pub(super) redis: Option<Redis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StoreKind {
    File,
    Redis,
    Sqlite,
    Postgres,
    Mysql,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StoreTls {
    Require,
    Off,
}

/// What is absent here is absent from the table.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Columns {
    pub(super) account: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) provider_name: Option<String>,
    pub(super) access_token: Option<String>,
    pub(super) refresh_token: Option<String>,
    pub(super) expires_at: Option<TimeColumn>,
    pub(super) refresh_expires_at: Option<TimeColumn>,
    pub(super) issued_at: Option<TimeColumn>,
    pub(super) scopes: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) app: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) enabled: Option<String>,
    pub(super) status: Option<Status>,
}

/// `store.redis`, where the kind is `redis`.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Redis {
    pub(super) host: Option<String>,
    pub(super) port: u16,
    pub(super) socket: Option<PathBuf>,
    pub(super) database: u16,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_env: Option<String>,
    pub(super) tls: RedisTls,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) connect_timeout: Span,
    pub(super) command_timeout: Span,
    pub(super) notifications: bool,
    pub(super) key: Option<String>,
    pub(super) provider_name: Option<String>,
    pub(super) fields: Option<RedisFields>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RedisTls {
    Require,
    Off,
}

/// What is absent here is absent from the hashes.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RedisFields {
    pub(super) access_token: Option<String>,
    pub(super) refresh_token: Option<String>,
    pub(super) expires_at: Option<TimeColumn>,
    pub(super) refresh_expires_at: Option<TimeColumn>,
    pub(super) issued_at: Option<TimeColumn>,
    pub(super) scopes: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) app: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) enabled: Option<String>,
    pub(super) status: Option<Status>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Status {
    pub(super) name: Option<String>,
    pub(super) connected: Option<String>,
    pub(super) needs_reconnect: Option<String>,
}

/// A name alone, or a name with a unit.
#[derive(Debug, PartialEq)]
pub(super) struct TimeColumn {
    pub(super) name: String,
    pub(super) unit: TimeUnit,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TimeUnit {
    #[default]
    UnixSeconds,
    UnixMillis,
    Text,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct App {
    pub(super) name: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) client_id: Option<String>,
    /// One, or in the order in which they are tried.
    pub(super) client_secret_file: Option<OneOrMany<String>>,
    pub(super) client_secret_env: Option<OneOrMany<String>>,
    pub(super) scopes: Vec<String>,
    pub(super) environment: Environment,
    /// What it is registered as.
    pub(super) kind: Kind,
    /// Absent: where the links' listener is reached.
    pub(super) redirect_uri: Option<String>,
    /// Its consents live shorter.
    pub(super) testing: bool,
    pub(super) endpoints: Endpoints,
    /// Absent: true for an app that is its provider's only one.
    #[serde(rename = "default")]
    pub(super) is_default: Option<bool>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Endpoints {
    pub(super) token: Option<String>,
    pub(super) probe: Option<String>,
    pub(super) authorize: Option<String>,
    pub(super) exchange: Option<String>,
    pub(super) lengthen: Option<String>,
    pub(super) publish_check: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Refresh {
    pub(super) due_after: f64,
    pub(super) spread: f64,
    pub(super) danger: f64,
    pub(super) assumed_life: Span,
    pub(super) backoff_first: Span,
    pub(super) backoff_max: Span,
    pub(super) in_flight_max: u32,
    pub(super) app_refusals_max: u32,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Http {
    pub(super) total_deadline: Span,
    pub(super) connect_deadline: Span,
    pub(super) in_flight_per_app_max: u32,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) proxy: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Mail {
    pub(super) enabled: bool,
    pub(super) from: Option<Address>,
    pub(super) operator: Vec<Address>,
    pub(super) owners: Vec<Owner>,
    pub(super) external_url: Option<String>,
    pub(super) time_zone: String,
    pub(super) digest_after: Span,
    pub(super) reminders: Vec<Span>,
    pub(super) caps: Caps,
    pub(super) templates: Option<PathBuf>,
    pub(super) smtp: Smtp,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Caps {
    pub(super) owner_per_day: u32,
    pub(super) total_per_hour: u32,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Owner {
    pub(super) accounts: Option<String>,
    pub(super) to: Option<Address>,
    pub(super) time_zone: Option<String>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Notify {
    pub(super) webhooks: Vec<NotifyWebhook>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct NotifyWebhook {
    pub(super) name: Option<String>,
    pub(super) url: Option<String>,
    pub(super) url_file: Option<PathBuf>,
    pub(super) url_env: Option<String>,
    pub(super) format: WebhookFormat,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) secret_env: Option<String>,
    pub(super) audience: WebhookAudience,
    pub(super) accounts: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WebhookFormat {
    #[default]
    Json,
    Slack,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WebhookAudience {
    #[default]
    Operator,
    Owner,
}

/// A mail address. Private by type, so that no `Debug` of the file shows one.
#[derive(Debug, PartialEq)]
pub(super) struct Address(pub(super) Secret);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Smtp {
    pub(super) host: Option<String>,
    pub(super) port: u16,
    pub(super) tls: SmtpTls,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_env: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) deadline: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SmtpTls {
    StartTls,
    Implicit,
    None,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Server {
    pub(super) listen: String,
    pub(super) web_config_file: Option<PathBuf>,
    pub(super) actions: Actions,
    pub(super) enable_reload: bool,
    pub(super) connections_max: u32,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Actions {
    pub(super) enabled: bool,
    pub(super) users: Vec<User>,
    pub(super) session_idle: Span,
    pub(super) session_life: Span,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct User {
    pub(super) name: Option<String>,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) secret_env: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Publisher {
    pub(super) enabled: bool,
    pub(super) listen: String,
    pub(super) socket_mode: String,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) serve_tokens: bool,
    pub(super) clients: Vec<Client>,
    pub(super) webhooks: Vec<Hook>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Hook {
    pub(super) url: Option<String>,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) secret_env: Option<String>,
    /// Absent: all of them.
    pub(super) accounts: Option<OneOrMany<String>>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Client {
    pub(super) name: Option<String>,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) secret_env: Option<String>,
    pub(super) rights: Vec<String>,
    /// Absent: all of them.
    pub(super) accounts: Option<OneOrMany<String>>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Gate {
    pub(super) proof: super::Proof,
    pub(super) when_unknown: WhenUnknown,
    pub(super) canary_deadline: Span,
    pub(super) resume_every: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WhenUnknown {
    Open,
    Held,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Webhooks {
    pub(super) enabled: bool,
    pub(super) listen: String,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) secret_env: Option<String>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Observe {
    pub(super) logs: Vec<ObservedLog>,
    pub(super) query: ObservedErrors,
    pub(super) posts: ObservedPosts,
    pub(super) probe: ObservedProbe,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ObservedLog {
    pub(super) name: Option<String>,
    pub(super) path: Option<PathBuf>,
    pub(super) format: LogFormat,
    pub(super) pattern: Option<String>,
    #[serde(with = "WrappedWord")]
    pub(super) wrapped: Wrapped,
    pub(super) account: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) provider_name: Option<String>,
    pub(super) status: Option<String>,
    pub(super) status_code: Option<u16>,
    pub(super) body: Option<String>,
    #[serde(with = "PlaceWord")]
    pub(super) place: Place,
    pub(super) only: Option<ObservedOnly>,
    #[serde(with = "StartWord")]
    pub(super) start: Start,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    #[default]
    Json,
    Pattern,
}

/// How these are written in the file.
#[derive(Deserialize)]
#[serde(remote = "Wrapped", rename_all = "lowercase")]
enum WrappedWord {
    #[serde(rename = "none")]
    Not,
    Docker,
    Cri,
}

#[derive(Deserialize)]
#[serde(remote = "Place", rename_all = "lowercase")]
enum PlaceWord {
    Publish,
    Api,
    /// Nobody logs the status of one: a redirect has none.
    #[serde(skip)]
    Redirect,
}

#[derive(Deserialize)]
#[serde(remote = "Start", rename_all = "lowercase")]
enum StartWord {
    End,
    Beginning,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ObservedOnly {
    pub(super) at: Option<String>,
    pub(super) equals: Option<String>,
    pub(super) contains: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ObservedErrors {
    pub(super) sql: Option<String>,
    pub(super) provider_name: Option<String>,
    pub(super) first: String,
    #[serde(with = "StartWord")]
    pub(super) start: Start,
    pub(super) every: Span,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ObservedPosts {
    pub(super) sql: Option<String>,
    pub(super) provider_name: Option<String>,
    pub(super) every: Span,
    pub(super) window: Span,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ObservedProbe {
    pub(super) enabled: bool,
    pub(super) every: Span,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Connect {
    pub(super) enabled: bool,
    pub(super) listen: String,
    pub(super) external_url: Option<String>,
    pub(super) link_life: Span,
    pub(super) keys_are_subjects: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) per_account: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: logs::Level,
    pub(super) format: logs::Format,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct State {
    pub(super) kind: StateKind,
    pub(super) directory: PathBuf,
    pub(super) key_file: Option<PathBuf>,
    pub(super) spill: Option<PathBuf>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) socket: Option<PathBuf>,
    pub(super) database: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_env: Option<String>,
    pub(super) tls: Option<StateTls>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) schema: Option<String>,
    pub(super) statement_timeout: Option<Span>,
    pub(super) connect_timeout: Option<Span>,
    pub(super) lease: Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StateKind {
    Sqlite,
    Postgres,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StateTls {
    Require,
    Off,
}

/// A duration as people write it: `500ms`, `30s`, `15m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span(pub(super) Duration);

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
pub(super) const BUSY_TIMEOUT: Span = Span::seconds(5);

/// `store.table`, where the kind is not `file`.
pub(super) const TABLE: &str = "accounts";

/// `store.port` of PostgreSQL and of MySQL.
pub(super) const PORT_POSTGRES: u16 = 5432;
pub(super) const PORT_MYSQL: u16 = 3306;

/// `store.pool_max`, `store.statement_timeout` and `store.connect_timeout` of a database server.
pub(super) const POOL_MAX: u32 = 4;
pub(super) const STATEMENT_TIMEOUT: Span = Span::seconds(5);
pub(super) const CONNECT_TIMEOUT: Span = Span::seconds(5);

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

impl Default for Refresh {
    fn default() -> Self {
        Self {
            due_after: 0.66,
            spread: 0.3,
            danger: 0.15,
            assumed_life: Span::seconds(60 * 60),
            backoff_first: Span::seconds(5),
            backoff_max: Span::seconds(15 * 60),
            in_flight_max: 64,
            app_refusals_max: 3,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            total_deadline: Span::seconds(10),
            connect_deadline: Span::seconds(4),
            in_flight_per_app_max: 5,
            ca_file: None,
            proxy: None,
        }
    }
}

impl Default for Mail {
    fn default() -> Self {
        let day = |days: u64| Span::seconds(days * 24 * 60 * 60);
        Self {
            enabled: false,
            from: None,
            operator: Vec::new(),
            owners: Vec::new(),
            external_url: None,
            time_zone: "UTC".to_owned(),
            digest_after: Span::seconds(30),
            reminders: [1, 3, 7, 14].map(day).into(),
            caps: Caps::default(),
            templates: None,
            smtp: Smtp::default(),
        }
    }
}

impl Default for Caps {
    fn default() -> Self {
        Self { owner_per_day: 10, total_per_hour: 500 }
    }
}

impl Default for Smtp {
    fn default() -> Self {
        Self {
            host: None,
            port: 587,
            tls: SmtpTls::StartTls,
            username: None,
            password_file: None,
            password_env: None,
            ca_file: None,
            deadline: Span::seconds(30),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8640".to_owned(),
            web_config_file: None,
            actions: Actions::default(),
            enable_reload: false,
            connections_max: 512,
        }
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            enabled: false,
            users: Vec::new(),
            session_idle: Span::seconds(30 * 60),
            session_life: Span::seconds(12 * 60 * 60),
        }
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: "127.0.0.1:8641".to_owned(),
            socket_mode: "0660".to_owned(),
            cert_file: None,
            key_file: None,
            serve_tokens: false,
            clients: Vec::new(),
            webhooks: Vec::new(),
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            proof: super::Proof::Auto,
            when_unknown: WhenUnknown::Open,
            canary_deadline: Span::seconds(10 * 60),
            resume_every: Span::seconds(30),
        }
    }
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: "127.0.0.1:8642".to_owned(),
            secret_file: None,
            secret_env: None,
        }
    }
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: "127.0.0.1:8643".to_owned(),
            external_url: None,
            link_life: Span::seconds(24 * 60 * 60),
            keys_are_subjects: false,
        }
    }
}

impl Default for ObservedErrors {
    fn default() -> Self {
        Self {
            sql: None,
            provider_name: None,
            first: "0".to_owned(),
            start: Start::End,
            every: Span::seconds(30),
        }
    }
}

impl Default for ObservedPosts {
    fn default() -> Self {
        Self {
            sql: None,
            provider_name: None,
            every: Span::seconds(60),
            window: Span::seconds(24 * 60 * 60),
        }
    }
}

impl Default for ObservedProbe {
    fn default() -> Self {
        Self { enabled: false, every: Span::seconds(6 * 60 * 60) }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { per_account: true }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: logs::Level::Info, format: logs::Format::Auto }
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
pub(super) const STATE_PORT: u16 = 5432;
pub(super) const STATE_SCHEMA: &str = "oauth_keepalive";
pub(super) const STATE_STATEMENT_TIMEOUT: Span = Span::seconds(5);
pub(super) const STATE_CONNECT_TIMEOUT: Span = Span::seconds(5);
pub(super) const STATE_LEASE: Span = Span::seconds(30);

impl Span {
    pub(super) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One unit, the largest that divides it: `90m`, and not `1h 30m`.
        let ms = self.0.as_millis();
        let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        match units.iter().find(|(_, unit)| ms > 0 && ms.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", ms / unit),
            None => write!(f, "{ms}ms"),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let tip = if text.len() > DIGITS_MAX { "30" } else { text };
            return Err(own::<D>(&format!("a duration with its unit; write {tip}s for seconds")));
        }
        humantime::parse_duration(text).map(Self).map_err(|_| {
            own::<D>("a duration; write a number and a unit: 500ms, 30s, 15m, 1h or 7d")
        })
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

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

fn own<'de, D: Deserializer<'de>>(text: &str) -> D::Error {
    de::Error::custom(format!("{OWN_MESSAGE}{text}"))
}

const TIME_COLUMN_EXPECTED: &str =
    "a column with an instant; write its name, or {name: its_name, unit: unix_millis}";

/// Longest bare number that is repeated in a remedy.
const DIGITS_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_shown_with_one_unit() {
        let cases =
            [(0, "0ms"), (1500, "1500ms"), (4000, "4s"), (5_400_000, "90m"), (86_400_000, "1d")];
        for (ms, shown) in cases {
            assert_eq!(Span(Duration::from_millis(ms)).to_string(), shown);
        }
    }
}
