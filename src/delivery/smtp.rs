//! One SMTP conversation per mail, bounded in time from the first byte to the last.
//!
//! The conversation is led here, command by command, instead of by lettre's transport: which command was
//! refused decides whose fault it is, and a mail is sent the moment the server said so, whatever becomes
//! of QUIT afterwards. Absent on purpose: connection reuse (a stale connection would be one more way to
//! fail) and the server's own words in errors (they repeat addresses).

use super::{Smtp, SmtpTls};
use lettre::{
    Message,
    address::Envelope,
    transport::smtp::{
        Error as LettreError,
        authentication::{Credentials, Mechanism},
        client::{
            AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters, TlsParametersBuilder,
        },
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailParameter},
    },
};
use std::{error::Error as _, fmt, io::Read, net::SocketAddr, path::Path, time::Duration};
use tokio::time::timeout;

/// Why a mail was not accepted, by what to do about it. No variant holds an address or the server's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// The server is not to be used now, for this mail or any other: leave it alone for a while.
    #[error("{reason}")]
    ServerTrouble {
        /// At which step, and the server's codes.
        reason: String,
        /// True when the whole mail was handed over and only the server's word is missing.
        may_have_arrived: bool,
    },
    /// This mail was put off (greylisting, a full mailbox): try it again later.
    #[error("{reason}")]
    TryAgain {
        /// At which step, and the server's codes.
        reason: String,
        /// True when the whole mail was handed over and only the server's word is missing.
        may_have_arrived: bool,
    },
    /// This mail will not be accepted however often it is tried.
    #[error("{reason}")]
    Pointless {
        /// At which step, and the server's codes.
        reason: String,
    },
}

impl Undelivered {
    /// True when the whole mail was handed over and only the server's word is missing: whoever is owed the
    /// end of an incident must not be denied it because nobody knows whether the beginning arrived.
    #[must_use]
    pub const fn may_have_arrived(&self) -> bool {
        match self {
            Self::ServerTrouble { may_have_arrived, .. }
            | Self::TryAgain { may_have_arrived, .. } => *may_have_arrived,
            Self::Pointless { .. } => false,
        }
    }
}

/// Hands `message` to the server. `Ok` means that the server has taken responsibility for it.
///
/// # Errors
/// What to do about it; see [`Undelivered`].
pub async fn send(smtp: &Smtp, message: &Message) -> Result<(), Undelivered> {
    let mut step = Step::Connect;
    let conversation = async {
        let mut connection = open(smtp, &mut step).await?;
        let result = hand_over(&mut connection, message, &mut step).await;
        Ok::<_, Refusal>((connection, result?))
    };
    // lettre's own timeout covers connecting only; a server that stays silent would hold us for ever.
    match timeout(smtp.deadline, conversation).await {
        Ok(Ok((connection, ()))) => {
            take_leave(connection).await;
            Ok(())
        }
        Ok(Err(refusal)) => Err(refusal.at(step)),
        Err(_) => {
            let may_have_arrived = step == Step::Content;
            Err(Undelivered::ServerTrouble {
                reason: silence(step, smtp.deadline),
                may_have_arrived,
            })
        }
    }
}

/// Connects, encrypts, logs in, and leaves again without a mail.
///
/// # Errors
/// A sentence that says at which step it failed.
pub async fn check(smtp: &Smtp) -> Result<(), String> {
    let mut step = Step::Connect;
    match timeout(smtp.deadline, open(smtp, &mut step)).await {
        Ok(Ok(connection)) => {
            take_leave(connection).await;
            Ok(())
        }
        Ok(Err(refusal)) => Err(refusal.at(step).to_string()),
        Err(_) => Err(silence(step, smtp.deadline)),
    }
}

/// How far the conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Encrypt,
    LogIn,
    Sender,
    Recipient,
    Data,
    Content,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting and greeting",
            Self::Encrypt => "STARTTLS",
            Self::LogIn => "AUTH",
            Self::Sender => "MAIL FROM",
            Self::Recipient => "RCPT TO",
            Self::Data => "DATA",
            Self::Content => "the end of the message",
        })
    }
}

async fn open(smtp: &Smtp, step: &mut Step) -> Result<AsyncSmtpConnection, Refusal> {
    let hello = ClientId::default();
    let addresses = resolve(smtp).await?;
    let implicit = match smtp.tls {
        SmtpTls::Implicit => Some(tls_parameters(smtp)?),
        SmtpTls::StartTls | SmtpTls::None => None,
    };
    // Half of the deadline for one address leaves the other half for the next.
    let patience = Some(smtp.deadline / 2);
    let mut connection =
        AsyncSmtpConnection::connect_tokio1(addresses.as_slice(), patience, &hello, implicit, None)
            .await?;

    if smtp.tls == SmtpTls::StartTls {
        *step = Step::Encrypt;
        // RFC 3207 section 6: somebody in between can take STARTTLS out of the offer. Without it nothing
        // more is said: no user name, no password, no address.
        if !connection.can_starttls() {
            return Err(Refusal::ours("the server does not offer STARTTLS"));
        }
        connection.starttls(tls_parameters(smtp)?, &hello).await?;
    }

    if let Some((user, password)) = &smtp.login {
        *step = Step::LogIn;
        let password = password.read().map_err(|error| Refusal::ours(&error.to_string()))?;
        let credentials = Credentials::new(user.clone(), password.expose().to_owned());
        connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
    }
    Ok(connection)
}

/// Resolved here, so that a name which only looks like loopback does not get an unencrypted mail.
async fn resolve(smtp: &Smtp) -> Result<Vec<SocketAddr>, Refusal> {
    let found = tokio::net::lookup_host((smtp.host.as_str(), smtp.port))
        .await
        .map_err(|_| Refusal::ours("the host name of the server cannot be resolved"))?;
    let addresses: Vec<SocketAddr> = found.collect();
    if smtp.tls == SmtpTls::None && !addresses.iter().all(|address| address.ip().is_loopback()) {
        return Err(Refusal::ours("a server without TLS must be on a loopback address"));
    }
    Ok(addresses)
}

fn tls_parameters(smtp: &Smtp) -> Result<TlsParameters, Refusal> {
    let mut builder = TlsParametersBuilder::new(smtp.host.clone());
    if let Some(path) = &smtp.ca_file {
        builder = builder
            .certificate_store(CertificateStore::None)
            .add_root_certificate(authorities(path)?);
    }
    Ok(builder.build()?)
}

fn authorities(path: &Path) -> Result<Certificate, Refusal> {
    let place = path.display();
    let mut pem = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(CA_FILE_BYTES_MAX).read_to_end(&mut pem))
        .map_err(|error| Refusal::ours(&format!("{place}: {}", error.kind())))?;
    // A file without a certificate parses well and trusts nobody, which would be told as a bad server.
    if !pem.windows(PEM_MARK.len()).any(|window| window == PEM_MARK) {
        return Err(Refusal::ours(&format!("{place}: no PEM certificate in this file")));
    }
    Certificate::from_pem(&pem)
        .map_err(|_| Refusal::ours(&format!("{place}: a certificate in this file cannot be read")))
}

async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    message: &Message,
    step: &mut Step,
) -> Result<(), Refusal> {
    *step = Step::Sender;
    let envelope = message.envelope();
    connection
        .command(Mail::new(envelope.from().cloned(), parameters(connection, envelope)?))
        .await?;
    *step = Step::Recipient;
    for to in envelope.to() {
        connection.command(Rcpt::new(to.clone(), Vec::new())).await?;
    }
    *step = Step::Data;
    connection.command(Data).await?;
    *step = Step::Content;
    connection.message(&message.formatted()).await?;
    Ok(())
}

/// RFC 6531: an address outside ASCII needs the server's word that it can carry it. The content is ASCII
/// by its encoding.
fn parameters(
    connection: &AsyncSmtpConnection,
    envelope: &Envelope,
) -> Result<Vec<MailParameter>, Refusal> {
    let is_ascii = envelope.to().iter().chain(envelope.from()).all(|a| a.to_string().is_ascii());
    match (is_ascii, connection.server_info().supports_feature(Extension::SmtpUtfEight)) {
        (true, _) => Ok(Vec::new()),
        (false, true) => Ok(vec![MailParameter::SmtpUtfEight]),
        (false, false) => Err(Refusal {
            words: "the server cannot carry an address outside ASCII".to_owned(),
            kind: Kind::Misfit,
        }),
    }
}

/// QUIT is a courtesy: the mail is accepted or refused already, and nobody waits for the answer long.
async fn take_leave(mut connection: AsyncSmtpConnection) {
    let _ = timeout(LEAVE_PATIENCE, connection.quit()).await;
}

/// Something went wrong, in words that are safe to log.
#[derive(Debug)]
struct Refusal {
    words: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A 5xx.
    Permanent,
    /// A 4xx other than 421.
    Transient,
    /// 421: the server is closing the channel (RFC 5321 section 3.8), whatever was asked of it.
    Closing,
    /// No usable answer at all, or our own settings.
    Broken,
    /// This server cannot carry this mail.
    Misfit,
}

impl Refusal {
    fn ours(words: &str) -> Self {
        Self { words: words.to_owned(), kind: Kind::Broken }
    }

    /// Before the recipient is named, nothing is this mail's fault: the next one would fare the same. A
    /// conversation that breaks off later may be this mail's doing, so the others get their turn.
    fn at(self, step: Step) -> Undelivered {
        let reason = format!("{step}: {}", self.words);
        // Whoever answered with a code has not taken it.
        let may_have_arrived = step == Step::Content && self.kind == Kind::Broken;
        let is_about_this_mail = matches!(step, Step::Recipient | Step::Data | Step::Content);
        match (self.kind, is_about_this_mail) {
            (Kind::Misfit, _) | (Kind::Permanent, true) => Undelivered::Pointless { reason },
            (Kind::Transient | Kind::Broken, true) => {
                Undelivered::TryAgain { reason, may_have_arrived }
            }
            _ => Undelivered::ServerTrouble { reason, may_have_arrived },
        }
    }
}

impl From<LettreError> for Refusal {
    fn from(error: LettreError) -> Self {
        let Some(code) = error.status().map(u16::from) else {
            return Self { words: broken(&error).to_owned(), kind: Kind::Broken };
        };
        let kind = match code {
            SERVICE_CLOSING => Kind::Closing,
            400..=499 => Kind::Transient,
            _ => Kind::Permanent,
        };
        let text = error.source().map(ToString::to_string).unwrap_or_default();
        Self { words: in_words(code, enhanced_code(&text)), kind }
    }
}

/// lettre's own texts may quote the server; only their kind is used.
fn broken(error: &LettreError) -> &'static str {
    if let Some(words) = certificate_trouble(error) {
        words
    } else if error.is_tls() {
        "the TLS handshake failed"
    } else if error.is_timeout() {
        "no connection in time"
    } else if error.is_client() {
        "the server offers no login that we speak (PLAIN, LOGIN)"
    } else if error.is_response() {
        "the connection ended or the answer was not SMTP"
    } else {
        "the connection failed or broke off"
    }
}

/// The one TLS failure that an operator meets every year, told apart from the rest.
fn certificate_trouble(error: &LettreError) -> Option<&'static str> {
    let mut source = error.source();
    while let Some(inner) = source {
        let io = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner
            .downcast_ref::<rustls::Error>()
            .or_else(|| io.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
        if let Some(rustls::Error::InvalidCertificate(what)) = tls {
            use rustls::CertificateError as Bad;
            return Some(match what {
                Bad::Expired | Bad::ExpiredContext { .. } => "the server's certificate has expired",
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                    "the server's certificate is for another host name"
                }
                Bad::UnknownIssuer => "the server's certificate is from an unknown authority",
                _ => "the server's certificate is not valid",
            });
        }
        source = inner.source();
    }
    None
}

/// `550 5.1.1 (the address)`.
fn in_words(code: u16, enhanced: Option<&str>) -> String {
    let meaning = match (code, enhanced.and_then(|code| code.split('.').nth(1))) {
        (454 | 530 | 534 | 535 | 538, _) => "the login",
        (_, Some("1")) => "the address",
        (_, Some("2")) => "the mailbox",
        (_, Some("3")) => "the mail system",
        (_, Some("4")) => "the network or the routing",
        (_, Some("5")) => "the protocol",
        (_, Some("6")) => "the content",
        (_, Some("7")) => "security or policy",
        _ => return code.to_string(),
    };
    match enhanced {
        Some(enhanced) => format!("{code} {enhanced} ({meaning})"),
        None => format!("{code} ({meaning})"),
    }
}

/// RFC 2034: the first word of the text, three numbers. Only digits and dots come through.
fn enhanced_code(text: &str) -> Option<&str> {
    let word = text.split_whitespace().next()?;
    let parts: Vec<&str> = word.split('.').collect();
    let is_number = |part: &&str| {
        (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    (parts.len() == 3 && parts.iter().all(is_number)).then_some(word)
}

fn silence(step: Step, deadline: Duration) -> String {
    format!("{step}: the server did not answer within {}", humantime::format_duration(deadline))
}

const SERVICE_CLOSING: u16 = 421;
const CA_FILE_BYTES_MAX: u64 = 1024 * 1024;
const PEM_MARK: &[u8] = b"-----BEGIN CERTIFICATE-----";
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(kind: Kind) -> Refusal {
        Refusal { words: "x".to_owned(), kind }
    }

    #[test]
    fn the_step_decides_whose_fault_a_refusal_is() {
        type Make = fn(String) -> Undelivered;
        let server: Make = |reason| Undelivered::ServerTrouble { reason, may_have_arrived: false };
        let later: Make = |reason| Undelivered::TryAgain { reason, may_have_arrived: false };
        let doubtful: Make = |reason| Undelivered::TryAgain { reason, may_have_arrived: true };
        let never: Make = |reason| Undelivered::Pointless { reason };
        let cases = [
            (Step::Connect, Kind::Broken, server),
            (Step::Connect, Kind::Permanent, server),
            (Step::Encrypt, Kind::Transient, server),
            (Step::LogIn, Kind::Permanent, server),
            (Step::Sender, Kind::Permanent, server),
            (Step::Sender, Kind::Misfit, never),
            (Step::Recipient, Kind::Closing, server),
            (Step::Recipient, Kind::Transient, later),
            (Step::Recipient, Kind::Permanent, never),
            (Step::Data, Kind::Permanent, never),
            (Step::Content, Kind::Permanent, never),
            (Step::Content, Kind::Transient, later),
            (Step::Data, Kind::Broken, later),
            (Step::Content, Kind::Broken, doubtful),
        ];
        for (step, kind, make) in cases {
            assert_eq!(refusal(kind).at(step), make(format!("{step}: x")), "{step:?} {kind:?}");
        }
    }

    #[test]
    fn of_the_servers_words_only_its_numbers_are_kept() {
        let cases = [
            ("5.1.1 <owner@example.com> unknown", Some("5.1.1")),
            ("4.7.1", Some("4.7.1")),
            ("owner@example.com 5.1.1", None),
            ("5.1.owner@example.com", None),
            ("5.1.1.1 x", None),
            ("5.1234.1 x", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(enhanced_code(text), expected, "{text:?}");
        }
        assert_eq!(in_words(550, Some("5.1.1")), "550 5.1.1 (the address)");
        assert_eq!(in_words(535, None), "535 (the login)");
        assert_eq!(in_words(554, None), "554");
    }
}
