//! The tables, made once by whoever comes first.

use super::super::{seal::KeyId, writer::Refusal};
use super::session::{said, unavailable};
use tokio_postgres::{Client, Error, GenericClient};

/// Makes the schema when it is missing, and checks that it is ours.
pub(super) async fn create_or_check(
    client: &mut Client,
    schema: &str,
    key_id: KeyId,
) -> Result<(), Refusal> {
    // Made only when looking has shown that it must be: a role that may not make tables is enough later.
    if has_tables(client, schema).await.map_err(unavailable)? {
        let version = check(client, schema, key_id).await?;
        if version < SCHEMA_VERSION {
            migrate(client, schema).await?;
        }
        return Ok(());
    }
    create(client, schema, key_id).await.map_err(|error| {
        let reason = said(&error);
        Refusal::Unavailable(format!(
            "the schema cannot be made: {reason}; make it for this role with CREATE SCHEMA {schema} AUTHORIZATION …"
        ))
    })?;
    check(client, schema, key_id).await.map(drop)
}

/// Brings the tables of an older program up to date, once, whoever comes first.
async fn migrate(client: &mut Client, schema: &str) -> Result<(), Refusal> {
    let work = async {
        let transaction = client.transaction().await?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&CREATION_LOCK]).await?;
        let sql = "SELECT value FROM meta WHERE name = 'schema_version'";
        let version: i64 = transaction.query_one(sql, &[]).await?.try_get(0)?;
        for step in TABLES.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
            transaction.batch_execute(step).await?;
        }
        let sql = "UPDATE meta SET value = $1 WHERE name = 'schema_version' AND value < $1";
        transaction.execute(sql, &[&SCHEMA_VERSION]).await?;
        transaction.commit().await
    };
    work.await.map_err(|error| {
        let reason = said(&error);
        Refusal::Unavailable(format!(
            "its tables are of an older program and cannot be brought up to date: {reason}; let a role that owns the schema {schema} start this program once"
        ))
    })
}

/// Checks without making anything; false when there is nothing yet.
pub(super) async fn examine(client: &Client, schema: &str, key_id: KeyId) -> Result<bool, Refusal> {
    if !has_tables(client, schema).await.map_err(unavailable)? {
        return Ok(false);
    }
    check(client, schema, key_id).await.map(|_| true)
}

async fn has_tables(client: &impl GenericClient, schema: &str) -> Result<bool, Error> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n
                ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r')",
            &[&schema],
        )
        .await?;
    row.try_get(0)
}

async fn create(client: &mut Client, schema: &str, key_id: KeyId) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    // Two that come first at the same moment must not both make the tables.
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&CREATION_LOCK]).await?;
    if has_tables(&transaction, schema).await? {
        return transaction.commit().await;
    }
    let exists: bool = transaction
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)",
            &[&schema],
        )
        .await?
        .try_get(0)?;
    if !exists {
        // `config` lets letters, digits and underscores through, and nothing else.
        transaction.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await?;
    }
    for step in TABLES {
        transaction.batch_execute(step).await?;
    }
    transaction
        .execute(
            "INSERT INTO meta VALUES ('schema_version', $1), ('key_id', $2), ('probe', 0)",
            &[&SCHEMA_VERSION, &key_id_number(key_id)],
        )
        .await?;
    transaction.commit().await
}

/// Answers with the version of the tables.
async fn check(client: &Client, schema: &str, key_id: KeyId) -> Result<i64, Refusal> {
    let damaged = |reason: String| Err(Refusal::Damaged(reason));
    let Some(version) = meta(client, "schema_version").await? else {
        return damaged(format!(
            "the schema {schema} holds tables that are not ours; name another schema"
        ));
    };
    if version > SCHEMA_VERSION {
        return damaged(format!(
            "its schema has version {version}, this program knows up to {SCHEMA_VERSION}; run the newer program on every replica"
        ));
    }
    if meta(client, "key_id").await? != Some(key_id_number(key_id)) {
        return damaged(
            "it was sealed with another key than the key file holds now; give every replica the key that the first one had"
                .to_owned(),
        );
    }
    Ok(version)
}

/// `None` when there is no such row, or no such table.
async fn meta(client: &Client, name: &str) -> Result<Option<i64>, Refusal> {
    match client.query_opt("SELECT value FROM meta WHERE name = $1", &[&name]).await {
        Ok(row) => row.map(|row| row.try_get(0)).transpose().map_err(unavailable),
        // Refused by the server, and not lost on the way.
        Err(error) if error.code().is_some() => Ok(None),
        Err(error) => Err(unavailable(error)),
    }
}

fn key_id_number(key_id: KeyId) -> i64 {
    i64::from(u32::from_be_bytes(key_id))
}

/// Each version of the schema is one step more.
const SCHEMA_VERSION: i64 = TABLES.len() as i64;

/// Any number that nobody else is likely to lock: the first eight letters of our name.
const CREATION_LOCK: i64 = i64::from_be_bytes(*b"oauth-ke");

/// What makes each version from the one before. A step that was once released is never changed.
const TABLES: [&str; 12] = [
    FIRST_TABLES,
    NEWEST,
    SHARES,
    APPS,
    HISTORY,
    INBOX,
    SPENT,
    DOORS,
    OBSERVED,
    CONSENT,
    LETTERS,
    CANARIES,
];

/// Instants are Unix seconds of the callers' clocks, except for `expires_at`, `until` and `claimed_until`,
/// which are of the database's. Fingerprints are the bits of their hash, words the labels that metrics use
/// too.
const FIRST_TABLES: &str = r#"
CREATE TABLE meta (
    name  text PRIMARY KEY,
    value bigint NOT NULL
);

-- A row stays when its lease is given back: it says who had the account last, and only the last one may end
-- an attempt at it.
CREATE SEQUENCE epoch;
CREATE TABLE lease (
    provider   text COLLATE "C" NOT NULL,
    account    text COLLATE "C" NOT NULL,
    epoch      bigint NOT NULL,
    holder     bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (provider, account)
) WITH (fillfactor = 70);

-- sealed: room for the result from the start, the result once there is one (then result is its fingerprint).
-- Half of each page is left free: there the row with its result goes, so that it needs no new page.
CREATE TABLE journal (
    entry        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider     text COLLATE "C" NOT NULL,
    account      text COLLATE "C" NOT NULL,
    epoch        bigint NOT NULL,
    old          bigint NOT NULL,
    spending     bigint NOT NULL,
    requested_at bigint NOT NULL,
    over_at      bigint NOT NULL,
    probed       boolean NOT NULL DEFAULT false,
    orphan       boolean NOT NULL DEFAULT false,
    result       bigint,
    sealed       bytea NOT NULL
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX journal_open ON journal (provider, account) WHERE NOT orphan;
CREATE INDEX journal_orphans ON journal (provider, account) WHERE orphan;

CREATE TABLE memory (
    provider           text COLLATE "C" NOT NULL,
    account            text COLLATE "C" NOT NULL,
    token              bigint,
    renewable_by       bigint,
    issued_at          bigint,
    expires_at         bigint,
    refresh_expires_at bigint,
    missing_scopes     bigint,
    told_since         bigint,
    last_refresh_at    bigint,
    cause              text,
    cause_since        bigint,
    told               text,
    failed_in_a_row    integer NOT NULL,
    not_before         bigint,
    PRIMARY KEY (provider, account)
) WITH (fillfactor = 80);

-- Open incidents only.
CREATE TABLE incident (
    incident bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject  text NOT NULL,
    cause    text NOT NULL,
    UNIQUE (subject, cause)
);

-- One row per recipient. stage: owed, sent, given_up, withdrawn.
CREATE TABLE outbox (
    mail          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident      bigint NOT NULL,
    recipient     bigint NOT NULL,
    subject       text NOT NULL,
    resolved      boolean NOT NULL,
    stage         text NOT NULL,
    address       bytea NOT NULL,
    notice        text NOT NULL,
    attempts      bigint NOT NULL DEFAULT 0,
    in_doubt      boolean NOT NULL DEFAULT false,
    due_at        bigint NOT NULL,
    claimed_by    bytea,
    claimed_until timestamptz
);
CREATE INDEX outbox_incident ON outbox (incident);
CREATE INDEX outbox_owed ON outbox (due_at) WHERE stage = 'owed';
CREATE INDEX outbox_withdrawn ON outbox (due_at) WHERE stage = 'withdrawn';
"#;

const NEWEST: &str = r#"
-- The newest token that the store was given, sealed, and which refresh tokens were spent for it, newest first.
-- One row per account.
CREATE TABLE newest (
    provider text COLLATE "C" NOT NULL,
    account  text COLLATE "C" NOT NULL,
    spent    bigint[] NOT NULL,
    sealed   bytea NOT NULL,
    PRIMARY KEY (provider, account)
) WITH (fillfactor = 50);
"#;

const SHARES: &str = "
-- Replicas that were heard of, and what each last said of itself.
CREATE TABLE member (
    holder            bytea PRIMARY KEY,
    name              text NOT NULL,
    until             timestamptz NOT NULL,
    accounts          bigint NOT NULL,
    needing_reconnect bigint NOT NULL,
    unsaved           bigint NOT NULL,
    in_flight         bigint NOT NULL
);

-- Parts of all accounts. The epoch rises when a share gets another holder.
CREATE TABLE share (
    share  smallint PRIMARY KEY,
    holder bytea,
    epoch  bigint NOT NULL DEFAULT 0,
    until  timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);
INSERT INTO share (share) SELECT generate_series(0, 255);
";

const APPS: &str = "
-- What the provider said of each app, for every replica to know. frozen: why, where the operator was told.
CREATE TABLE app (
    name         text COLLATE \"C\" PRIMARY KEY,
    paused_until bigint,
    refusals     bigint NOT NULL,
    next_try_at  bigint,
    frozen       text,
    frozen_since bigint,
    changed_at   bigint
) WITH (fillfactor = 50);
";

const HISTORY: &str = r#"
ALTER TABLE memory ADD COLUMN first_seen_at bigint;

-- What happened to an account, as JSON without secrets. No row for one on which nothing ever did.
CREATE TABLE history (
    provider text COLLATE "C" NOT NULL,
    account  text COLLATE "C" NOT NULL,
    record   text NOT NULL,
    PRIMARY KEY (provider, account)
) WITH (fillfactor = 70);
"#;

const INBOX: &str = r#"
-- What was announced of accounts, as JSON without secrets, for every replica to hear.
CREATE TABLE inbox (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key      text COLLATE "C" NOT NULL UNIQUE,
    record   text NOT NULL,
    heard_at bigint NOT NULL
);
"#;

const SPENT: &str = r#"
-- By whom a refresh token was spent, of those in newest: another row may hold the same one.
CREATE TABLE spent (
    fingerprint bigint PRIMARY KEY,
    provider    text COLLATE "C" NOT NULL,
    account     text COLLATE "C" NOT NULL
);
CREATE INDEX spent_by ON spent (provider, account);
INSERT INTO spent (fingerprint, provider, account)
SELECT one, provider, account FROM newest, unnest(spent) AS one
ON CONFLICT DO NOTHING;

-- Two rows with one refresh token are not spent at once. Of two that are, the later one forgets which it was.
UPDATE journal j SET spending = -j.entry
WHERE NOT j.orphan AND EXISTS (
    SELECT FROM journal e WHERE NOT e.orphan AND e.spending = j.spending AND e.entry < j.entry);
CREATE UNIQUE INDEX journal_spending ON journal (spending) WHERE NOT orphan;
"#;

const DOORS: &str = "
-- The gate of the account, as JSON; empty for one that never moved.
ALTER TABLE memory ADD COLUMN door text;
";

const OBSERVED: &str = r#"
-- How far logs and tables of the publisher were read, by each replica, as JSON or as the publisher's own text.
CREATE TABLE observed (
    name     text COLLATE "C" PRIMARY KEY,
    position text NOT NULL,
    kept_at  bigint NOT NULL
) WITH (fillfactor = 50);
"#;

const CONSENT: &str = r#"
-- Links with which somebody began to connect an account. browser and nonce are hashes; stage: begun, returned, done.
CREATE TABLE consent (
    link    text COLLATE "C" PRIMARY KEY,
    browser bytea NOT NULL,
    nonce   bytea NOT NULL,
    sealed  bytea NOT NULL,
    stage   text NOT NULL,
    ends_at bigint NOT NULL
);
"#;

const LETTERS: &str = r#"
-- fired_at: from when on an incident is called to mind, if it is.
ALTER TABLE incident ADD COLUMN fired_at bigint, ADD COLUMN reminded bigint NOT NULL DEFAULT 0;
CREATE INDEX incident_reminded ON incident (reminded, fired_at);
INSERT INTO meta VALUES ('plan', 0);
ALTER TABLE outbox RENAME TO old_outbox;
ALTER INDEX outbox_pkey RENAME TO old_outbox_pkey;
ALTER SEQUENCE outbox_mail_seq RENAME TO old_outbox_mail_seq;
DROP INDEX outbox_incident, outbox_owed, outbox_withdrawn;

-- One row per recipient and change. stage: owed, sent, given_up, withdrawn. letter: the mail it is in, NULL while
-- it waits for one. thread: the mail with the beginning. held: the cap that holds it back.
CREATE TABLE outbox (
    mail       bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    incident   bigint NOT NULL,
    subject    text NOT NULL,
    cause      text NOT NULL,
    change     text NOT NULL,
    stage      text NOT NULL,
    mailbox    bytea NOT NULL,
    way        text NOT NULL,
    operator   boolean NOT NULL,
    address    bytea NOT NULL,
    sealed_for text NOT NULL,
    notice     text NOT NULL,
    made_at    bigint NOT NULL,
    letter     bigint,
    thread     bigint,
    held       text
);
CREATE INDEX outbox_incident ON outbox (incident);
CREATE INDEX outbox_made ON outbox (made_at);
CREATE INDEX outbox_waiting ON outbox (way) WHERE stage = 'owed' AND letter IS NULL;
CREATE INDEX outbox_letter ON outbox (letter);
CREATE INDEX outbox_thread ON outbox (thread) WHERE thread IS NOT NULL;
CREATE INDEX outbox_withdrawn ON outbox (made_at) WHERE stage = 'withdrawn';

-- One row per mail. stage: owed, sent, given_up. begun: an attempt was begun and nothing was heard of it; doubts:
-- attempts after which nobody knows whether it arrived.
CREATE TABLE letter (
    letter     bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    mailbox    bytea NOT NULL,
    way        text NOT NULL,
    operator   boolean NOT NULL,
    address    bytea NOT NULL,
    sealed_for text NOT NULL,
    subject    text,
    summary    text,
    stage      text NOT NULL,
    notices    bigint NOT NULL DEFAULT 0,
    attempts   bigint NOT NULL DEFAULT 0,
    begun      boolean NOT NULL DEFAULT false,
    doubts     bigint NOT NULL DEFAULT 0,
    failure    text,
    made_at    bigint NOT NULL,
    due_at     bigint NOT NULL,
    ended_at   bigint,
    claimed_by    bytea,
    claimed_until timestamptz
);
CREATE INDEX letter_owed ON letter (due_at) WHERE stage = 'owed';
CREATE INDEX letter_made ON letter (made_at);

-- Nobody knows whose mail each of the old ones is, so each has a mailbox of its own.
INSERT INTO letter (letter, mailbox, way, operator, address, sealed_for, stage, notices, attempts, doubts,
                    made_at, due_at)
SELECT mail, decode(md5(random()::text || mail::text), 'hex'), 'mail', false, address, subject,
       CASE WHEN stage = 'withdrawn' THEN 'owed' ELSE stage END, 1, attempts, in_doubt::int, due_at, due_at
FROM old_outbox;
INSERT INTO outbox (mail, incident, subject, cause, change, stage, mailbox, way, operator, address,
                    sealed_for, notice, made_at, letter)
SELECT o.mail, o.incident, o.subject, o.notice::json ->> 'cause',
       CASE WHEN o.resolved THEN 'resolved' ELSE 'firing' END, o.stage, l.mailbox, 'mail', false,
       o.address, o.subject, o.notice, o.due_at, o.mail
FROM old_outbox o JOIN letter l ON l.letter = o.mail;
SELECT setval(pg_get_serial_sequence('letter', 'letter'), coalesce(max(letter), 0) + 1) FROM letter;
SELECT setval(pg_get_serial_sequence('outbox', 'mail'), coalesce(max(mail), 0) + 1) FROM outbox;
DROP TABLE old_outbox;
"#;

const CANARIES: &str = r#"
-- Which post may prove which account. post: NULL when it was reported.
CREATE TABLE canary (
    provider   text COLLATE "C" NOT NULL,
    account    text COLLATE "C" NOT NULL,
    post       text,
    claimed_at bigint NOT NULL,
    until      bigint NOT NULL,
    PRIMARY KEY (provider, account)
);
"#;
