//! A mailbox: takes every mail that is sent to it over SMTP and shows it on a page.
//!
//! As much of RFC 5321 as a client without TLS and login uses. Absent on purpose: delivery to anywhere,
//! AUTH, STARTTLS, scripts on the page.

mod mime;
mod page;

use super::http;
use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, tcp},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// A mail that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Its place in the order of arrival, from 1.
    pub number: usize,
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// The decoded `Subject`.
    pub subject: String,
    /// The decoded plain text part.
    pub text: String,
    /// The decoded HTML part.
    pub html: Option<String>,
    /// The message as it came over the wire, for searches and for tests of headers.
    pub raw: String,
    /// When it arrived, since the mailbox started.
    pub received_at: Duration,
}

/// A mailbox that is running in this process; it ends when this is dropped.
pub struct Mailbox {
    shared: Arc<Shared>,
    smtp: SocketAddr,
    page: SocketAddr,
    serving: [JoinHandle<()>; 2],
}

impl Mailbox {
    /// Starts on two free ports of the loopback interface.
    ///
    /// # Errors
    /// When there are none.
    pub async fn start() -> io::Result<Self> {
        let smtp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let page = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addresses = (smtp.local_addr()?, page.local_addr()?);
        let shared = Arc::new(Shared {
            started: Instant::now(),
            mails: Mutex::new(VecDeque::new()),
            arrived: watch::Sender::new(0),
        });
        let shown = Arc::clone(&shared);
        let serving = [
            tokio::spawn(accept(smtp, Arc::clone(&shared))),
            tokio::spawn(http::serve(page, move |request| {
                let answer = page::answer(&shown, &request);
                async move { Ok(answer) }
            })),
        ];
        Ok(Self { shared, smtp: addresses.0, page: addresses.1, serving })
    }

    /// Where it takes mail.
    #[must_use]
    pub const fn smtp(&self) -> SocketAddr {
        self.smtp
    }

    /// Where it shows mail.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.page)
    }

    /// The mails that are kept, oldest first.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        self.shared.mails().iter().cloned().collect()
    }

    /// The same, and empties the mailbox: in a long run more arrive than are kept.
    #[must_use]
    pub fn take(&self) -> Vec<Mail> {
        self.shared.mails().drain(..).collect()
    }

    /// Tells how many mails have arrived so far, each time one does.
    #[must_use]
    pub fn arrivals(&self) -> watch::Receiver<usize> {
        self.shared.arrived.subscribe()
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        for serving in &self.serving {
            serving.abort();
        }
    }
}

struct Shared {
    started: Instant,
    mails: Mutex<VecDeque<Mail>>,
    /// How many mails ever arrived.
    arrived: watch::Sender<usize>,
}

impl Shared {
    fn mails(&self) -> MutexGuard<'_, VecDeque<Mail>> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, envelope: Envelope, raw: &[u8]) {
        let received_at = self.started.elapsed();
        let content = mime::read(raw);
        let mut mails = self.mails();
        let number = *self.arrived.borrow() + 1;
        if mails.len() == MAILS_MAX {
            mails.pop_front();
        }
        mails.push_back(Mail {
            number,
            from: envelope.from.unwrap_or_default(),
            to: envelope.to,
            subject: content.subject,
            text: content.text,
            html: content.html,
            raw: String::from_utf8_lossy(raw).into_owned(),
            received_at,
        });
        self.arrived.send_replace(number);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A client that goes away in the middle has sent no mail.
            let _ = converse(stream, &shared).await;
            drop(permit);
        });
    }
}

#[derive(Default)]
struct Envelope {
    from: Option<String>,
    to: Vec<String>,
}

/// One SMTP conversation, from the greeting to QUIT.
async fn converse(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    write.write_all(b"220 demo.invalid oauth-keepalive demo mailbox\r\n").await?;
    let mut envelope = Envelope::default();
    loop {
        let line = match next_line(&mut read).await? {
            Line::Whole(line) => String::from_utf8_lossy(&line).into_owned(),
            Line::TooLong => {
                write.write_all(b"500 line too long\r\n").await?;
                continue;
            }
            Line::End => return Ok(()),
        };
        let line = line.trim_end();
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let answer: &[u8] = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                envelope = Envelope::default();
                b"250-demo.invalid\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 1048576\r\n"
            }
            "HELO" => b"250 demo.invalid\r\n",
            "MAIL" => match path_of(rest, "FROM:") {
                Some(from) => {
                    envelope = Envelope { from: Some(from), to: Vec::new() };
                    b"250 ok\r\n"
                }
                None => b"501 expected MAIL FROM:<address>\r\n",
            },
            "RCPT" => match path_of(rest, "TO:").filter(|to| !to.is_empty()) {
                _ if envelope.from.is_none() => b"503 MAIL comes first\r\n",
                Some(_) if envelope.to.len() == RECIPIENTS_MAX => b"452 too many recipients\r\n",
                Some(to) => {
                    envelope.to.push(to);
                    b"250 ok\r\n"
                }
                None => b"501 expected RCPT TO:<address>\r\n",
            },
            "DATA" if envelope.to.is_empty() => b"503 RCPT comes first\r\n",
            "DATA" => {
                write.write_all(b"354 end with a line that is a dot\r\n").await?;
                match message(&mut read).await? {
                    Some(raw) => {
                        shared.keep(std::mem::take(&mut envelope), &raw);
                        b"250 kept\r\n"
                    }
                    None => b"552 message too long\r\n",
                }
            }
            "RSET" => {
                envelope = Envelope::default();
                b"250 ok\r\n"
            }
            "NOOP" => b"250 ok\r\n",
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => b"502 not implemented\r\n",
        };
        write.write_all(answer).await?;
    }
}

/// The lines up to the dot, with stuffed dots taken out (RFC 5321 section 4.5.2); `None` when it was too
/// long, after having read all of it.
async fn message(read: &mut BufReader<tcp::ReadHalf<'_>>) -> io::Result<Option<Vec<u8>>> {
    let mut raw = Vec::new();
    let mut fits = true;
    loop {
        match next_line(read).await? {
            Line::Whole(line) if line == b".\r\n" => return Ok(fits.then_some(raw)),
            Line::Whole(line) => {
                fits &= raw.len() + line.len() <= MESSAGE_BYTES_MAX;
                if fits {
                    raw.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                }
            }
            Line::TooLong => fits = false,
            Line::End => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

enum Line {
    /// With its line ending.
    Whole(Vec<u8>),
    /// Longer than allowed; all of it was read.
    TooLong,
    End,
}

async fn next_line(read: &mut BufReader<tcp::ReadHalf<'_>>) -> io::Result<Line> {
    let mut fits = true;
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut *read).take(LINE_BYTES_MAX);
        timeout(LINE_DEADLINE, bounded.read_until(b'\n', &mut line))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        match line.last() {
            None => return Ok(Line::End),
            Some(b'\n') if fits => return Ok(Line::Whole(line)),
            Some(b'\n') => return Ok(Line::TooLong),
            Some(_) if (line.len() as u64) < LINE_BYTES_MAX => return Ok(Line::End),
            Some(_) => fits = false,
        }
    }
}

/// The address in `FROM:<address> PARAMETERS`.
fn path_of(rest: &str, keyword: &str) -> Option<String> {
    let head = rest.get(..keyword.len())?;
    let path = rest.get(keyword.len()..)?.trim_start().strip_prefix('<')?;
    let (address, _) = path.split_once('>')?;
    (head.eq_ignore_ascii_case(keyword) && address.len() <= ADDRESS_BYTES_MAX)
        .then(|| address.to_owned())
}

/// Mails that are kept; the oldest go first.
const MAILS_MAX: usize = 1_000;
const CONNECTIONS_MAX: usize = 64;
/// RFC 5321 section 4.5.3.1.6 allows 1,000 bytes; some clients send more.
const LINE_BYTES_MAX: u64 = 8 * 1024;
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
const RECIPIENTS_MAX: usize = 100;
const ADDRESS_BYTES_MAX: usize = 254;
const LINE_DEADLINE: Duration = Duration::from_secs(60);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `lines` one at a time and answers what came back for each, the greeting first.
    async fn talk(mailbox: &Mailbox, lines: &[&str]) -> Vec<String> {
        let mut stream = TcpStream::connect(mailbox.smtp()).await.unwrap();
        let (read, mut write) = stream.split();
        let mut read = BufReader::new(read);
        let mut answers = vec![answer(&mut read).await];
        for line in lines {
            write.write_all(line.as_bytes()).await.unwrap();
            write.write_all(b"\r\n").await.unwrap();
            answers.push(answer(&mut read).await);
        }
        answers
    }

    async fn answer(read: &mut BufReader<tcp::ReadHalf<'_>>) -> String {
        loop {
            let mut line = String::new();
            timeout(Duration::from_secs(5), read.read_line(&mut line)).await.unwrap().unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.get(..3).unwrap_or_default().to_owned();
            }
        }
    }

    #[tokio::test]
    async fn a_mail_is_kept_with_its_envelope_and_its_stuffed_dots_taken_out() {
        let mailbox = Mailbox::start().await.unwrap();
        let body =
            "Subject: hello\r\nContent-Type: text/plain\r\n\r\n..a dot\r\n...two\r\nend\r\n.";
        let codes = talk(
            &mailbox,
            &[
                "EHLO client",
                "MAIL FROM:<keepalive@demo.invalid> BODY=8BITMIME",
                "rcpt to:<owner-01@demo.invalid>",
                "RCPT TO:<owner-02@demo.invalid>",
                "DATA",
                body,
                "QUIT",
            ],
        )
        .await;
        assert_eq!(codes, ["220", "250", "250", "250", "250", "354", "250", "221"]);
        let mails = mailbox.mails();
        assert_eq!(mails.len(), 1);
        assert_eq!(mails[0].number, 1);
        assert_eq!(mails[0].from, "keepalive@demo.invalid");
        assert_eq!(mails[0].to, ["owner-01@demo.invalid", "owner-02@demo.invalid"]);
        assert_eq!(mails[0].subject, "hello");
        assert_eq!(mails[0].text.lines().collect::<Vec<_>>(), [".a dot", "..two", "end"]);
        assert_eq!(*mailbox.arrivals().borrow(), 1);
    }

    #[tokio::test]
    async fn commands_out_of_order_and_unknown_ones_are_refused_and_the_conversation_goes_on() {
        let mailbox = Mailbox::start().await.unwrap();
        let codes = talk(
            &mailbox,
            &[
                "RCPT TO:<a@demo.invalid>",
                "DATA",
                "MAIL FROM:nobody",
                "STARTTLS",
                "MAIL FROM:<>",
                "DATA",
                "RSET",
                "RCPT TO:<a@demo.invalid>",
                "NOOP",
                "QUIT",
            ],
        )
        .await;
        let expected =
            ["220", "503", "503", "501", "502", "250", "503", "250", "503", "250", "221"];
        assert_eq!(codes, expected);
        assert!(mailbox.mails().is_empty());
    }

    #[tokio::test]
    async fn lines_and_messages_that_are_too_long_are_refused_and_nothing_is_kept() {
        let mailbox = Mailbox::start().await.unwrap();
        let long = "x".repeat(2 * usize::try_from(LINE_BYTES_MAX).unwrap() + 7);
        let many = format!("{}.", "0123456789\r\n".repeat(MESSAGE_BYTES_MAX / 12 + 1));
        let codes = talk(
            &mailbox,
            &[&long, "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", &many, "NOOP", "QUIT"],
        )
        .await;
        assert_eq!(codes, ["220", "500", "250", "250", "354", "552", "250", "221"]);
        assert!(mailbox.mails().is_empty());
    }

    #[tokio::test]
    async fn a_connection_that_breaks_inside_a_message_leaves_no_mail() {
        let mailbox = Mailbox::start().await.unwrap();
        let mut stream = TcpStream::connect(mailbox.smtp()).await.unwrap();
        stream
            .write_all(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: half\r\n")
            .await
            .unwrap();
        drop(stream);
        talk(&mailbox, &["NOOP", "QUIT"]).await;
        assert!(mailbox.mails().is_empty());
    }
}
