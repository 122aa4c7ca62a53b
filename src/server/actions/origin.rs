//! Which page of which site sent a request.
//!
//! A browser says so itself, and no page can make it say otherwise: by `Sec-Fetch-Site` where the connection is one that
//! can be trusted, by `Origin` with every form. What says neither was not sent by one of our forms.

use hyper::{
    HeaderMap,
    header::{HOST, ORIGIN},
};

/// True when one of our own pages sent it.
pub(super) fn is_ours(headers: &HeaderMap) -> bool {
    let one = |name: &str| {
        let mut all = headers.get_all(name).iter();
        let first = all.next().filter(|_| all.next().is_none());
        first.and_then(|value| value.to_str().ok())
    };
    if headers.contains_key(SEC_FETCH_SITE) {
        return one(SEC_FETCH_SITE) == Some("same-origin");
    }
    // A page in a sandbox, or one that hides where it is, says `null`.
    match (one(ORIGIN.as_str()).and_then(host_of), one(HOST.as_str())) {
        (Some(from), Some(to)) => from.eq_ignore_ascii_case(to),
        _ => false,
    }
}

/// True when the browser reached us by TLS, whoever ended that on the way.
pub(super) fn is_https(headers: &HeaderMap) -> bool {
    headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

fn host_of(origin: &str) -> Option<&str> {
    origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"))
}

const SEC_FETCH_SITE: &str = "sec-fetch-site";

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderName;

    #[test]
    fn only_a_page_of_ours_is_ours() {
        let (site, origin, host) = ("sec-fetch-site", "origin", "host");
        let ours = ("host", "keepalive.example:8640");
        type Headers = [(&'static str, &'static str)];
        let cases: [(&str, &Headers, bool); 15] = [
            (
                "a browser that says both",
                &[ours, (site, "same-origin"), (origin, "http://keepalive.example:8640")],
                true,
            ),
            (
                "behind a proxy that names another host",
                &[
                    (host, "127.0.0.1:8640"),
                    (site, "same-origin"),
                    (origin, "https://keepalive.example"),
                ],
                true,
            ),
            (
                "one that only says the origin",
                &[ours, (origin, "http://keepalive.example:8640")],
                true,
            ),
            ("the same in capitals", &[ours, (origin, "https://Keepalive.Example:8640")], true),
            (
                "another site",
                &[ours, (site, "cross-site"), (origin, "https://evil.example")],
                false,
            ),
            (
                "another site that claims our origin",
                &[ours, (site, "cross-site"), (origin, "http://keepalive.example:8640")],
                false,
            ),
            ("a neighbour", &[ours, (site, "same-site"), (origin, "http://other.example")], false),
            ("typed by a person", &[ours, (site, "none")], false),
            (
                "another site, said by the origin alone",
                &[ours, (origin, "https://evil.example")],
                false,
            ),
            ("another port", &[ours, (origin, "http://keepalive.example:8641")], false),
            (
                "a longer name",
                &[ours, (origin, "http://keepalive.example:8640.evil.example")],
                false,
            ),
            ("nobody knows from where", &[ours, (origin, "null")], false),
            (
                "two origins",
                &[
                    ours,
                    (origin, "http://keepalive.example:8640"),
                    (origin, "https://evil.example"),
                ],
                false,
            ),
            ("two sites", &[ours, (site, "same-origin"), (site, "cross-site")], false),
            ("no browser", &[ours], false),
        ];
        for (case, headers, expected) in cases {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            assert_eq!(is_ours(&map), expected, "{case}");
        }
    }
}
