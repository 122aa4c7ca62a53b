//! `import FILE`: accounts from a file into the configured store. What is there already is left alone.

use super::{Exit, complain, load, output};
use crate::{
    core::{AccountId, Secret, Timestamp},
    oauth::{Fingerprinter, Token},
    stores::{self, AnyStore, Saved, StoredAccount, TokenStore, file},
    terminal::progress::{Progress, grouped},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// What an import must be told.
#[derive(Debug, clap::Args)]
#[command(after_help = COLUMNS)]
pub(super) struct Arguments {
    /// A .yaml, .json or .csv file.
    file: PathBuf,
}

pub(super) async fn run(config: &Path, arguments: Arguments) -> Exit {
    let loaded = match load(config) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    // A store compares tokens by fingerprint; nothing of this key outlives the import.
    let fingerprinter = Fingerprinter::new(b"import");
    let (accounts, mut problems) = match read(&arguments.file, &fingerprinter).await {
        Ok(read) => read,
        Err(problem) => {
            complain(problem);
            return Exit::Usage;
        }
    };
    if let Err(error) = stores::create(&loaded.settings.store).await {
        complain(error);
        return Exit::Unreachable;
    }
    let store = match AnyStore::open(&loaded.settings.store, fingerprinter).await {
        Ok(store) => store,
        Err(error) => {
            complain(error);
            return Exit::Unreachable;
        }
    };
    let (mut added, mut there) = (0_usize, 0_usize);
    let mut progress = Progress::begin("importing", Some(accounts.len()));
    for (nth, account) in accounts.iter().enumerate() {
        progress.reach(nth);
        match store.add(account).await {
            Ok(Saved::Written) => added += 1,
            Ok(Saved::Conflict | Saved::AlreadyThere | Saved::Gone) => {
                there += 1;
                if there <= THERE_NAMED_MAX {
                    output::remark(&format!(
                        "{} is in the store already and was left alone",
                        account.id
                    ));
                }
            }
            Err(error) => problems.push(format!("{}: {error}", account.id)),
        }
    }
    drop(progress);
    if there > THERE_NAMED_MAX {
        output::remark(&format!("and {} more", grouped(there - THERE_NAMED_MAX)));
    }
    problems.iter().for_each(complain);
    output::say(&format!("{added} added, {there} there already, {} not imported", problems.len()));
    if problems.is_empty() { Exit::Done } else { Exit::Failed }
}

/// What could be read, and what is wrong with the rest.
type Read = (Vec<StoredAccount>, Vec<String>);

async fn read(path: &Path, fingerprinter: &Fingerprinter) -> Result<Read, String> {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        return read_csv(path);
    }
    let settings = file::Settings { path: path.to_owned(), poll_every: Duration::from_secs(60) };
    let source = file::FileStore::open(settings, fingerprinter.clone())
        .await
        .map_err(|error| error.to_string())?;
    let (mut accounts, mut problems) = (Vec::new(), Vec::new());
    source
        .load(|account| accounts.push(account), |error| problems.push(error.to_string()))
        .await
        .map_err(|error| error.to_string())?;
    Ok((accounts, problems))
}

fn read_csv(path: &Path) -> Result<Read, String> {
    let place = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("{place}: {error}"))?.len();
    if size > CSV_BYTES_MAX {
        return Err(format!(
            "{place}: {size} bytes; at most {CSV_BYTES_MAX} are read, split the file"
        ));
    }
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|error| format!("{place}: {error}"))?;
    let head = reader.headers().map_err(|error| format!("{place}: line 1: {error}"))?.clone();
    if let Some(unknown) = head.iter().find(|name| !CSV_COLUMNS.contains(name)) {
        return Err(format!(
            "{place}: line 1: unknown column {unknown:?}; expected columns are {}",
            CSV_COLUMNS.join(", ")
        ));
    }
    let (mut accounts, mut problems) = (Vec::new(), Vec::new());
    for record in reader.into_records() {
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                let cells: BTreeMap<&str, &str> =
                    head.iter().zip(record.iter()).filter(|(_, cell)| !cell.is_empty()).collect();
                match account_of(&cells) {
                    Ok(account) => accounts.push(account),
                    Err(problem) => problems.push(format!("{place}: line {line}: {problem}")),
                }
            }
            // The library's own text may quote the record, which holds tokens.
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                problems.push(format!(
                    "{place}: line {line}: not a record of {} cells in UTF-8",
                    head.len()
                ));
            }
        }
    }
    Ok((accounts, problems))
}

fn account_of(cells: &BTreeMap<&str, &str>) -> Result<StoredAccount, String> {
    let text = |name: &str| cells.get(name).map(|cell| (*cell).to_owned());
    let must =
        |name: &str| text(name).ok_or_else(|| format!("column {name:?} is empty; it must be set"));
    let secret = |name: &str| text(name).map(Secret::new);
    let time = |name: &str| -> Result<Option<Timestamp>, String> {
        let Some(cell) = cells.get(name) else {
            return Ok(None);
        };
        let unix = cell
            .parse()
            .ok()
            .or_else(|| cell.parse::<jiff::Timestamp>().ok().map(|at| at.as_second()));
        let unix = unix.ok_or_else(|| {
            format!("column {name:?}: expected unix seconds or a time such as 2026-11-22T10:00:00Z")
        })?;
        Ok(Some(Timestamp::from_unix(unix)))
    };
    let name = format!("{}/{}", must("provider")?, must("account")?);
    let id = AccountId::parse(&name).ok_or_else(|| {
        format!("the account's name is longer than {} bytes", AccountId::ACCOUNT_BYTES_MAX)
    })?;
    let token = Token {
        access: Secret::new(must("access_token")?),
        refresh: secret("refresh_token"),
        issued_at: time("issued_at")?,
        expires_at: time("expires_at")?,
        refresh_expires_at: time("refresh_expires_at")?,
        scopes: text("scopes").map(|scopes| {
            scopes.split([' ', ',']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
        }),
        subject: text("subject"),
    };
    let app = text("app").map(Into::into);
    let subject = token.subject.clone();
    Ok(StoredAccount {
        id,
        app,
        owner: secret("owner"),
        subject,
        token: Some(token),
        enabled: true,
    })
}

/// Columns that a CSV file may have, in any order; the first three must be there.
const CSV_COLUMNS: [&str; 11] = [
    "provider",
    "account",
    "access_token",
    "refresh_token",
    "issued_at",
    "expires_at",
    "refresh_expires_at",
    "scopes",
    "subject",
    "app",
    "owner",
];

/// Accounts that are named because they are there already; the rest is counted.
const THERE_NAMED_MAX: usize = 20;

/// Largest CSV file that is read.
const CSV_BYTES_MAX: u64 = 64 * 1024 * 1024;

const COLUMNS: &str = "\
A CSV file begins with a line of column names, in any order:
  provider, account, access_token             required
  refresh_token, scopes, subject, app, owner  where known
  issued_at, expires_at, refresh_expires_at   where known: unix seconds,
                                              or as 2026-11-22T10:00:00Z

YAML and JSON files have the same names in a list under `accounts`.
Accounts that are in the store already are left alone. A store that is not
there yet is created, unless it is a table with a column map.";

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Read, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts.csv");
        std::fs::write(&path, text).unwrap();
        read_csv(&path)
    }

    #[test]
    fn a_line_becomes_an_account_and_a_wrong_one_names_its_line_and_column() {
        let text = "provider,account,access_token,refresh_token,expires_at\n\
                    tiktok,a,invented-1,invented-2,1800000000\n\
                    tiktok,b,invented-3,,2027-01-15T08:00:00Z\n\
                    tiktok,c,invented-4,,tomorrow\n\
                    tiktok,,invented-5,,\n";
        let (accounts, problems) = read_text(text).unwrap();
        let ends = Some(Timestamp::from_unix(1_800_000_000));
        assert_eq!(accounts.len(), 2);
        assert!(accounts.iter().all(|one| one.token.as_ref().unwrap().expires_at == ends));
        assert!(problems[0].contains("line 4: column \"expires_at\": expected unix seconds"));
        assert!(problems[1].contains("line 5: column \"account\" is empty"));
        assert!(!problems.iter().any(|problem| problem.contains("invented")));
    }

    #[test]
    fn an_unknown_column_is_refused_with_the_known_ones() {
        let problem = read_text("provider,acount\n").unwrap_err();
        assert!(problem.contains("\"acount\"") && problem.contains("refresh_token"), "{problem}");
    }

    #[test]
    fn a_record_with_too_many_cells_is_named_without_its_content() {
        let (accounts, problems) =
            read_text("provider,account,access_token\ntiktok,a,invented-1,invented-2\n").unwrap();
        assert!(accounts.is_empty());
        assert!(
            problems[0].contains("line 2") && !problems[0].contains("invented"),
            "{problems:?}"
        );
    }
}
