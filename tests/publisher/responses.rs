//! What publishers report: bounded, checked, and never repeated.

use crate::bench::{Answer, Bench, RIGHT, exchange, read_answer};
use oauth_keepalive::{
    core::{AccountId, Cause, Evidence, Timestamp},
    server::publisher::Response,
};

async fn report(bench: &Bench, authorization: &str, body: &str) -> Answer {
    bench.send("POST", "/v1/responses", authorization, body).await
}

const ONE_401: &str = r#"{"responses":[{"provider":"tiktok","account":"a","status":401}]}"#;

#[tokio::test]
async fn only_who_knows_the_secret_may_report() {
    let bench = Bench::start().await;
    let wrong = [
        "",
        "Authorization: invented-secret\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer invented-secre\r\n",
        "Authorization: Bearer invented-secret2\r\n",
        "Authorization: Basic invented-secret\r\n",
    ];
    for authorization in wrong {
        let answer = report(&bench, authorization, ONE_401).await;
        assert_eq!(answer.status, 401, "{authorization}");
        assert_eq!(answer.code(), "unauthorized");
    }
    assert!(bench.received().is_err(), "nothing of these was taken");
    let answer = report(&bench, RIGHT, ONE_401).await;
    assert_eq!((answer.status, answer.text()), (202, r#"{"accepted":1,"unknown":[]}"#));
    assert_eq!(bench.received().unwrap(), [response("a", Some(401), 1, None)]);
    let mut text = Vec::new();
    bench.metrics.write(&mut text, oauth_keepalive::metrics::Format::Classic);
    let line = format!(r#"reports_rejected_total{{reason="unauthorized"}} {}"#, wrong.len());
    assert!(String::from_utf8(text).unwrap().contains(&line));
}

#[tokio::test]
async fn a_report_is_checked_and_never_repeated() {
    let bench = Bench::start().await;
    let entry =
        |rest: &str| format!(r#"{{"responses":[{{"provider":"tiktok","account":"a",{rest}}}]}}"#);
    let many = vec![r#"{"provider":"x","account":"b","status":200}"#; 1001].join(",");
    let cases = [
        (String::new(), 400),
        ("[]".into(), 400),
        ("marker".into(), 400),
        (r#"{"responses":"marker"}"#.into(), 400),
        (r#"{"responses":[],"marker":1}"#.into(), 400),
        (entry(r#""status":401,"token":"marker""#), 400),
        (entry(r#""status":"marker""#), 400),
        (entry(r#""status":99"#), 400),
        (entry(r#""times":1"#), 400),
        (entry(r#""status":401,"said":{"body":{},"marker":1}"#), 400),
        (entry(r#""status":401,"said":{"from":"marker","body":{}}"#), 400),
        (entry(r#""said":{"body":{"marker":1}}"#), 400),
        (entry(r#""status":600"#), 400),
        (entry(r#""status":70000"#), 400),
        (entry(r#""status":401,"times":0"#), 400),
        (entry(r#""status":401,"times":100001"#), 400),
        (entry(r#""status":401,"times":-1"#), 400),
        (format!(r#"{{"responses":[{many}]}}"#), 413),
        (format!(r#"{{"responses":[]{}}}"#, " ".repeat(70_000)), 413),
        (r#"{"responses":[]}"#.into(), 202),
    ];
    for (body, status) in cases {
        let answer = report(&bench, RIGHT, &body).await;
        let shown: String = body.chars().take(80).collect();
        assert_eq!(answer.status, status, "{shown}");
        assert!(!answer.text().contains("marker"), "{shown}: {}", answer.text());
    }
    assert!(bench.received().is_err(), "nothing of these was taken");
}

#[tokio::test]
async fn a_body_in_chunks_is_bounded_as_well() {
    let bench = Bench::start().await;
    let head = "POST /v1/responses HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
                Transfer-Encoding: chunked\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", 8192, " ".repeat(8192));
    let request = format!("{head}{RIGHT}\r\n{}0\r\n\r\n", chunk.repeat(9));
    assert_eq!(read_answer(&exchange(bench.address, request.as_bytes()).await).status, 413);
}

#[tokio::test]
async fn unknown_accounts_are_named_by_their_position() {
    let bench = Bench::start().await;
    let body = r#"{"responses":[
        {"provider":"tiktok","account":"gone","status":401,"times":5},
        {"provider":"tiktok","account":"b","status":429,"times":2},
        {"provider":"x","account":"a","status":401}
    ]}"#;
    let answer = report(&bench, RIGHT, body).await;
    assert_eq!(answer.text(), r#"{"accepted":1,"unknown":[0,2]}"#);
    assert_eq!(bench.received().unwrap(), [response("b", Some(429), 2, None)]);
}

fn response(account: &str, status: Option<u16>, times: u32, said: Option<Cause>) -> Response {
    let said = said.map(|cause| Evidence::of(cause, Timestamp::MIN));
    Response { id: AccountId::new("tiktok", account), status, times, said }
}

#[tokio::test]
async fn what_the_provider_said_is_understood_or_dropped_and_never_passed_on() {
    let bench = Bench::start().await;
    let body = r#"{"responses":[
        {"provider":"tiktok","account":"a","status":401,"said":{"body":{"code":"known"}}},
        {"provider":"tiktok","account":"b","status":401,"said":{"from":"api","body":"marker"}},
        {"provider":"tiktok","account":"b","said":{"from":"redirect","body":{"code":"known"}}}
    ]}"#;
    assert_eq!(report(&bench, RIGHT, body).await.status, 202);
    let scope = Some(Cause::ScopeMissing);
    let expected = [
        response("a", Some(401), 1, scope),
        response("b", Some(401), 1, None),
        response("b", None, 1, scope),
    ];
    assert_eq!(bench.received().unwrap(), expected);
}

#[tokio::test]
async fn a_publisher_is_asked_to_come_again_while_the_keeper_is_behind() {
    let bench = Bench::start().await;
    assert_eq!(report(&bench, RIGHT, ONE_401).await.status, 202);
    let answer = report(&bench, RIGHT, ONE_401).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let bench = Bench::start().await;
    let request = format!(
        "POST /v1/responses HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{RIGHT}\
         Content-Length: 100\r\n\r\n{{"
    );
    assert_eq!(read_answer(&exchange(bench.address, request.as_bytes()).await).status, 408);
}

#[tokio::test]
async fn the_report_listener_has_no_other_path() {
    let bench = Bench::start().await;
    assert_eq!(bench.ask("GET /v1/responses", "").await.header("allow"), Some("POST"));
    assert_eq!(bench.ask("GET /metrics", "").await.status, 404);
    assert_eq!(bench.ask("GET /", "").await.status, 404);
}
