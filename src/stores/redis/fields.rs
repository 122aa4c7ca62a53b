//! The fields of a hash: accounts out of them, new values into them. Pure.
//!
//! Redis knows only bytes, so numbers and truth are read from text here.

use crate::{
    core::{AccountId, Secret, Timestamp},
    oauth::Token,
    stores::{
        Care, StoredAccount, effective_refresh, is_absent, scopes_from_text, scopes_to_text,
        sqlite::{StatusColumn, TimeColumn, TimeUnit},
        times::{self, Form, TextForm},
    },
};
use zeroize::Zeroizing;

/// What the fields are called. Fields that are not named here are never touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The access token, plain text.
    pub access_token: String,
    /// The refresh token; `None` where the access token is all there is.
    pub refresh_token: Option<String>,
    /// When the access token ends.
    pub expires_at: Option<TimeColumn>,
    /// When the refresh token ends.
    pub refresh_expires_at: Option<TimeColumn>,
    /// When the token was issued.
    pub issued_at: Option<TimeColumn>,
    /// Granted scopes, separated by blanks or commas, or a JSON list.
    pub scopes: Option<String>,
    /// The provider's id of the account (`open_id`).
    pub subject: Option<String>,
    /// The app's name in our configuration.
    pub app: Option<String>,
    /// The owner's mail address.
    pub owner: Option<String>,
    /// A field that is true (not empty, 0, f, false, n or no) for accounts to be kept. A hash without
    /// it is one to be kept.
    pub enabled: Option<String>,
    /// A status field and its two values.
    pub status: Option<StatusColumn>,
}

impl Fields {
    /// Our own layout.
    #[must_use]
    pub fn simple() -> Self {
        let columns = crate::stores::sqlite::Columns::simple();
        Self {
            access_token: columns.access_token,
            refresh_token: columns.refresh_token,
            expires_at: columns.expires_at,
            refresh_expires_at: columns.refresh_expires_at,
            issued_at: columns.issued_at,
            scopes: columns.scopes,
            subject: columns.subject,
            app: columns.app,
            owner: columns.owner,
            enabled: columns.enabled,
            status: columns.status,
        }
    }

    /// Every name, in the order of the settings.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let status = self.status.as_ref().map(|status| &*status.name);
        (0..SLOTS).filter_map(|slot| self.name(slot)).chain(status).collect()
    }

    /// The names that are read, in the order in which [`Raw::of`] takes their values.
    pub(super) fn read_names(&self) -> Vec<&str> {
        (0..SLOTS).filter_map(|slot| self.name(slot)).collect()
    }

    pub(super) fn name(&self, slot: usize) -> Option<&str> {
        match slot {
            ACCESS => Some(&self.access_token),
            REFRESH => self.refresh_token.as_deref(),
            EXPIRES_AT => self.expires_at.as_ref().map(|time| &*time.name),
            REFRESH_EXPIRES_AT => self.refresh_expires_at.as_ref().map(|time| &*time.name),
            ISSUED_AT => self.issued_at.as_ref().map(|time| &*time.name),
            SCOPES => self.scopes.as_deref(),
            SUBJECT => self.subject.as_deref(),
            APP => self.app.as_deref(),
            OWNER => self.owner.as_deref(),
            _ => self.enabled.as_deref(),
        }
    }
}

/// The fields of one hash as they stand there; `None` where a field is not there, or not mapped.
#[derive(Clone, Default)]
pub(super) struct Raw([Option<Zeroizing<Vec<u8>>>; SLOTS]);

/// One field that must change; without a value it is deleted.
pub(super) struct Change {
    pub(super) slot: usize,
    pub(super) value: Option<Zeroizing<String>>,
}

/// What is wrong in a hash, before anybody says which one.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) field: String,
    pub(super) reason: String,
}

impl Raw {
    /// From the values of [`Fields::read_names`], in their order.
    pub(super) fn of(fields: &Fields, values: Vec<Option<Vec<u8>>>) -> Self {
        let mut raw = Self::default();
        let slots = (0..SLOTS).filter(|slot| fields.name(*slot).is_some());
        for (slot, value) in slots.zip(values) {
            raw.0[slot] = value.map(Zeroizing::new);
        }
        raw
    }

    /// Everything, to be hashed.
    pub(super) fn values(&self) -> [Option<&[u8]>; SLOTS] {
        std::array::from_fn(|slot| self.value(slot))
    }

    /// True when none of the mapped fields is there.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    pub(super) fn value(&self, slot: usize) -> Option<&[u8]> {
        self.0[slot].as_ref().map(|value| value.as_slice())
    }

    /// What stands there once `changes` are made.
    pub(super) fn with(mut self, changes: &[Change]) -> Self {
        for change in changes {
            let bytes = |text: &Zeroizing<String>| Zeroizing::new(text.as_bytes().to_vec());
            self.0[change.slot] = change.value.as_ref().map(bytes);
        }
        self
    }

    /// The account that these fields describe.
    pub(super) fn read(
        &self,
        fields: &Fields,
        id: AccountId,
        care: Care,
    ) -> Result<StoredAccount, Fault> {
        let access = self.text(fields, ACCESS)?;
        let refresh = self.text(fields, REFRESH)?;
        let at = |slot, column: &Option<TimeColumn>| {
            care.beside_token(self.instant(slot, column.as_ref())).map(|(at, _)| at)
        };
        let issued_at = at(ISSUED_AT, &fields.issued_at)?;
        let expires_at = at(EXPIRES_AT, &fields.expires_at)?;
        let refresh_expires_at = at(REFRESH_EXPIRES_AT, &fields.refresh_expires_at)?;
        let scopes = care.beside_token(self.text(fields, SCOPES))?.and_then(scopes_from_text);
        let subject = care.beside_token(self.present(fields, SUBJECT))?.map(str::to_owned);
        let token = access.filter(|access| !is_absent(access)).map(|access| {
            times::without_sentinels(Token {
                access: Secret::new(access.to_owned()),
                refresh: refresh
                    .filter(|refresh| !is_absent(refresh))
                    .map(|refresh| Secret::new(refresh.to_owned())),
                issued_at,
                expires_at,
                refresh_expires_at,
                scopes,
                subject: subject.clone(),
            })
        });
        Ok(StoredAccount {
            id,
            subject,
            app: care.beside_token(self.present(fields, APP))?.map(Into::into),
            owner: care
                .beside_token(self.text(fields, OWNER))?
                .filter(|owner| !owner.trim().is_empty())
                .map(|owner| Secret::new(owner.to_owned())),
            token,
            enabled: self.value(ENABLED).is_none_or(is_true),
        })
    }

    /// What must change so that a hash that reads as `stored` holds `new`.
    pub(super) fn changes(
        &self,
        fields: &Fields,
        stored: &StoredAccount,
        new: &Token,
    ) -> Vec<Change> {
        let old = stored.token.as_ref();
        let mut changes = Vec::new();
        let mut put = |slot: usize, value: Option<String>| {
            if fields.name(slot).is_some() {
                changes.push(Change { slot, value: value.map(Zeroizing::new) });
            }
        };
        if old.is_none_or(|old| old.access != new.access) {
            put(ACCESS, Some(new.access.expose().to_owned()));
        }
        if let Some(refresh) = effective_refresh(new, old)
            && old.and_then(|old| old.refresh.as_ref()) != Some(refresh)
        {
            put(REFRESH, Some(refresh.expose().to_owned()));
        }
        let instants = [
            (EXPIRES_AT, &fields.expires_at, old.and_then(|old| old.expires_at), new.expires_at),
            (
                REFRESH_EXPIRES_AT,
                &fields.refresh_expires_at,
                old.and_then(|old| old.refresh_expires_at),
                new.refresh_expires_at,
            ),
            (ISSUED_AT, &fields.issued_at, old.and_then(|old| old.issued_at), new.issued_at),
        ];
        for (slot, column, old_at, new_at) in instants {
            if let Some(column) = column
                && old_at != new_at
            {
                let form = self.instant(slot, Some(column)).ok().and_then(|(_, form)| form);
                // An unknown end is no field: the old token's end would make the new one look expired.
                put(slot, new_at.map(|at| instant_text(column.unit, at, form)));
            }
        }
        if let Some(granted) = &new.scopes
            && old.and_then(|old| old.scopes.as_ref()) != Some(granted)
        {
            let before = self.text(fields, SCOPES).ok().flatten();
            put(SCOPES, Some(scopes_to_text(granted, before)));
        }
        // A field that is deleted where it never was is no change.
        changes.retain(|change| {
            change.value.as_ref().map(|value| value.as_bytes()) != self.value(change.slot)
        });
        changes
    }

    fn text(&self, fields: &Fields, slot: usize) -> Result<Option<&str>, Fault> {
        let Some(bytes) = self.value(slot) else { return Ok(None) };
        std::str::from_utf8(bytes).map(Some).map_err(|_| Fault {
            field: fields.name(slot).unwrap_or_default().to_owned(),
            reason: "holds text that is not UTF-8".to_owned(),
        })
    }

    fn present(&self, fields: &Fields, slot: usize) -> Result<Option<&str>, Fault> {
        Ok(self.text(fields, slot)?.filter(|text| !text.is_empty()))
    }

    /// An instant and how it was written.
    fn instant(
        &self,
        slot: usize,
        column: Option<&TimeColumn>,
    ) -> Result<(Option<Timestamp>, Option<Form>), Fault> {
        let (Some(column), Some(bytes)) = (column, self.value(slot)) else {
            return Ok((None, None));
        };
        let wrong = |reason: &str| Fault { field: column.name.clone(), reason: reason.to_owned() };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("holds text that is not UTF-8"))?;
        let text = text.trim();
        if is_absent(text) {
            return Ok((None, None));
        }
        let form = match column.unit {
            TimeUnit::UnixSeconds => Form::Seconds,
            TimeUnit::UnixMillis => Form::Millis,
            TimeUnit::Text => {
                return times::parse_text(text)
                    .map(|(at, form)| (Some(at), Some(Form::Text(form))))
                    .ok_or_else(|| wrong(match text.parse::<f64>() {
                        Ok(_) => "must hold a date, found a number; is its unit seconds or milliseconds?",
                        Err(_) => "must hold a date such as 2026-11-22T12:00:00Z or 2026-11-22 12:00:00",
                    }));
            }
        };
        let number = text
            .parse::<i64>()
            .ok()
            .or_else(|| text.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| n as i64))
            .ok_or_else(|| wrong("must hold a number, found other text; is its unit `text`?"))?;
        Ok((times::from_number(number, &form).map_err(wrong)?, Some(form)))
    }
}

/// Every field of an account that is added; nothing is left out, nothing is blank.
pub(super) fn of_new(fields: &Fields, account: &StoredAccount) -> Vec<(String, Zeroizing<String>)> {
    let mut values: Vec<(String, Zeroizing<String>)> = Vec::new();
    let mut put = |slot: usize, value: Option<String>| {
        if let (Some(name), Some(value)) = (fields.name(slot), value) {
            values.push((name.to_owned(), Zeroizing::new(value)));
        }
    };
    put(APP, account.app.as_deref().map(str::to_owned));
    put(OWNER, account.owner.as_ref().map(|owner| owner.expose().to_owned()));
    // A hash without fields does not exist.
    put(ENABLED, Some(if account.enabled { "1" } else { "0" }.to_owned()));
    if let Some(token) = &account.token {
        put(ACCESS, Some(token.access.expose().to_owned()));
        put(REFRESH, effective_refresh(token, None).map(|refresh| refresh.expose().to_owned()));
        put(SUBJECT, token.subject.clone());
        put(SCOPES, token.scopes.as_ref().map(|scopes| scopes_to_text(scopes, None)));
        let instants = [
            (EXPIRES_AT, &fields.expires_at, token.expires_at),
            (REFRESH_EXPIRES_AT, &fields.refresh_expires_at, token.refresh_expires_at),
            (ISSUED_AT, &fields.issued_at, token.issued_at),
        ];
        for (slot, column, at) in instants {
            if let Some(column) = column {
                put(slot, at.map(|at| instant_text(column.unit, at, None)));
            }
        }
    } else {
        put(ACCESS, Some(String::new()));
    }
    if let Some(status) = &fields.status {
        values.push((status.name.clone(), Zeroizing::new(status.connected.clone())));
    }
    values
}

fn instant_text(unit: TimeUnit, at: Timestamp, form: Option<Form>) -> String {
    match (unit, form) {
        (TimeUnit::UnixSeconds, _) => at.as_unix().to_string(),
        (TimeUnit::UnixMillis, _) => (at.as_unix() * 1_000).to_string(),
        (TimeUnit::Text, Some(Form::Text(form))) => form.write(at),
        (TimeUnit::Text, _) => TextForm::rfc_3339().write(at),
    }
}

fn is_true(value: &[u8]) -> bool {
    let text = value.trim_ascii().to_ascii_lowercase();
    !matches!(text.as_slice(), b"" | b"0" | b"f" | b"false" | b"n" | b"no")
}

pub(super) const ACCESS: usize = 0;
pub(super) const REFRESH: usize = 1;
const EXPIRES_AT: usize = 2;
const REFRESH_EXPIRES_AT: usize = 3;
const ISSUED_AT: usize = 4;
const SCOPES: usize = 5;
const SUBJECT: usize = 6;
const APP: usize = 7;
const OWNER: usize = 8;
const ENABLED: usize = 9;
const SLOTS: usize = 10;
