//! Where a person may come back to: each provider's rules for redirect URIs.
//!
//! Providers compare what is sent with what is registered character by character (RFC 9700 section 2.1), so it is
//! looked at here before anybody is sent anywhere.

use super::{
    check::{Checked, wrong},
    schema::{RedirectForm, SchemeWord},
};
use reqwest::Url;
use std::net::IpAddr;

/// The rules for one kind of app.
#[derive(Debug)]
pub(super) struct Rules(RedirectForm);

impl Rules {
    pub(super) fn checked(at: &str, form: RedirectForm) -> Checked<Self> {
        if form.schemes.is_empty() {
            return wrong(&format!("{at}.schemes"), "is empty; expected `https`, `http` or both");
        }
        if form.characters_max == 0 || form.characters_max > super::schema::CHARACTERS_MAX {
            let most = super::schema::CHARACTERS_MAX;
            return wrong(&format!("{at}.characters_max"), format!("expected 1 to {most}"));
        }
        Ok(Self(form))
    }

    pub(super) fn ends_with(&self) -> Option<&str> {
        self.0.ends_with.as_deref()
    }

    pub(super) const fn takes_any_loopback_port(&self) -> bool {
        self.0.any_loopback_port
    }

    /// One sentence for each rule that is broken.
    pub(super) fn faults(&self, uri: &str) -> Vec<String> {
        let Ok(url) = Url::parse(uri) else {
            return vec!["is not an absolute URL".to_owned()];
        };
        let mut faults = everywhere(uri, &url);
        self.of_scheme_and_host(&url, &mut faults);
        let form = &self.0;
        if form.port_required && url.port().is_none() {
            faults.push("has no port, and this provider wants one".to_owned());
        }
        if !form.query && url.query().is_some() {
            faults.push("has a query (`?…`), which this provider does not take".to_owned());
        }
        if let Some(end) = form.ends_with.as_deref().filter(|end| !uri.ends_with(end)) {
            faults.push(format!("does not end in `{end}`, as this provider wants it"));
        }
        let length = uri.chars().count();
        if length > form.characters_max {
            faults.push(format!(
                "has {length} characters, and this provider takes at most {}",
                form.characters_max
            ));
        }
        faults
    }

    fn of_scheme_and_host(&self, url: &Url, faults: &mut Vec<String>) {
        let form = &self.0;
        let host = url.host_str().unwrap_or_default();
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let is_localhost = host == "localhost";
        let is_loopback = is_localhost || address.is_some_and(|address| address.is_loopback());
        let allowed = match url.scheme() {
            "https" => form.schemes.contains(&SchemeWord::Https),
            "http" => {
                form.schemes.contains(&SchemeWord::Http) || (form.loopback_http && is_loopback)
            }
            _ => false,
        };
        if !allowed {
            let wanted = match (&form.schemes[..], form.loopback_http) {
                ([SchemeWord::Https], true) => "https, or http to this machine",
                ([SchemeWord::Https], false) => "https",
                ([SchemeWord::Http], _) => "http",
                _ => "https or http",
            };
            faults
                .push(format!("begins with {}://, and this provider takes {wanted}", url.scheme()));
        }
        if !form.hosts.is_empty() && !form.hosts.iter().any(|known| known == host) {
            let hosts = form.hosts.join(" or ");
            faults.push(format!("has the host {host}, and this provider takes {hosts} only"));
        }
        if is_localhost && !form.localhost {
            faults.push(
                "has the host localhost, which this provider refuses; write 127.0.0.1".to_owned(),
            );
        }
        if address.is_some() && !is_loopback && !form.raw_ip {
            faults.push(
                "has an address in figures, which this provider takes for this machine only"
                    .to_owned(),
            );
        }
    }
}

/// What no provider takes, or none should.
fn everywhere(uri: &str, url: &Url) -> Vec<String> {
    let mut faults = Vec::new();
    if url.fragment().is_some() {
        // RFC 6749 section 3.1.2.
        faults.push("has a fragment (`#…`), which RFC 6749 forbids".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        faults.push("has a user name in it".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        faults.push("has no host".to_owned());
    }
    if uri.contains('*') {
        // RFC 9700 section 2.1: no patterns.
        faults.push("has a `*` in it; providers compare character by character".to_owned());
    }
    if faults.is_empty() && url.as_str() != uri {
        faults.push(format!(
            "is not how a browser writes it, and providers compare character by character; write {url}"
        ));
    }
    faults
}
