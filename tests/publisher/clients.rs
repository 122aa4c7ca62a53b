//! Rights, and that no answer tells more than it must.

use crate::bench::{Bench, RIGHT, as_client};
use oauth_keepalive::server::publisher::Code;
use std::fs;

/// Method, path, the rights of which one is needed, and the status when it is there.
const OPERATIONS: [(&str, &str, &[&str], u16); 11] = [
    ("GET", "/v1/accounts", &["read"], 200),
    ("GET", "/v1/events?for=0s", &["read"], 200),
    ("GET", "/v1/accounts/tiktok/a", &["read"], 200),
    ("GET", "/v1/accounts/tiktok/a/gate", &["read"], 200),
    ("GET", "/v1/accounts/tiktok/a/token", &["token"], 200),
    ("POST", "/v1/accounts/tiktok/a/permits", &["publish"], 400),
    ("POST", "/v1/accounts/tiktok/a/canary", &["publish"], 400),
    ("POST", "/v1/accounts/tiktok/a/hold", &["hold"], 202),
    ("POST", "/v1/accounts/tiktok/a/resume", &["hold"], 202),
    ("POST", "/v1/accounts/tiktok/a/refresh", &["refresh"], 202),
    ("POST", "/v1/responses", &["report"], 400),
];

#[tokio::test]
async fn each_operation_takes_its_right_and_no_other() {
    let bench = Bench::start().await;
    for (method, path, rights, status) in OPERATIONS {
        for right in ["read", "report", "publish", "hold", "refresh", "token"] {
            let answer = bench.send(method, path, &as_client(right), "").await;
            if rights.contains(&right) {
                assert_eq!(
                    answer.status,
                    status,
                    "{method} {path} with {right}: {}",
                    answer.text()
                );
                continue;
            }
            assert_eq!(answer.code(), "right_missing", "{method} {path} with {right}");
            assert_eq!(answer.status, 403);
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.contains("insufficient_scope"), "{challenge}");
        }
        let nobody = bench.send(method, path, "", "").await;
        assert_eq!((nobody.status, &*nobody.code()), (401, "unauthorized"), "{method} {path}");
        assert!(nobody.header("www-authenticate").unwrap().starts_with("Bearer"));
    }
}

#[tokio::test]
async fn an_account_that_is_none_of_a_clients_looks_the_same_whether_it_exists_or_not() {
    let bench = Bench::start().await;
    let only_b = as_client("only-b");
    for (method, path, _, status) in OPERATIONS {
        let Some(leaf) = path.strip_prefix("/v1/accounts/tiktok/a") else { continue };
        let of = |account: &str| format!("/v1/accounts/tiktok/{account}{leaf}");
        let there = bench.send(method, &of("a"), &only_b, "").await;
        let not_there = bench.send(method, &of("nowhere"), &only_b, "").await;
        assert_eq!(there.code(), "account_not_yours");
        assert_eq!((there.status, &there.body), (not_there.status, &not_there.body));
        assert_eq!(bench.send(method, &of("b"), &only_b, "").await.status, status, "{path}");
    }
    let list = bench.send("GET", "/v1/accounts", &only_b, "").await.json();
    assert_eq!(list["accounts"].as_array().unwrap().len(), 1);
    assert_eq!(list["accounts"][0]["account"], "b");
    let body = r#"{"responses":[{"provider":"tiktok","account":"a","status":401}]}"#;
    let reported = bench.send("POST", "/v1/responses", &only_b, body).await;
    assert_eq!(reported.json()["unknown"], serde_json::json!([0]), "as if it did not exist");
}

#[tokio::test]
async fn a_changed_secret_works_at_once_and_the_old_one_no_more() {
    let bench = Bench::start().await;
    assert_eq!(bench.get("/v1/accounts").await.status, 200);
    fs::write(bench.folder.path().join("all"), "another-secret\n").unwrap();
    assert_eq!(bench.get("/v1/accounts").await.status, 401);
    let new = "Authorization: bearer another-secret\r\n";
    assert_eq!(bench.ask("GET /v1/accounts", new).await.status, 200, "a scheme has no case");
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_lets_nobody_in_and_keeps_nobody_else_out() {
    let bench = Bench::start().await;
    for blank in ["", "\u{a0}\n"] {
        fs::write(bench.folder.path().join("all"), blank).unwrap();
        let answer = bench.ask("GET /v1/accounts", "Authorization: Bearer \u{a0}\r\n").await;
        assert_eq!((answer.status, &*answer.code()), (503, "unavailable"));
    }
    fs::remove_file(bench.folder.path().join("all")).unwrap();
    let answer = bench.get("/v1/accounts").await;
    assert_eq!((answer.status, &*answer.code()), (503, "unavailable"));
    assert!(!answer.text().contains(bench.folder.path().to_str().unwrap()), "{}", answer.text());
    assert_eq!(bench.ask("GET /v1/accounts", &as_client("read")).await.status, 200);
}

#[tokio::test]
async fn two_secrets_are_nobodys() {
    let bench = Bench::start().await;
    let both = format!("{}{RIGHT}", as_client("read"));
    assert_eq!(bench.ask("GET /v1/accounts", &both).await.status, 401);
}

#[test]
fn every_code_is_a_word_of_its_own() {
    let mut words = Code::ALL.map(Code::as_label);
    words.sort_unstable();
    let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    assert!(words.iter().all(|word| is_word(word)));
    assert!(words.windows(2).all(|two| two[0] != two[1]), "{words:?}");
}
