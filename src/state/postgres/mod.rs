//! State in a PostgreSQL database, for one sidecar or for many that share the work.
//!
//! The same promises as on SQLite, and one more: all clocks may differ. Whether a lease or a claim is over
//! is asked of the database's clock alone. Read `writer` for how calls share a commit, `journal` for leases
//! and fencing, `shares` for who looks after which accounts. Absent on purpose: stored procedures (versions of the program may run side by side) and
//! pools (one connection carries one transaction after the other, everything in it at once).

mod apps;
mod canaries;
mod consents;
mod history;
mod inbox;
mod journal;
mod letters;
mod memory;
mod newest;
mod observed;
mod outbox;
mod save;
mod schema;
mod session;
mod shares;
mod text;
mod work;
mod writer;

pub(super) use self::{
    apps::{app_memories, remember_apps},
    canaries::{claim_canary, end_canary, report_canary},
    consents::{begin, come_back, end, standing},
    history::{keep_histories, page_of_histories},
    inbox::{heard_after, take_in},
    journal::{
        bury, close, intend, intend_probe, lengths, open_entries, probe, record_result, release,
        return_probe, take_lease,
    },
    letters::{
        arrange, begin_letter, board, contents, lengths_of_outbox, list, next_due, owed, settle,
    },
    memory::{door, forget, page_of_memories, remember},
    newest::{complete, newest, spender},
    observed::{keep_position, position_of},
    outbox::{call_to_mind, fire, oldest_told, remind, resolve, to_remind, told},
    save::together,
    shares::{hold, leave},
    writer::Writer,
};

use super::{seal::KeyId, writer::Refusal};
use crate::{postgres_tls::Connector, secrets::SecretRef};
use std::{fmt, path::PathBuf, time::Duration};

/// Which database. `config` fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A host name or address, or the directory of a Unix socket when it begins with `/`.
    pub host: String,
    /// The port, for sockets too.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The role to log in as.
    pub user: String,
    /// Its password, read whenever a connection is made; `None` where the server asks for none.
    pub password: Option<SecretRef>,
    /// Whether to insist on TLS; a Unix socket has none in any case.
    pub tls: Tls,
    /// The schema that is ours alone; made when missing.
    pub schema: String,
    /// The longest that one statement may take, waiting for locks included.
    pub statement_timeout: Duration,
    /// The longest that connecting may take, up to the first statement.
    pub connect_timeout: Duration,
    /// How long a replica that is not heard of keeps its shares of the accounts.
    pub lease: Duration,
}

/// How the way to the server is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all: for this machine only.
    None,
    /// Encrypted, and the server's certificate checked for its host name.
    Required {
        /// The only authorities to trust, instead of the system's.
        ca_file: Option<PathBuf>,
    },
}

impl Settings {
    /// True when the server is reached through a file of this machine.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    fn connector(&self) -> Result<Option<Connector>, Refusal> {
        match &self.tls {
            Tls::Required { ca_file } if !self.is_socket() => {
                Connector::new(ca_file.as_deref()).map(Some).map_err(Refusal::Unavailable)
            }
            _ => Ok(None),
        }
    }
}

impl fmt::Display for Settings {
    /// The place as messages name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, database, schema, .. } = self;
        write!(f, "PostgreSQL {host}:{port}, database {database}, schema {schema}")
    }
}

/// Connects and looks, and changes nothing: for `check`.
pub(super) async fn examine(settings: &Settings, key_id: KeyId) -> Result<String, Refusal> {
    let made = session::examine(settings, key_id).await?;
    Ok(match made {
        true => format!("{settings} can be used"),
        false => format!("{settings} will be made at the first start"),
    })
}
