//! The words of a mail that depend on the cause: its subject line, and what has become of the posts.
//!
//! Everything here is constant text; what comes from outside (names, codes, permissions) passes
//! [`shown`] first, so that it can neither end a line nor hide another.

use crate::core::{Cause, Timestamp};
use jiff::tz::TimeZone;
use std::time::Duration;

/// What has become of the posts while a cause holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Posts {
    /// The present token works until it ends.
    GoOutUntil(Timestamp),
    /// The gate is held at once, and a publisher that does not ask meets a dead token now, or then at the latest.
    WaitOrFail(Timestamp),
    /// Those that need the missing permission fail.
    LackPermission,
    /// None goes out.
    Stopped,
    /// They wait, although the connection works.
    Held,
    /// The token works, and nobody declared when it ends.
    GoOutForNow,
}

impl Posts {
    /// What `cause` means for the posts at `now`, with a token that ends at `expires_at`.
    pub(super) fn under(cause: Cause, expires_at: Option<Timestamp>, now: Timestamp) -> Self {
        if expires_at.is_some_and(|end| end <= now) {
            return Self::Stopped;
        }
        match (cause, expires_at) {
            (Cause::ScopeMissing, _) => Self::LackPermission,
            // A provider that forgets the connection usually forgets the access token with it,
            // whatever end that token declared.
            (Cause::AccessTokenExpired | Cause::ConsentRevoked | Cause::WrongEnvironment, _) => {
                Self::Stopped
            }
            (
                Cause::RefreshTokenExpired
                | Cause::RefreshTokenRejected
                | Cause::RotationLost
                | Cause::UnsavedToken,
                end,
            ) => end.map_or(Self::Stopped, Self::WaitOrFail),
            (_, Some(end)) => Self::GoOutUntil(end),
            (_, None) => Self::GoOutForNow,
        }
    }

    /// In words, with instants as they are in `zone`.
    pub(super) fn sentence(self, now: Timestamp, zone: &TimeZone) -> String {
        match self {
            Self::GoOutUntil(end) => format!(
                "Posts still go out until {} ({} from now).",
                readable(end, zone),
                roughly(end.since(now))
            ),
            Self::WaitOrFail(end) => format!(
                "Posts wait or fail until this is mended; what is left of the connection ends on {} ({} from now).",
                readable(end, zone),
                roughly(end.since(now))
            ),
            Self::LackPermission => {
                "Posts that need this permission are not going out now.".to_owned()
            }
            Self::Stopped => "Posts are not going out now.".to_owned(),
            Self::Held => "Posts are held until it does.".to_owned(),
            Self::GoOutForNow => "Posts still go out; how long they will is not known.".to_owned(),
        }
    }
}

/// The few words of the subject line. They depend on the cause alone: the resolved mail must carry the
/// same line, or mail programs do not put the two together.
pub(super) const fn short(cause: Cause) -> &'static str {
    match cause {
        Cause::AccessTokenExpired => "connection expired",
        Cause::RefreshTokenExpired => "connection ended, please reconnect",
        Cause::RefreshTokenRejected | Cause::RotationLost => "connection lost, please reconnect",
        Cause::ConsentRevoked => "permission withdrawn, please reconnect",
        Cause::ScopeMissing => "a permission is missing, please reconnect",
        Cause::AppCredentialsRejected => "the provider refuses the app",
        Cause::RedirectUriMismatch => "redirect URI is not the registered one",
        Cause::WrongEnvironment => "token of another account or environment",
        Cause::RateLimited => "the provider asks to wait",
        Cause::ProviderOutage => "the provider does not answer",
        Cause::ClockDrift => "the clock is wrong",
        Cause::StoreUnreachable => "cannot be read or written",
        Cause::UnsavedToken => "a new token is not saved yet",
        Cause::NotRenewable => "connection ends soon, please reconnect",
        Cause::Unknown => "renewing fails",
    }
}

/// `22 November 2026, 11:31 CET (10:31 UTC)`.
pub(super) fn readable(at: Timestamp, zone: &TimeZone) -> String {
    let instant = jiff::Timestamp::from_second(at.as_unix())
        .expect("a timestamp of four bytes lies inside the calendar");
    let (there, utc) = (instant.to_zoned(zone.clone()), instant.to_zoned(TimeZone::UTC));
    let first = there.strftime("%-d %B %Y, %H:%M %Z");
    if there.offset() == utc.offset() {
        return utc.strftime("%-d %B %Y, %H:%M UTC").to_string();
    }
    let shape = if there.date() == utc.date() { "%H:%M UTC" } else { "%-d %B, %H:%M UTC" };
    format!("{first} ({})", utc.strftime(shape))
}

/// `about 3 hours`: one unit, rounded, as a person would say it.
pub(super) fn roughly(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")];
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| seconds >= *unit) else {
        return "less than a minute".to_owned();
    };
    match (seconds + unit / 2) / unit {
        1 => format!("about 1 {name}"),
        many => format!("about {many} {name}s"),
    }
}

/// `text` from outside, made fit to be shown: one line, nothing invisible that reorders or hides the
/// rest, and no longer than `chars_max`.
pub(super) fn shown(text: &str, chars_max: usize) -> String {
    let mut clean: String =
        text.chars().take(chars_max).map(|c| if is_hidden(c) { REPLACEMENT } else { c }).collect();
    if text.chars().nth(chars_max).is_some() {
        clean.pop();
        clean.push('…');
    }
    clean
}

/// Control characters end header lines; separators end text lines; directional overrides show a
/// different name than the one that is meant (CVE-2021-42574); tags and zero-width spaces show nothing.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{00ad}' | '\u{feff}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

const REPLACEMENT: char = '\u{fffd}';
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_posts_depends_on_the_cause_and_on_the_token() {
        let now = Timestamp::from_unix(1_000_000);
        let later = now.plus(Duration::from_secs(3600));
        let cases = [
            (Cause::AppCredentialsRejected, Some(later), Posts::GoOutUntil(later)),
            (Cause::NotRenewable, Some(later), Posts::GoOutUntil(later)),
            (Cause::RefreshTokenExpired, Some(later), Posts::WaitOrFail(later)),
            (Cause::RefreshTokenExpired, None, Posts::Stopped),
            (Cause::RefreshTokenRejected, Some(later), Posts::WaitOrFail(later)),
            (Cause::RotationLost, Some(later), Posts::WaitOrFail(later)),
            (Cause::ConsentRevoked, Some(later), Posts::Stopped),
            (Cause::ScopeMissing, Some(later), Posts::LackPermission),
            (Cause::ScopeMissing, Some(now), Posts::Stopped),
            (Cause::ProviderOutage, None, Posts::GoOutForNow),
            // The exact end is over.
            (Cause::ProviderOutage, Some(now), Posts::Stopped),
        ];
        for (cause, expires_at, expected) in cases {
            assert_eq!(Posts::under(cause, expires_at, now), expected, "{cause:?} {expires_at:?}");
        }
    }

    #[test]
    fn instants_and_durations_read_as_a_person_writes_them() {
        let at = Timestamp::from_unix(1_795_343_460);
        let cases = [
            ("UTC", "22 November 2026, 10:31 UTC"),
            ("Europe/Berlin", "22 November 2026, 11:31 CET (10:31 UTC)"),
            ("America/Sao_Paulo", "22 November 2026, 07:31 -03 (10:31 UTC)"),
            ("Pacific/Auckland", "22 November 2026, 23:31 NZDT (10:31 UTC)"),
            ("Pacific/Kiritimati", "23 November 2026, 00:31 +14 (22 November, 10:31 UTC)"),
            ("Africa/Abidjan", "22 November 2026, 10:31 UTC"),
        ];
        for (zone, expected) in cases {
            assert_eq!(readable(at, &TimeZone::get(zone).unwrap()), expected, "{zone}");
        }
        let cases = [
            (0, "less than a minute"),
            (60, "about 1 minute"),
            (5_399, "about 1 hour"),
            (5_400, "about 2 hours"),
            (3 * DAY + 1, "about 3 days"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(roughly(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn text_from_outside_stays_on_its_line_and_in_its_order() {
        let cases = [
            ("brand-a", "brand-a"),
            ("x\r\nBcc: a@b", "x\u{fffd}\u{fffd}Bcc: a@b"),
            ("nul\0\u{85}\u{2028}x", "nul\u{fffd}\u{fffd}\u{fffd}x"),
            ("evil\u{202e}txt.exe\u{2066}", "evil\u{fffd}txt.exe\u{fffd}"),
            ("חשבון שלי", "חשבון שלי"),
            ("👩‍👩‍👧 studio", "👩‍👩‍👧 studio"),
            ("0123456789", "0123456789"),
            ("01234567890", "012345678…"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text, 10.max(expected.chars().count())), expected, "{text:?}");
        }
        assert_eq!(shown(&"x".repeat(10 * 1024), 64).chars().count(), 64);
    }
}
