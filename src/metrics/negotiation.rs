//! Which format and which coding a scraper wants (RFC 9110 sections 12.4.2, 12.5.1 and 12.5.3).
//!
//! A header that makes no sense gets the classic format, never an error: whoever scrapes by hand or
//! through a proxy must always see something.

/// A text format of the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own, version 0.0.4.
    Classic,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// gzip; every Prometheus asks for it.
    Gzip,
}

impl Format {
    /// The format for this `Accept` header. OpenMetrics is for those who name it: `*/*`, a browser and
    /// `promtool` get the classic one.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or("*/*");
        let open_metrics = quality(accept, |range| match range.name {
            name if name.eq_ignore_ascii_case("application/openmetrics-text") => {
                matches!(range.version, None | Some("1.0.0")).then_some(2)
            }
            _ => None,
        });
        let classic = quality(accept, |range| match range.name {
            name if name.eq_ignore_ascii_case("text/plain") => {
                matches!(range.version, None | Some("0.0.4")).then_some(2)
            }
            name if name.eq_ignore_ascii_case("text/*") => Some(1),
            "*/*" => Some(0),
            _ => None,
        });
        match open_metrics {
            Some(wanted) if wanted > 0 && wanted >= classic.unwrap_or(0) => Self::OpenMetrics,
            _ => Self::Classic,
        }
    }

    /// The `Content-Type` of an answer in this format.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Encoding {
    /// The coding for this `Accept-Encoding` header.
    #[must_use]
    pub fn negotiate(accept_encoding: Option<&str>) -> Self {
        let accept = accept_encoding.unwrap_or_default();
        let gzip = quality(accept, |range| match range.name {
            name if name.eq_ignore_ascii_case("gzip") => Some(1),
            name if name.eq_ignore_ascii_case("x-gzip") => Some(1),
            "*" => Some(0),
            _ => None,
        });
        let identity =
            quality(accept, |range| range.name.eq_ignore_ascii_case("identity").then_some(0));
        match gzip {
            Some(wanted) if wanted > 0 && wanted >= identity.unwrap_or(0) => Self::Gzip,
            _ => Self::Identity,
        }
    }
}

/// One entry of an `Accept` or `Accept-Encoding` header.
struct Range<'a> {
    name: &'a str,
    version: Option<&'a str>,
    /// In thousandths.
    quality: u16,
}

/// The quality in thousandths that the header gives to something; `None` when it does not mention it.
/// `specificity` says whether and how precisely an entry speaks of it: the most precise one counts, and
/// of equally precise ones the best.
fn quality(header: &str, specificity: impl Fn(&Range<'_>) -> Option<u8>) -> Option<u16> {
    header
        .split(',')
        .take(RANGES_MAX)
        .filter_map(Range::read)
        .filter_map(|range| Some((specificity(&range)?, range.quality)))
        .max()
        .map(|(_, quality)| quality)
}

impl<'a> Range<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let mut range = Self { name, version: None, quality: 1000 };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match key.trim() {
                key if key.eq_ignore_ascii_case("q") => range.quality = thousandths(value)?,
                key if key.eq_ignore_ascii_case("version") => range.version = Some(value),
                _ => {}
            }
        }
        Some(range)
    }
}

/// `0.75` as 750. An entry with anything else is left out, as if it were not there.
fn thousandths(q: &str) -> Option<u16> {
    let q: f32 = q.parse().ok()?;
    (0.0..=1.0).contains(&q).then_some((q * 1000.0) as u16)
}

/// Entries that are looked at; Prometheus sends five.
const RANGES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use Encoding::{Gzip, Identity};
    use Format::{Classic, OpenMetrics};

    const PROMETHEUS_2_42: &str = "application/openmetrics-text;version=1.0.0,\
        application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
        application/openmetrics-text;version=0.0.1;q=0.5,\
        text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    const PROMETHEUS_3_WITH_PROTOBUF: &str = "application/vnd.google.protobuf;\
        proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
        application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        let cases = [
            (None, Classic),
            (Some(""), Classic),
            (Some("*/*"), Classic),
            (Some("text/plain"), Classic),
            (Some("text/*;q=0.1"), Classic),
            (Some("application/json"), Classic),
            (Some(BROWSER), Classic),
            (Some(",;;q=,=,\u{1}"), Classic),
            (Some("application/openmetrics-text;q=banana"), Classic),
            (Some("application/openmetrics-text;q=-1"), Classic),
            (Some("application/openmetrics-text;q=0"), Classic),
            (Some("application/openmetrics-text;q=0.2, text/plain;q=0.9"), Classic),
            (Some("application/openmetrics-text;version=2.0.0"), Classic),
            (Some("application/openmetrics-text;version=0.0.1"), Classic),
            (Some("application/openmetrics-text"), OpenMetrics),
            (Some("Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=1"), OpenMetrics),
            (Some("application/openmetrics-text; version=1.0.0; charset=utf-8"), OpenMetrics),
            (Some("text/plain;q=0.5, application/openmetrics-text;q=0.9"), OpenMetrics),
            // The precise entry counts, not the wildcard beside it.
            (Some("application/openmetrics-text;q=0.4,text/plain;q=0.3,*/*"), OpenMetrics),
            (Some(PROMETHEUS_2_42), OpenMetrics),
            (Some(PROMETHEUS_3), OpenMetrics),
            (Some(PROMETHEUS_3_WITH_PROTOBUF), OpenMetrics),
        ];
        for (accept, expected) in cases {
            assert_eq!(Format::negotiate(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        let cases = [
            (None, Identity),
            (Some(""), Identity),
            (Some("br, zstd"), Identity),
            (Some("identity"), Identity),
            (Some("gzip;q=0"), Identity),
            (Some("gzip;q=0.000, *"), Identity),
            (Some("gzip;q=0.5, identity"), Identity),
            (Some("gzip;q=2"), Identity),
            (Some("gzip"), Gzip),
            (Some("GZIP"), Gzip),
            (Some("x-gzip"), Gzip),
            (Some("*"), Gzip),
            (Some("deflate, gzip;q=1.0, *;q=0.5"), Gzip),
            (Some("gzip, deflate, br"), Gzip),
        ];
        for (accept, expected) in cases {
            assert_eq!(Encoding::negotiate(accept), expected, "{accept:?}");
        }
    }
}
