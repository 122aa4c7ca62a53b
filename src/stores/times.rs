//! Instants as publishers write them, and written back in the form in which they were found.
//!
//! Pure. A publisher compares the text it reads with its own parser, so a column that held
//! `2026-11-22 10:00:00.000` never gets `2026-11-22T12:00:00Z` from us.

use crate::{core::Timestamp, oauth::Token};
use std::{borrow::Cow, time::Duration};

/// How an instant was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A number of seconds since the epoch.
    Seconds,
    /// A number of milliseconds since the epoch.
    Millis,
    /// Text.
    Text(TextForm),
}

/// The outer shape of a date in text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextForm {
    /// Between date and time: `T` or a blank.
    separator: char,
    /// Digits after the decimal point; 0 is no point.
    fraction_digits: usize,
    /// What followed the seconds, with its digits made zero: ``, `Z`, `+00:00`.
    zone: String,
}

impl TextForm {
    /// What is written where no text was found: RFC 3339 in UTC.
    pub(super) fn rfc_3339() -> Self {
        Self { separator: 'T', fraction_digits: 0, zone: "Z".to_owned() }
    }

    /// What every database takes for a date, in UTC where the session says so.
    pub(super) fn of_database() -> Self {
        Self { separator: ' ', fraction_digits: 0, zone: String::new() }
    }

    /// The shape of `text`, which has been understood as a date before.
    fn of(text: &str) -> Self {
        let Some((separator, time)) = text.char_indices().nth(DATE_CHARS).map(|(at, separator)| {
            (separator, text.get(at + separator.len_utf8()..).unwrap_or_default())
        }) else {
            return Self::rfc_3339();
        };
        let seconds_end = time.find(|c: char| !c.is_ascii_digit() && c != ':');
        let rest = seconds_end.map_or("", |at| &time[at..]);
        let (fraction_digits, zone) = match rest.strip_prefix('.') {
            Some(fraction) => {
                let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
                (end, &fraction[end..])
            }
            None => (0, rest),
        };
        Self {
            separator: if separator == ' ' { ' ' } else { 'T' },
            fraction_digits: fraction_digits.min(FRACTION_DIGITS_MAX),
            zone: zone_in_utc(zone),
        }
    }

    /// `at` in this shape, in UTC.
    pub(super) fn write(&self, at: Timestamp) -> String {
        let when = jiff::Timestamp::from_second(at.as_unix())
            .expect("four bytes of seconds lie within jiff's range");
        let date = when.strftime("%Y-%m-%d");
        let time = when.strftime("%H:%M:%S");
        let fraction = match self.fraction_digits {
            0 => String::new(),
            digits => format!(".{}", "0".repeat(digits)),
        };
        format!("{date}{}{time}{fraction}{}", self.separator, self.zone)
    }
}

/// Reads a date in text: RFC 3339, or `YYYY-MM-DD HH:MM:SS[.fff]` which is UTC where it names no zone
/// (Prisma and Laravel write it so). A date of the year 9999 or later, which is how many write "never", is
/// the last instant there is, and so a sentinel.
pub(super) fn parse_text(text: &str) -> Option<(Timestamp, TextForm)> {
    let text = &*brought_near(text.trim());
    let seconds = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at.as_second(),
        Err(_) => {
            let local = text.parse::<jiff::civil::DateTime>().ok()?;
            local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second()
        }
    };
    Some((Timestamp::from_unix(seconds), TextForm::of(text)))
}

/// The same date in a year that the time library knows: it refuses the last two days of 9999, and all later
/// years. JavaScript writes these with a sign.
fn brought_near(text: &str) -> Cow<'_, str> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    match unsigned.split_once('-') {
        Some((year, rest))
            if year.bytes().all(|digit| digit.is_ascii_digit())
                && (year == "9999" || year.len() > 4) =>
        {
            format!("{LEAP_YEAR_FAR_AWAY}-{rest}").into()
        }
        _ => text.into(),
    }
}

/// What databases and their users write for "never" or "nobody knows".
pub(super) fn is_no_date(text: &str) -> bool {
    let text = text.trim();
    matches!(text, "" | "infinity" | "-infinity")
        || ["0000-00-00", LAST_OF_32_BITS].iter().any(|never| text.starts_with(never))
}

/// Reads a number of `units_per_second` since the epoch. Zero and less mean that nobody knew.
pub(super) fn from_number(number: i64, form: &Form) -> Result<Option<Timestamp>, &'static str> {
    let seconds = match form {
        Form::Millis => number.div_euclid(1_000),
        Form::Seconds if number > SECONDS_MAX => {
            return Err("is too large for seconds since the epoch; are these milliseconds?");
        }
        Form::Seconds | Form::Text(_) => number,
    };
    Ok((seconds > 0).then(|| Timestamp::from_unix(seconds)))
}

/// `token` without the ends that no provider ever declared. Publishers write such dates where they know
/// none: Postiz `now + 31 years`, others the year 9999. Believed, they would switch the refresh off.
pub(super) fn without_sentinels(mut token: Token) -> Token {
    token.expires_at = token.expires_at.filter(|end| {
        let life = token.issued_at.map(|issued| end.since(issued));
        *end < SENTINEL_FROM && life.is_none_or(|life| life <= ACCESS_LIFE_MAX)
    });
    token.refresh_expires_at = token.refresh_expires_at.filter(|end| *end < SENTINEL_FROM);
    token
}

fn zone_in_utc(zone: &str) -> String {
    zone.chars()
        .take(ZONE_CHARS_MAX)
        .map(|c| match c {
            '0'..='9' => '0',
            '-' => '+',
            other => other,
        })
        .collect()
}

/// The last date of MySQL's `timestamp`, which has 32 bits: written for an unknown end where `NULL` is
/// refused, and read as one.
pub(super) const LAST_OF_32_BITS: &str = "2038-01-19 03:14:07";
/// The same for every other kind of date.
pub(super) const LAST_OF_ALL: &str = "9999-12-31 23:59:59";
/// An access token is not believed to live longer than this; the longest that a provider declares is
/// 60 days, and a refresh token's year stays below it too.
const ACCESS_LIFE_MAX: Duration = Duration::from_secs(400 * 86_400);
/// Ends from here on (2050-01-01) are sentinels also where nobody recorded the issue time. The store is
/// not told what time it is, so this is a date: later than any declared end, earlier than any of the
/// sentinels seen.
const SENTINEL_FROM: Timestamp = Timestamp::from_unix(2_524_608_000);
/// Seconds beyond this (the year 5138) are milliseconds in the wrong column.
const SECONDS_MAX: i64 = 100_000_000_000;
/// Any year in which every day of every year exists.
const LEAP_YEAR_FAR_AWAY: &str = "9996";
/// Length of `YYYY-MM-DD`.
const DATE_CHARS: usize = 10;
const FRACTION_DIGITS_MAX: usize = 9;
/// Length of `+00:00`.
const ZONE_CHARS_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Secret;

    #[test]
    fn a_date_is_written_back_in_the_form_in_which_it_was_found() {
        let noon = Timestamp::from_unix(1_795_348_800);
        for (found, written) in [
            ("2026-11-22T10:00:00Z", "2026-11-22T12:00:00Z"),
            ("2026-11-22 10:00:00", "2026-11-22 12:00:00"),
            ("2026-11-22 10:00:00.250", "2026-11-22 12:00:00.000"),
            ("2026-11-22T10:00:00.123456Z", "2026-11-22T12:00:00.000000Z"),
            ("2026-11-22 05:00:00-05:00", "2026-11-22 12:00:00+00:00"),
            ("2026-11-22 10:00:00+00", "2026-11-22 12:00:00+00"),
            ("2026-11-22t10:00:00z", "2026-11-22T12:00:00z"),
        ] {
            let (at, form) = parse_text(found).unwrap_or_else(|| panic!("{found} is a date"));
            assert_eq!(at, Timestamp::from_unix(1_795_341_600), "{found}");
            assert_eq!(form.write(noon), written, "{found}");
            assert_eq!(parse_text(written).map(|(at, _)| at), Some(noon), "{written}");
        }
    }

    #[test]
    fn what_is_no_date_is_not_taken_for_one() {
        for text in ["", "soon", "2026-13-01 00:00:00", "1795341600", "2026-11-22T", "null"] {
            assert_eq!(parse_text(text), None, "{text}");
        }
    }

    #[test]
    fn a_date_too_far_away_to_be_meant_is_no_end_and_keeps_its_form() {
        let noon = Timestamp::from_unix(1_795_348_800);
        for (found, written) in [
            ("9999-12-31T23:59:59Z", "2026-11-22T12:00:00Z"),
            ("9999-12-31 23:59:59.999", "2026-11-22 12:00:00.000"),
            ("9999-12-30 12:00:00+14:00", "2026-11-22 12:00:00+00:00"),
            ("+010000-01-01T00:00:00.000Z", "2026-11-22T12:00:00.000Z"),
            ("294276-02-29 00:00:00+00", "2026-11-22 12:00:00+00"),
        ] {
            let (at, form) = parse_text(found).unwrap_or_else(|| panic!("{found} is a date"));
            assert_eq!(at, Timestamp::MAX, "{found}");
            assert_eq!(form.write(noon), written, "{found}");
        }
        for text in ["9999", "99999-13-01", "+2026-11-22", "99999-", "9999-12-31T25:00:00Z"] {
            assert_eq!(parse_text(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_of_the_wrong_size_and_unknown_ends_are_told_apart() {
        assert_eq!(from_number(0, &Form::Seconds), Ok(None));
        assert_eq!(from_number(-1, &Form::Millis), Ok(None));
        assert_eq!(from_number(1_500, &Form::Millis), Ok(Some(Timestamp::from_unix(1))));
        assert_eq!(from_number(60, &Form::Seconds), Ok(Some(Timestamp::from_unix(60))));
        assert!(from_number(1_795_341_600_000, &Form::Seconds).is_err());
    }

    #[test]
    fn an_end_that_no_provider_declares_is_unknown() {
        let day = 86_400;
        let now = 1_795_341_600;
        for (what, issued, end, believed) in [
            ("two hours", Some(now), now + 7_200, true),
            ("sixty days", Some(now), now + 60 * day, true),
            ("exactly the limit", Some(now), now + 400 * day, true),
            ("one second more", Some(now), now + 400 * day + 1, false),
            ("thirty-one years, issue unknown", None, now + 999_999_999, false),
            ("ten years, issue unknown", None, now + 3_650 * day, true),
        ] {
            let token = Token {
                access: Secret::new("invented".to_owned()),
                refresh: None,
                issued_at: issued.map(Timestamp::from_unix),
                expires_at: Some(Timestamp::from_unix(end)),
                refresh_expires_at: Some(Timestamp::MAX),
                scopes: None,
                subject: None,
            };
            let read = without_sentinels(token);
            assert_eq!(read.expires_at.is_some(), believed, "{what}");
            assert_eq!(read.refresh_expires_at, None, "{what}");
        }
    }
}
