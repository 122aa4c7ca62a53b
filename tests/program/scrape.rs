//! A scrape, read with nothing but string functions.

use std::collections::BTreeSet;

/// The text of one scrape.
pub(crate) struct Scrape(pub(crate) String);

impl Scrape {
    /// The value of the one series with this name (without the prefix) and these labels among its own;
    /// `None` when there is none.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found: Vec<f64> = self.lines(name, labels).map(value_of).collect();
        assert!(found.len() <= 1, "{name} {labels:?} fits {} series", found.len());
        found.first().copied()
    }

    /// What is wrong with an account by `oauth_keepalive_cause`; `none` when it is healthy.
    pub(crate) fn cause(&self, account: &str) -> Option<String> {
        let labels = [("account", account)];
        let line =
            self.lines("cause", &labels).find(|line| value_of(line).total_cmp(&1.0).is_eq())?;
        let (_, rest) = line.split_once("cause=\"")?;
        Some(rest.split('"').next()?.to_owned())
    }

    /// True when any series carries this account.
    pub(crate) fn mentions(&self, account: &str) -> bool {
        self.0.contains(&format!("account=\"{account}\""))
    }

    /// The accounts that have series of their own.
    pub(crate) fn accounts(&self) -> BTreeSet<String> {
        let account = |line: &str| {
            let (_, rest) = line.split_once("account=\"")?;
            Some(rest.split('"').next()?.to_owned())
        };
        self.lines("account_info", &[]).filter_map(account).collect()
    }

    fn lines<'a>(
        &'a self,
        name: &str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = &'a str> + 'a {
        let name = format!("oauth_keepalive_{name}");
        self.0.lines().filter(move |line| {
            let rest = line.strip_prefix(name.as_str()).unwrap_or("?");
            let has = |(label, value): &(&str, &str)| {
                rest.contains(&format!("{{{label}=\"{value}\""))
                    || rest.contains(&format!(",{label}=\"{value}\""))
            };
            rest.starts_with(['{', ' ']) && labels.iter().all(has)
        })
    }
}

fn value_of(line: &str) -> f64 {
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
