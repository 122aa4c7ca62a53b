//! The flags of the telemetry listener, by the names that Prometheus' exporters share. What they say counts for the file's
//! `server` keys, also when the file is read again.
//!
//! Absent on purpose: `--web.telemetry-path`, because dashboards, rules and the status page name `/metrics`; and
//! `--web.systemd-socket`, because taking over a descriptor is unsafe code.

use crate::config::Overrides;
use std::{
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
};

/// What `run` and `check` may be told of the listener.
#[derive(Debug, clap::Args)]
pub(super) struct Listening {
    /// Where metrics and status page are, instead of server.listen; may be given several times. :8640 for all
    /// addresses.
    #[arg(long = "web.listen-address", value_parser = address, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    /// TLS, users and headers of that listener, as other exporters read them; instead of server.web_config_file.
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config: Option<PathBuf>,
    /// Let POST /-/reload read the files again, as server.enable_reload does.
    #[arg(long = "web.enable-lifecycle")]
    enable_reload: bool,
}

impl From<Listening> for Overrides {
    fn from(arguments: Listening) -> Self {
        let Listening { listen, web_config, enable_reload } = arguments;
        Self { listen, web_config, enable_reload }
    }
}

/// Go programs take a port alone for all addresses, of both families.
fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').and_then(|port| port.parse().ok());
    let everywhere = port.map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    everywhere.or_else(|| text.parse().ok()).ok_or_else(|| {
        "write an IP address and a port such as 127.0.0.1:8640, or a port alone such as :8640"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_for_other_exporters() {
        let cases = [
            ("127.0.0.1:8640", Some("127.0.0.1:8640")),
            ("[::1]:8640", Some("[::1]:8640")),
            (":8640", Some("[::]:8640")),
            ("0.0.0.0:0", Some("0.0.0.0:0")),
            ("8640", None),
            (":", None),
            (":99999", None),
            ("localhost", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(address(text).ok(), expected, "{text}");
        }
    }
}
