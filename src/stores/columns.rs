//! The column map: what the columns of a publisher's table mean. The same for every kind of database.

use super::Status;

/// A column map. Every name is a plain identifier, checked by `config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The account's key: unique together with `provider`.
    pub account: String,
    /// The column with the provider's name, or the one provider of all rows.
    pub provider: ProviderColumn,
    /// The access token, plain text.
    pub access_token: String,
    /// The refresh token, plain text; `None` where the access token is all there is.
    pub refresh_token: Option<String>,
    /// When the access token ends.
    pub expires_at: Option<TimeColumn>,
    /// When the refresh token ends.
    pub refresh_expires_at: Option<TimeColumn>,
    /// When the token was issued.
    pub issued_at: Option<TimeColumn>,
    /// Granted scopes, separated by blanks or commas.
    pub scopes: Option<String>,
    /// The provider's id of the account (`open_id`).
    pub subject: Option<String>,
    /// The app's name in our configuration.
    pub app: Option<String>,
    /// The owner's mail address.
    pub owner: Option<String>,
    /// A column that is true (not 0, not empty, not null) for accounts to be kept.
    pub enabled: Option<String>,
    /// A status column and its two values.
    pub status: Option<StatusColumn>,
}

impl Columns {
    /// Our own simple table, as [`super::create`] makes it.
    #[must_use]
    pub fn simple() -> Self {
        let name = |name: &str| Some(name.to_owned());
        let seconds =
            |name: &str| Some(TimeColumn { name: name.to_owned(), unit: TimeUnit::UnixSeconds });
        Self {
            account: "account".to_owned(),
            provider: ProviderColumn::Column("provider".to_owned()),
            access_token: "access_token".to_owned(),
            refresh_token: name("refresh_token"),
            expires_at: seconds("expires_at"),
            refresh_expires_at: seconds("refresh_expires_at"),
            issued_at: seconds("issued_at"),
            scopes: name("scopes"),
            subject: name("subject"),
            app: name("app"),
            owner: name("owner"),
            enabled: name("enabled"),
            status: Some(StatusColumn {
                name: "status".to_owned(),
                connected: Status::Connected.as_text().to_owned(),
                needs_reconnect: Status::NeedsReconnect.as_text().to_owned(),
            }),
        }
    }
}

/// Where the provider's name comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderColumn {
    /// A column.
    Column(String),
    /// All rows belong to this provider.
    Fixed(String),
}

/// A column with an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeColumn {
    /// Its name.
    pub name: String,
    /// How it is written.
    pub unit: TimeUnit,
}

/// How an instant is written in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Integer seconds since the epoch.
    UnixSeconds,
    /// Integer milliseconds since the epoch.
    UnixMillis,
    /// Text such as `2026-11-22T10:00:00Z` or `2026-11-22 10:00:00`, UTC where it names no zone.
    Text,
}

/// A status column that the publisher understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusColumn {
    /// Its name.
    pub name: String,
    /// Its value for an account that works.
    pub connected: String,
    /// Its value for an account that its owner must reconnect.
    pub needs_reconnect: String,
}

/// Names that go into SQL. Values never do.
pub(super) fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Every column that `columns` name.
pub(super) fn mapped(columns: &Columns) -> Vec<&str> {
    let provider = match &columns.provider {
        ProviderColumn::Column(name) => Some(name),
        ProviderColumn::Fixed(_) => None,
    };
    let times = [&columns.expires_at, &columns.refresh_expires_at, &columns.issued_at];
    let texts = [
        &columns.refresh_token,
        &columns.scopes,
        &columns.subject,
        &columns.app,
        &columns.owner,
        &columns.enabled,
    ];
    [Some(&columns.account), Some(&columns.access_token), provider]
        .into_iter()
        .chain(texts.into_iter().map(Option::as_ref))
        .chain(times.into_iter().map(|time| time.as_ref().map(|time| &time.name)))
        .chain([columns.status.as_ref().map(|status| &status.name)])
        .flatten()
        .map(String::as_str)
        .collect()
}
