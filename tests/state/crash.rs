//! What returned before the process was killed is there afterwards.

use super::*;

/// Runs [`the_process_that_is_killed`] until it says that `step` has returned, and kills it there.
fn killed_after(step: &str, world: &impl Backend) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::the_process_that_is_killed", "--nocapture"])
        .env(STEP, step)
        .envs(world.environment())
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

pub(crate) async fn an_intent_that_returned_is_there_after_kill_9<B: Backend>() {
    let world = B::make().await;
    killed_after("intend", &world);
    let entries = open(&world).await.open_entries().await.unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!((&entries[0].id, &entries[0].intent), (&ann(), &intent()));
    assert!(!entries[0].probed && entries[0].result.is_none());
}

pub(crate) async fn a_probe_that_returned_is_there_after_kill_9<B: Backend>() {
    let world = B::make().await;
    killed_after("probe", &world);
    assert!(open(&world).await.open_entry(&ann()).await.unwrap().unwrap().probed);
}

pub(crate) async fn a_result_that_returned_is_there_after_kill_9<B: Backend>() {
    let world = B::make().await;
    killed_after("result", &world);
    let entry = open(&world).await.open_entry(&ann()).await.unwrap().unwrap();
    assert_eq!(entry.result, Some(token("one")));
}

pub(crate) async fn a_closing_and_an_incident_that_returned_are_there_after_kill_9<B: Backend>() {
    let world = B::make().await;
    killed_after("close", &world);
    let state = open(&world).await;
    assert!(state.open_entries().await.unwrap().is_empty());
    assert_eq!(state.outbox().await.unwrap().1, 1);
    // The dead process gave its lease not back; it ends by itself.
    let almost = world.pass_almost(30).await;
    assert_eq!(state.take_lease(&ann(), almost, LIFE).await.unwrap(), None);
    let over = world.pass_the_rest(30).await;
    assert!(state.take_lease(&ann(), over, LIFE).await.unwrap().is_some());
}

/// The other half of the tests above; by itself it has nothing to do.
#[tokio::test]
async fn the_process_that_is_killed() {
    let (Ok(step), Some(settings)) = (std::env::var(STEP), kinds::settings_of_environment()) else {
        return;
    };
    let state = State::open(&settings).await.unwrap();
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
const REACHED: &str = "reached the step";
