//! A token as the journal keeps it.

use super::{
    seal::{Context, Sealer},
    writer::Refusal,
};
use crate::{
    core::{AccountId, Secret, Timestamp},
    oauth::Token,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Seals `token` for the account it belongs to.
pub(super) fn seal(sealer: &Sealer, id: &AccountId, token: &Token) -> Result<Vec<u8>, Refusal> {
    let refresh = token.refresh.as_ref().map(Secret::expose);
    // Large enough at once: a buffer that grows leaves copies behind which nobody wipes.
    let capacity = 2 * (token.access.expose().len() + refresh.map_or(0, str::len)) + 4_096;
    let mut text = Zeroizing::new(Vec::with_capacity(capacity));
    let plain = PlainToken {
        access: token.access.expose(),
        refresh,
        issued_at: token.issued_at.map(Timestamp::as_unix),
        expires_at: token.expires_at.map(Timestamp::as_unix),
        refresh_expires_at: token.refresh_expires_at.map(Timestamp::as_unix),
        scopes: token.scopes.as_deref(),
        subject: token.subject.as_deref(),
    };
    serde_json::to_writer(&mut *text, &plain).expect("numbers and texts are always JSON");
    sealer.seal(Context::token(id), &text)
}

/// Opens what [`seal`] sealed.
pub(super) fn open(sealer: &Sealer, id: &AccountId, record: &[u8]) -> Result<Token, Refusal> {
    let text = sealer.open(Context::token(id), record)?;
    let opened: OpenedToken = serde_json::from_slice(&text).map_err(|_| {
        Refusal::Damaged(
            "a token in its journal is of a newer version; run that version".to_owned(),
        )
    })?;
    Ok(Token {
        access: Secret::new(opened.access),
        refresh: opened.refresh.map(Secret::new),
        issued_at: opened.issued_at.map(Timestamp::from_unix),
        expires_at: opened.expires_at.map(Timestamp::from_unix),
        refresh_expires_at: opened.refresh_expires_at.map(Timestamp::from_unix),
        scopes: opened.scopes,
        subject: opened.subject,
    })
}

/// Written: borrows, so that no second copy of the secrets is made.
#[derive(Serialize)]
struct PlainToken<'a> {
    access: &'a str,
    refresh: Option<&'a str>,
    issued_at: Option<i64>,
    expires_at: Option<i64>,
    refresh_expires_at: Option<i64>,
    scopes: Option<&'a [String]>,
    subject: Option<&'a str>,
}

/// Read: owns, and each text becomes a secret at once.
#[derive(Deserialize)]
struct OpenedToken {
    access: String,
    refresh: Option<String>,
    issued_at: Option<i64>,
    expires_at: Option<i64>,
    refresh_expires_at: Option<i64>,
    scopes: Option<Vec<String>>,
    subject: Option<String>,
}
