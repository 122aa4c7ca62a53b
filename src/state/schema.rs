//! SQLite: the tables, and how a connection to them is opened.
//!
//! Only what a PostgreSQL schema can say as well: the same tables lie there.

use super::{
    directory,
    seal::KeyId,
    writer::{RESTORE, Refusal},
};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use std::{path::Path, time::Duration};

/// Opens the database, makes the tables when it is new, and checks that it is ours.
pub(super) fn open(path: &Path, key_id: KeyId) -> Result<Connection, Refusal> {
    if !path.exists() {
        // Made here and not by SQLite: the files beside it inherit its mode.
        let made =
            directory::private_file(path).and_then(|_| directory::sync(directory::parent(path)));
        made.map_err(|error| Refusal::Unavailable(format!("cannot make the file: {error}")))?;
    }
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let reason = "this file system has no shared memory; put state on a local disk";
        return Err(Refusal::Unavailable(reason.to_owned()));
    }
    // Durable before it is answered, on power loss too: a rotated token exists nowhere else.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    create_or_check(&mut connection, key_id)?;
    Ok(connection)
}

/// An empty database that nobody else sees and nothing outlives.
pub(super) fn in_memory(key_id: KeyId) -> Result<Connection, Refusal> {
    let mut connection = Connection::open_in_memory()?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    create_or_check(&mut connection, key_id)?;
    Ok(connection)
}

fn create_or_check(connection: &mut Connection, key_id: KeyId) -> Result<(), Refusal> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.execute(
            "INSERT INTO meta VALUES ('schema_version', ?1), ('key_id', ?2), ('probe', 0), ('plan', 0)",
            (SCHEMA_VERSION, key_id_number(key_id)),
        )?;
        return Ok(transaction.commit()?);
    }
    let version = check(&transaction, key_id)?;
    if version < SCHEMA_VERSION {
        for step in MIGRATIONS.iter().skip(usize::try_from(version - 1).unwrap_or_default()) {
            transaction.execute_batch(step)?;
        }
        transaction.execute(
            "UPDATE meta SET value = ?1 WHERE name = 'schema_version'",
            [SCHEMA_VERSION],
        )?;
        transaction.commit()?;
    }
    Ok(())
}

/// Answers the version that was found.
fn check(connection: &Connection, key_id: KeyId) -> Result<i64, Refusal> {
    let damaged = |reason: String| Err(Refusal::Damaged(reason));
    let Some(version) = meta(connection, "schema_version") else {
        return damaged(format!("this is not our state; name another directory, or {RESTORE}"));
    };
    if version > SCHEMA_VERSION {
        return damaged(format!(
            "its schema has version {version}, this program knows up to {SCHEMA_VERSION}; run the newer program, or {RESTORE}"
        ));
    }
    if meta(connection, "key_id") != Some(key_id_number(key_id)) {
        return damaged(format!(
            "it was sealed with another key than the key file holds now; bring that key back, or {RESTORE}"
        ));
    }
    Ok(version)
}

/// `None` when there is no such row, or no such table.
fn meta(connection: &Connection, name: &str) -> Option<i64> {
    connection
        .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
        .optional()
        .ok()
        .flatten()
}

fn key_id_number(key_id: KeyId) -> i64 {
    i64::from(u32::from_be_bytes(key_id))
}

/// Rises with every change of [`TABLES`].
const SCHEMA_VERSION: i64 = 12;

/// From each version to the next, beginning with 1.
const MIGRATIONS: [&str; 11] = [
    "
ALTER TABLE journal ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN claimed_by BLOB;
ALTER TABLE outbox ADD COLUMN claimed_until INTEGER;
",
    "
CREATE TABLE newest (
    provider TEXT NOT NULL,
    account  TEXT NOT NULL,
    spent    BLOB NOT NULL,
    sealed   BLOB NOT NULL,
    PRIMARY KEY (provider, account)
) STRICT;
",
    "
CREATE TABLE app (
    name         TEXT PRIMARY KEY,
    paused_until INTEGER,
    refusals     INTEGER NOT NULL,
    next_try_at  INTEGER,
    frozen       TEXT,
    frozen_since INTEGER,
    changed_at   INTEGER
) STRICT, WITHOUT ROWID;
",
    "
ALTER TABLE memory ADD COLUMN first_seen_at INTEGER;
CREATE TABLE history (
    provider TEXT NOT NULL,
    account  TEXT NOT NULL,
    record   TEXT NOT NULL,
    PRIMARY KEY (provider, account)
) STRICT;
",
    "
CREATE TABLE inbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    key      TEXT NOT NULL UNIQUE,
    record   TEXT NOT NULL,
    heard_at INTEGER NOT NULL
) STRICT;
",
    "
CREATE INDEX journal_spending ON journal (spending) WHERE orphan = 0;
CREATE TABLE spent (
    fingerprint INTEGER PRIMARY KEY,
    provider    TEXT NOT NULL,
    account     TEXT NOT NULL
) STRICT;
",
    "
ALTER TABLE memory ADD COLUMN door TEXT;
",
    "
CREATE TABLE observed (
    name     TEXT PRIMARY KEY,
    position TEXT NOT NULL,
    kept_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE consent (
    link    TEXT PRIMARY KEY,
    browser BLOB NOT NULL,
    nonce   BLOB NOT NULL,
    sealed  BLOB NOT NULL,
    stage   TEXT NOT NULL,
    ends_at INTEGER NOT NULL
) STRICT;
",
    "
ALTER TABLE incident ADD COLUMN fired_at INTEGER;
ALTER TABLE incident ADD COLUMN reminded INTEGER NOT NULL DEFAULT 0;
CREATE INDEX incident_reminded ON incident (reminded, fired_at);
INSERT INTO meta VALUES ('plan', 0);
ALTER TABLE outbox RENAME TO old_outbox;
DROP INDEX outbox_incident;
DROP INDEX outbox_owed;
DROP INDEX outbox_withdrawn;
-- One row per recipient and change. stage: owed, sent, given_up, withdrawn. letter: the mail it is in, NULL while
-- it waits for one. thread: the mail with the beginning. held: the cap that holds it back.
CREATE TABLE outbox (
    mail       INTEGER PRIMARY KEY AUTOINCREMENT,
    incident   INTEGER NOT NULL,
    subject    TEXT NOT NULL,
    cause      TEXT NOT NULL,
    change     TEXT NOT NULL,
    stage      TEXT NOT NULL,
    mailbox    BLOB NOT NULL,
    way        TEXT NOT NULL,
    operator   INTEGER NOT NULL,
    address    BLOB NOT NULL,
    sealed_for TEXT NOT NULL,
    notice     TEXT NOT NULL,
    made_at    INTEGER NOT NULL,
    letter     INTEGER,
    thread     INTEGER,
    held       TEXT
) STRICT;
CREATE INDEX outbox_incident ON outbox (incident);
CREATE INDEX outbox_made ON outbox (made_at);
CREATE INDEX outbox_waiting ON outbox (way) WHERE stage = 'owed' AND letter IS NULL;
CREATE INDEX outbox_letter ON outbox (letter);
CREATE INDEX outbox_thread ON outbox (thread) WHERE thread IS NOT NULL;
CREATE INDEX outbox_withdrawn ON outbox (made_at) WHERE stage = 'withdrawn';

-- One row per mail. stage: owed, sent, given_up. begun: an attempt was begun and nothing was heard of it; doubts:
-- attempts after which nobody knows whether it arrived.
CREATE TABLE letter (
    letter     INTEGER PRIMARY KEY AUTOINCREMENT,
    mailbox    BLOB NOT NULL,
    way        TEXT NOT NULL,
    operator   INTEGER NOT NULL,
    address    BLOB NOT NULL,
    sealed_for TEXT NOT NULL,
    subject    TEXT,
    summary    TEXT,
    stage      TEXT NOT NULL,
    notices    INTEGER NOT NULL DEFAULT 0,
    attempts   INTEGER NOT NULL DEFAULT 0,
    begun      INTEGER NOT NULL DEFAULT 0,
    doubts     INTEGER NOT NULL DEFAULT 0,
    failure    TEXT,
    made_at    INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    ended_at   INTEGER,
    claimed_by    BLOB,
    claimed_until INTEGER
) STRICT;
CREATE INDEX letter_owed ON letter (due_at) WHERE stage = 'owed';
CREATE INDEX letter_made ON letter (made_at);

INSERT INTO letter (letter, mailbox, way, operator, address, sealed_for, stage, notices, attempts, doubts,
                    made_at, due_at)
SELECT mail, randomblob(16), 'mail', 0, address, subject, iif(stage = 'withdrawn', 'owed', stage), 1,
       attempts, in_doubt, due_at, due_at
FROM old_outbox;
-- Nobody knows whose mail each of them is, so each has a mailbox of its own.
INSERT INTO outbox (mail, incident, subject, cause, change, stage, mailbox, way, operator, address,
                    sealed_for, notice, made_at, letter)
SELECT o.mail, o.incident, o.subject, json_extract(o.notice, '$.cause'),
       iif(o.resolved, 'resolved', 'firing'), o.stage, l.mailbox, 'mail', 0, o.address, o.subject,
       o.notice, o.due_at, o.mail
FROM old_outbox o JOIN letter l ON l.letter = o.mail;
DROP TABLE old_outbox;
",
    "
CREATE TABLE canary (
    provider   TEXT NOT NULL,
    account    TEXT NOT NULL,
    post       TEXT,
    claimed_at INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    PRIMARY KEY (provider, account)
) STRICT, WITHOUT ROWID;
",
];

/// Statements that a database in memory keeps prepared: all there are.
const STATEMENTS_KEPT: usize = 128;

/// How long another process on the same state may hold the write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Instants are Unix seconds, fingerprints the bits of their hash, words the labels that metrics use too.
const TABLES: &str = "
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per account, kept when the lease is given back. An epoch is never used twice.
CREATE TABLE lease (
    epoch      INTEGER PRIMARY KEY AUTOINCREMENT,
    provider   TEXT NOT NULL,
    account    TEXT NOT NULL,
    holder     BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    UNIQUE (provider, account)
) STRICT;

-- sealed: room for the result from the start, the result once there is one (then result is its fingerprint).
CREATE TABLE journal (
    entry        INTEGER PRIMARY KEY AUTOINCREMENT,
    provider     TEXT NOT NULL,
    account      TEXT NOT NULL,
    old          INTEGER NOT NULL,
    spending     INTEGER NOT NULL,
    requested_at INTEGER NOT NULL,
    over_at      INTEGER NOT NULL,
    probed       INTEGER NOT NULL DEFAULT 0,
    orphan       INTEGER NOT NULL DEFAULT 0,
    result       INTEGER,
    sealed       BLOB NOT NULL,
    epoch        INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX journal_open ON journal (provider, account) WHERE orphan = 0;
CREATE INDEX journal_spending ON journal (spending) WHERE orphan = 0;
CREATE INDEX journal_orphans ON journal (provider, account) WHERE orphan = 1;

CREATE TABLE memory (
    provider           TEXT NOT NULL,
    account            TEXT NOT NULL,
    token              INTEGER,
    renewable_by       INTEGER,
    issued_at          INTEGER,
    expires_at         INTEGER,
    refresh_expires_at INTEGER,
    missing_scopes     INTEGER,
    told_since         INTEGER,
    last_refresh_at    INTEGER,
    cause              TEXT,
    cause_since        INTEGER,
    told               TEXT,
    failed_in_a_row    INTEGER NOT NULL,
    not_before         INTEGER,
    first_seen_at      INTEGER,
    door               TEXT,
    PRIMARY KEY (provider, account)
) STRICT, WITHOUT ROWID;

-- What happened to an account, as JSON without secrets. No row for one on which nothing ever did.
CREATE TABLE history (
    provider TEXT NOT NULL,
    account  TEXT NOT NULL,
    record   TEXT NOT NULL,
    PRIMARY KEY (provider, account)
) STRICT;

-- The newest token that the store was given, sealed, and which refresh tokens were spent for it: eight bytes
-- each, newest first. One row per account.
CREATE TABLE newest (
    provider TEXT NOT NULL,
    account  TEXT NOT NULL,
    spent    BLOB NOT NULL,
    sealed   BLOB NOT NULL,
    PRIMARY KEY (provider, account)
) STRICT;

-- By whom a refresh token was spent, of those in newest: another row may hold the same one.
CREATE TABLE spent (
    fingerprint INTEGER PRIMARY KEY,
    provider    TEXT NOT NULL,
    account     TEXT NOT NULL
) STRICT;

-- What the provider said of each app. frozen: why, where the operator was told.
CREATE TABLE app (
    name         TEXT PRIMARY KEY,
    paused_until INTEGER,
    refusals     INTEGER NOT NULL,
    next_try_at  INTEGER,
    frozen       TEXT,
    frozen_since INTEGER,
    changed_at   INTEGER
) STRICT, WITHOUT ROWID;

-- What was announced of accounts, as JSON without secrets. The same key is the same message again.
CREATE TABLE inbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    key      TEXT NOT NULL UNIQUE,
    record   TEXT NOT NULL,
    heard_at INTEGER NOT NULL
) STRICT;

-- How far logs and tables of the publisher were read, as JSON or as the publisher's own text.
CREATE TABLE observed (
    name     TEXT PRIMARY KEY,
    position TEXT NOT NULL,
    kept_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Links with which somebody began to connect an account. browser and nonce are hashes; stage: begun, returned, done.
CREATE TABLE consent (
    link    TEXT PRIMARY KEY,
    browser BLOB NOT NULL,
    nonce   BLOB NOT NULL,
    sealed  BLOB NOT NULL,
    stage   TEXT NOT NULL,
    ends_at INTEGER NOT NULL
) STRICT;

-- Which post may prove which account. post: NULL when it was reported.
CREATE TABLE canary (
    provider   TEXT NOT NULL,
    account    TEXT NOT NULL,
    post       TEXT,
    claimed_at INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    PRIMARY KEY (provider, account)
) STRICT, WITHOUT ROWID;

-- Open incidents only. fired_at: from when on it is called to mind, if it is.
CREATE TABLE incident (
    incident INTEGER PRIMARY KEY AUTOINCREMENT,
    subject  TEXT NOT NULL,
    cause    TEXT NOT NULL,
    fired_at INTEGER,
    reminded INTEGER NOT NULL DEFAULT 0,
    UNIQUE (subject, cause)
) STRICT;
CREATE INDEX incident_reminded ON incident (reminded, fired_at);

-- One row per recipient and change. stage: owed, sent, given_up, withdrawn. letter: the mail it is in, NULL while
-- it waits for one. thread: the mail with the beginning. held: the cap that holds it back.
CREATE TABLE outbox (
    mail       INTEGER PRIMARY KEY AUTOINCREMENT,
    incident   INTEGER NOT NULL,
    subject    TEXT NOT NULL,
    cause      TEXT NOT NULL,
    change     TEXT NOT NULL,
    stage      TEXT NOT NULL,
    mailbox    BLOB NOT NULL,
    way        TEXT NOT NULL,
    operator   INTEGER NOT NULL,
    address    BLOB NOT NULL,
    sealed_for TEXT NOT NULL,
    notice     TEXT NOT NULL,
    made_at    INTEGER NOT NULL,
    letter     INTEGER,
    thread     INTEGER,
    held       TEXT
) STRICT;
CREATE INDEX outbox_incident ON outbox (incident);
CREATE INDEX outbox_made ON outbox (made_at);
CREATE INDEX outbox_waiting ON outbox (way) WHERE stage = 'owed' AND letter IS NULL;
CREATE INDEX outbox_letter ON outbox (letter);
CREATE INDEX outbox_thread ON outbox (thread) WHERE thread IS NOT NULL;
CREATE INDEX outbox_withdrawn ON outbox (made_at) WHERE stage = 'withdrawn';

-- One row per mail. stage: owed, sent, given_up. begun: an attempt was begun and nothing was heard of it; doubts:
-- attempts after which nobody knows whether it arrived.
CREATE TABLE letter (
    letter     INTEGER PRIMARY KEY AUTOINCREMENT,
    mailbox    BLOB NOT NULL,
    way        TEXT NOT NULL,
    operator   INTEGER NOT NULL,
    address    BLOB NOT NULL,
    sealed_for TEXT NOT NULL,
    subject    TEXT,
    summary    TEXT,
    stage      TEXT NOT NULL,
    notices    INTEGER NOT NULL DEFAULT 0,
    attempts   INTEGER NOT NULL DEFAULT 0,
    begun      INTEGER NOT NULL DEFAULT 0,
    doubts     INTEGER NOT NULL DEFAULT 0,
    failure    TEXT,
    made_at    INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    ended_at   INTEGER,
    claimed_by    BLOB,
    claimed_until INTEGER
) STRICT;
CREATE INDEX letter_owed ON letter (due_at) WHERE stage = 'owed';
CREATE INDEX letter_made ON letter (made_at);
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_on_the_disk_and_a_deleted_record_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(&folder.path().join("state.db"), [1; 4]).unwrap();
        // 2 is FULL.
        for (name, expected) in [("synchronous", 2), ("foreign_keys", 1), ("secure_delete", 1)] {
            let value: i64 = connection.pragma_query_value(None, name, |row| row.get(0)).unwrap();
            assert_eq!(value, expected, "{name}");
        }
        let mode: String =
            connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn a_file_of_the_first_version_is_brought_up_to_date() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let columns = |connection: &Connection| -> Vec<String> {
            connection
                .prepare(
                    "SELECT t.name || '.' || c.name FROM sqlite_schema t, pragma_table_info(t.name) c
                     WHERE t.type = 'table' ORDER BY t.name, c.cid",
                )
                .unwrap()
                .query_map([], |row| row.get(0))
                .unwrap()
                .map(Result::unwrap)
                .collect()
        };
        let connection = open(&path, [1; 4]).unwrap();
        let new = columns(&connection);
        connection
            .execute_batch(
                "DROP TABLE app; DROP TABLE newest; DROP TABLE history; DROP TABLE inbox; DROP TABLE spent; DROP TABLE observed; DROP TABLE consent; DROP TABLE canary; DROP INDEX journal_spending;
                 ALTER TABLE memory DROP COLUMN first_seen_at; ALTER TABLE memory DROP COLUMN door;
                 ALTER TABLE journal DROP COLUMN epoch;
                 DROP INDEX incident_reminded; ALTER TABLE incident DROP COLUMN fired_at;
                 ALTER TABLE incident DROP COLUMN reminded;
                 DROP TABLE outbox; DROP TABLE letter; DELETE FROM meta WHERE name = 'plan';
                 CREATE TABLE outbox (
                     mail INTEGER PRIMARY KEY AUTOINCREMENT, incident INTEGER NOT NULL,
                     recipient INTEGER NOT NULL, subject TEXT NOT NULL, resolved INTEGER NOT NULL,
                     stage TEXT NOT NULL, address BLOB NOT NULL, notice TEXT NOT NULL,
                     attempts INTEGER NOT NULL DEFAULT 0, in_doubt INTEGER NOT NULL DEFAULT 0,
                     due_at INTEGER NOT NULL
                 ) STRICT;
                 CREATE INDEX outbox_incident ON outbox (incident);
                 CREATE INDEX outbox_owed ON outbox (due_at) WHERE stage = 'owed';
                 CREATE INDEX outbox_withdrawn ON outbox (due_at) WHERE stage = 'withdrawn';
                 INSERT INTO outbox VALUES
                     (7, 1, 0, '\"Store\"', 0, 'owed', x'01', '{\"cause\":\"unknown\"}', 2, 1, 50),
                     (8, 1, 1, '\"Store\"', 0, 'sent', x'02', '{\"cause\":\"unknown\"}', 0, 0, 50);
                 UPDATE meta SET value = 1 WHERE name = 'schema_version'",
            )
            .unwrap();
        drop(connection);
        let connection = open(&path, [1; 4]).unwrap();
        assert_eq!(columns(&connection), new);
        assert_eq!(meta(&connection, "schema_version"), Some(SCHEMA_VERSION));
        let kept: Vec<(i64, String, String, i64)> = connection
            .prepare(
                "SELECT o.mail, o.stage, l.stage, l.attempts FROM outbox o
                 JOIN letter l USING (letter) ORDER BY o.mail",
            )
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let (owed, sent) = ("owed".to_owned(), "sent".to_owned());
        assert_eq!(kept, [(7, owed.clone(), owed, 2), (8, sent.clone(), sent, 0)]);
        let people = "SELECT count(DISTINCT mailbox) FROM outbox";
        let people: i64 = connection.query_row(people, [], |row| row.get(0)).unwrap();
        assert_eq!(people, 2, "two rows of which nobody knows whose they are share no mail");
    }

    #[test]
    fn opening_an_old_file_again_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        drop(open(&path, [1; 4]).unwrap());
        let before = std::fs::read(&path).unwrap();
        drop(open(&path, [1; 4]).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
