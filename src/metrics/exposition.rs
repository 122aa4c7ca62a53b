//! One scrape: a body that writes its next piece when the connection has room for it.
//!
//! It holds one snapshot from its first byte to its last, so a scrape shows one moment; its memory is one
//! piece, however many accounts there are; and a scraper that reads slowly costs that piece and nothing
//! else.

use super::{
    Metrics,
    accounts::COLUMNS,
    fleet::{Census, Totals, write_gauges, write_posts},
    negotiation::{Encoding, Format},
    process::Usage,
};
use crate::core::{Account, AccountId, PostsAtRisk, Snapshot, Timestamp};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use hyper::body::{Body, Frame};
use std::{
    convert::Infallible,
    io::Write as _,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// What a scrape shows beside the snapshot and the counters. Read once, when the scrape begins.
#[derive(Clone, Debug)]
pub struct Readings {
    /// The instant that ages and remaining lives are counted from.
    pub now: Timestamp,
    /// Attempts in the journal that have not been brought to their end.
    pub journal_entries: u64,
    /// Tokens that lie in the spill.
    pub spilled_tokens: u64,
    /// Tokens of accounts that their owners connected, which the store has not taken and the fleet knows nothing of.
    pub connected_unsaved: u64,
    /// Mails that are owed.
    pub outbox_length: u64,
    /// Notices that a cap on mails holds back.
    pub outbox_held: u64,
    /// Seconds by which the wall clock stepped without anybody confirming it.
    pub clock_unconfirmed_step: i64,
    /// What all replicas count together; `None` for a process that is alone.
    pub all_replicas: Option<Totals>,
    /// Posts of the publisher that wait; `None` while its tables do not tell.
    pub posts: Option<Arc<PostsAtRisk>>,
    /// The accounts of which posts wait; `None` where publishers cannot ask.
    pub posts_held: Option<Arc<Vec<(AccountId, u64)>>>,
    /// This process, where the kernel tells.
    pub process: Option<Usage>,
}

/// The text of one scrape, piece by piece.
pub struct Scrape {
    snapshot: Arc<Snapshot>,
    blocks: Vec<Arc<Vec<Account>>>,
    metrics: Metrics,
    readings: Readings,
    format: Format,
    per_account: bool,
    census: Census,
    stage: Stage,
}

/// What is written next.
enum Stage {
    Head,
    /// The rows of one block in one family. Families are outermost because both formats want the lines
    /// of a family together.
    Rows {
        column: usize,
        block: usize,
    },
    Tail,
    Done,
}

impl Scrape {
    /// Begins a scrape. With `per_account` off, accounts are only counted.
    #[must_use]
    pub fn new(
        snapshot: Arc<Snapshot>,
        metrics: Metrics,
        readings: Readings,
        format: Format,
        per_account: bool,
    ) -> Self {
        Self {
            blocks: snapshot.accounts.blocks(),
            snapshot,
            metrics,
            readings,
            format,
            per_account,
            census: Census::default(),
            stage: Stage::Head,
        }
    }

    /// Writes the next piece; false when that was the last. A piece may be empty.
    pub fn write_piece(&mut self, out: &mut Vec<u8>) -> bool {
        let end = out.len() + PIECE_BYTES;
        for _ in 0..BLOCKS_PER_PIECE_MAX {
            match self.stage {
                Stage::Head => self.write_head(out),
                Stage::Rows { column, block } => self.write_rows(out, column, block),
                Stage::Tail => self.write_tail(out),
                Stage::Done => return false,
            }
            if out.len() >= end {
                break;
            }
        }
        !matches!(self.stage, Stage::Done)
    }

    /// The whole text at once, for tests and benchmarks.
    #[must_use]
    pub fn write_all(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.write_piece(&mut out) {}
        out
    }

    fn write_head(&mut self, out: &mut Vec<u8>) {
        self.metrics.write(out, self.format);
        write_gauges(out, self.format, &self.snapshot, &self.readings);
        if let Some(usage) = self.readings.process {
            usage.write(out, self.format);
        }
        self.stage =
            if self.blocks.is_empty() { Stage::Tail } else { Stage::Rows { column: 0, block: 0 } };
    }

    fn write_rows(&mut self, out: &mut Vec<u8>, column: usize, block: usize) {
        let rows = &self.blocks[block];
        if column == 0 {
            self.census.add(rows, self.readings.now);
        }
        if self.per_account {
            if block == 0 {
                COLUMNS[column].write_header(out, self.format);
            }
            COLUMNS[column].write_rows(out, rows, self.readings.now);
        }
        self.stage = if block + 1 < self.blocks.len() {
            Stage::Rows { column, block: block + 1 }
        } else if self.per_account && column + 1 < COLUMNS.len() {
            Stage::Rows { column: column + 1, block: 0 }
        } else {
            Stage::Tail
        };
    }

    fn write_tail(&mut self, out: &mut Vec<u8>) {
        self.census.write(out, self.format, &self.snapshot);
        let alone = || self.census.totals(&self.snapshot);
        self.readings.all_replicas.unwrap_or_else(alone).write(out, self.format);
        write_posts(out, self.format, &self.snapshot, &self.readings, self.per_account);
        if self.format == Format::OpenMetrics {
            out.extend_from_slice(b"# EOF\n");
        }
        self.stage = Stage::Done;
    }
}

/// A scrape as the body of an answer.
pub struct ScrapeBody {
    /// `None` when the last piece is out.
    scrape: Option<Scrape>,
    /// The piece before it is compressed.
    piece: Vec<u8>,
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl ScrapeBody {
    /// The body of this scrape in this coding.
    #[must_use]
    pub fn new(scrape: Scrape, encoding: Encoding) -> Self {
        let gzip = match encoding {
            Encoding::Identity => None,
            Encoding::Gzip => Some(GzEncoder::new(Vec::new(), GZIP_LEVEL)),
        };
        Self { scrape: Some(scrape), piece: Vec::new(), gzip }
    }

    fn next_piece(&mut self) -> Option<Bytes> {
        let scrape = self.scrape.as_mut()?;
        self.piece.reserve(PIECE_BYTES + PIECE_BYTES_OVER);
        let more = scrape.write_piece(&mut self.piece);
        if !more {
            self.scrape = None;
        }
        let Some(gzip) = &mut self.gzip else {
            return Some(mem::take(&mut self.piece).into());
        };
        gzip.write_all(&self.piece).expect("a vector takes every byte");
        self.piece.clear();
        if !more {
            gzip.try_finish().expect("a vector takes every byte");
        }
        Some(mem::take(gzip.get_mut()).into())
    }
}

impl Body for ScrapeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        match this.next_piece() {
            None => Poll::Ready(None),
            // An empty chunk would end the body. Others get their turn before the next piece.
            Some(piece) if piece.is_empty() && this.scrape.is_some() => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(piece) if piece.is_empty() => Poll::Ready(None),
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
        }
    }
}

/// A piece is passed on when it has reached this size.
const PIECE_BYTES: usize = 64 * 1024;

/// By how much a block of long lines usually overshoots that.
const PIECE_BYTES_OVER: usize = 48 * 1024;

/// Blocks that are looked at before others get their turn, also when nothing is written.
const BLOCKS_PER_PIECE_MAX: usize = 64;

/// Level 1 is three to four times faster than the usual level 6; the text is so repetitive that it is
/// still an eighth of its size.
const GZIP_LEVEL: Compression = Compression::new(1);
