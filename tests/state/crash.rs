//! What returned before the process was killed is there afterwards.

use super::*;

/// Runs [`the_process_that_is_killed`] until it says that `step` has returned, and kills it there.
fn killed_after(step: &str, folder: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::the_process_that_is_killed", "--nocapture"])
        .env(STEP, step)
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reached = lines.map_while(Result::ok).any(|line| line.contains(REACHED));
    // SIGKILL: nothing in the process gets a word in.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(reached, "the process ended before {step} returned");
}

#[tokio::test]
async fn an_intent_that_returned_is_there_after_kill_9() {
    let folder = folder();
    killed_after("intend", folder.path());
    let entries = open(&folder).await.open_entries().await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!((&entries[0].id, &entries[0].intent), (&ann(), &intent()));
    assert!(!entries[0].probed && entries[0].result.is_none());
}

#[tokio::test]
async fn a_probe_that_returned_is_there_after_kill_9() {
    let folder = folder();
    killed_after("probe", folder.path());
    assert!(open(&folder).await.open_entry(&ann()).await.unwrap().unwrap().probed);
}

#[tokio::test]
async fn a_result_that_returned_is_there_after_kill_9() {
    let folder = folder();
    killed_after("result", folder.path());
    let entry = open(&folder).await.open_entry(&ann()).await.unwrap().unwrap();
    assert_eq!(entry.result, Some(token("one")));
}

#[tokio::test]
async fn a_closing_and_an_incident_that_returned_are_there_after_kill_9() {
    let folder = folder();
    killed_after("close", folder.path());
    let state = open(&folder).await;
    assert!(state.open_entries().await.unwrap().is_empty());
    assert_eq!(state.outbox().await.unwrap().1, 1);
    // The dead process gave its lease not back; it died with it.
    assert!(state.take_lease(&ann(), at(1), LIFE).await.unwrap().is_some());
}

/// The other half of the tests above; by itself it has nothing to do.
#[tokio::test]
async fn the_process_that_is_killed() {
    let (Ok(step), Some(folder)) = (std::env::var(STEP), std::env::var_os(FOLDER)) else {
        return;
    };
    let state = State::open(&settings(Path::new(&folder))).await.unwrap();
    let lease = lease(&state, &ann()).await;
    let entry = state.intend(&lease, &intent()).await.unwrap();
    if step == "probe" {
        state.intend_probe(&lease, entry, at(25)).await.unwrap();
    }
    if step == "result" || step == "close" {
        state.record_result(entry, &ann(), &token("one")).await.unwrap();
    }
    if step == "close" {
        state.close(entry, Closing::Done).await.unwrap();
        let to = vec![Secret::new("one@example.org".to_owned())];
        state.fire(&outbox::firing(), to).await.unwrap();
    }
    println!("{REACHED}");
    std::future::pending::<()>().await;
}

const STEP: &str = "STATE_TEST_STEP";
const FOLDER: &str = "STATE_TEST_FOLDER";
const REACHED: &str = "reached the step";
