//! Store and state in one PostgreSQL database: `check` says so, and each refresh is one transaction.

use crate::{
    postgres::Schema,
    process::{command, stderr, stdout},
    until_or,
    world::World,
};
use std::fs;

#[tokio::test]
async fn result_and_save_of_each_refresh_are_one_transaction() {
    let schema = Schema::new();
    let (directory, port) = (schema.directory.display(), schema.port);
    let store = format!(
        "{{kind: postgres, socket: \"{directory}\", port: {port}, database: keepalive, user: keepalive, \
         password_file: \"{directory}/password\", poll_every: 500ms}}"
    );
    let state = schema.on_socket("state", "5s");
    let plan = World::new().accounts(3).section("state", &state).section("store", &store);
    let mut world = plan.prepare().await;
    world.write_state_key();
    let accounts = ["brand-01", "brand-02", "brand-03"];
    let list = accounts.map(|account| {
        let token = world.provider.current(account).unwrap();
        serde_json::json!({
            "provider": "tiktok",
            "account": account,
            "access_token": token.access.expose(),
            "refresh_token": token.refresh.unwrap().expose(),
            "issued_at": token.issued_at.unwrap().as_unix(),
            "expires_at": token.expires_at.unwrap().as_unix(),
        })
    });
    let file = world.path("accounts.json");
    fs::write(&file, serde_json::json!({ "accounts": list }).to_string()).unwrap();
    let config = world.config();
    let config = config.to_str().unwrap();
    let imported = command(&["import", file.to_str().unwrap(), "--config", config]).await;
    assert!(imported.status.success(), "{}", stderr(&imported));
    let checked = command(&["check", "--config", config]).await;
    let said = stdout(&checked);
    assert!(checked.status.success() && said.contains("one transaction"), "{said}");

    world.start().await;
    assert!(world.running().log().contains("a result and its save are one transaction"));
    let enough = || accounts.iter().all(|account| world.refreshed(account).len() >= 2);
    until_or("each was renewed twice", async || enough(), || world.tell()).await;
    world.program().terminate().await;

    // What the last refresh wrote in the publisher's table, and what it left of itself in ours.
    let client = schema.client().await;
    let sql = format!(
        "SELECT t.account, t.refresh_token, t.xmin::text, n.xmin::text FROM accounts t \
         JOIN {}.newest n USING (provider, account) ORDER BY account",
        schema.name
    );
    let rows = client.query(&sql, &[]).await.unwrap();
    assert_eq!(rows.len(), accounts.len());
    for row in &rows {
        let (account, refresh): (&str, &str) = (row.get(0), row.get(1));
        assert_eq!(row.get::<_, &str>(2), row.get::<_, &str>(3), "{account}: one transaction");
        let current = world.provider.current(account).unwrap().refresh.unwrap();
        assert!(refresh == current.expose(), "{account}: the store has what the provider honours");
    }
    let sql = format!("SELECT count(*) FROM {}.journal", schema.name);
    let left: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "{}", world.tell());
}
