//! Accounts of three providers at every age of their tokens, as many as wanted.

use oauth_keepalive::core::{
    Account, AccountId, Fingerprint, Snapshot, Table, Timestamp, TokenFacts,
};

const NOON: i64 = 1_800_000_000;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(NOON + seconds)
}

pub(crate) fn fleet(accounts: i64) -> Snapshot {
    let mut table = Table::default();
    for number in 0..accounts {
        let (provider, life) =
            [("tiktok", 86_400), ("x", 7_200), ("instagram", 5_184_000)][number as usize % 3];
        let id = AccountId::new(provider, format!("acme-brand-{number:07}"));
        let mut account = Account::new(id, format!("{provider}-main").into());
        let age = number * 7_919 % life;
        account.token = Some(TokenFacts {
            token: Fingerprint::from_hash(1),
            renewable_by: None,
            issued_at: at(-age),
            expires_at: Some(at(life - age)),
            refresh_expires_at: None,
            missing_scopes: 0,
        });
        account.due_at = Some(at(life * 2 / 3 - age));
        account.last_refresh_at = Some(at(-age));
        account.refresh_attempts = number as u32 % 90;
        table.put(account);
    }
    Snapshot { loaded: true, accounts: table, ..Snapshot::empty(at(0)) }
}
