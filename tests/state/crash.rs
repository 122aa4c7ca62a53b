//! What returned before the process was killed is there afterwards.

use super::*;

/// Runs [`the_process_that_is_killed`] until it says that `step` has returned, and kills it there.
pub(crate) fn killed_after(step: &str, world: &impl Backend) {
    let mut child = process(step, world).spawn().unwrap();
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
    assert_eq!(state.outbox(Way::Mail).await.unwrap().0, 1);
}

/// The other half of the tests above; by itself it has nothing to do.
#[tokio::test]
async fn the_process_that_is_killed() {
    let (Ok(step), Some(settings)) = (std::env::var(STEP), kinds::settings_of_environment()) else {
        return;
    };
    let state = State::open(&settings).await.unwrap();
    if step == "compete" {
        let mut taken = Vec::new();
        for id in competed_for() {
            taken.extend(state.take_lease(&id, at(0), LIFE).await.unwrap().map(|lease| lease.id));
        }
        println!("{}", taken.iter().map(|id| format!("took-{} ", id.account)).collect::<String>());
        // What a process that has ended held is free.
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let lease = lease(&state, &ann()).await;
    let entry = state.intend(&lease, &intent()).await.unwrap();
    if step == "stall" {
        // Stopped here, and let go on when somebody else has the account.
        println!("{REACHED}");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        let lost = |result: Result<(), Error>| matches!(result, Err(Error::LeaseLost { .. }));
        let probed = state.intend_probe(&lease, entry, at(25)).await.map(drop);
        let closed = state.close(entry, Closing::Void).await;
        let again = Intent { requested_at: at(2), ..intent() };
        let intended = state.intend(&lease, &again).await.map(drop);
        state.record_result(entry, &ann(), &token("late")).await.unwrap();
        println!("{}", [probed, closed, intended].map(lost).map(|lost| lost.to_string()).concat());
        return;
    }
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

pub(crate) async fn two_processes_never_hold_the_same_account<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let child = process("compete", &world).spawn().unwrap();
    let mut ours = Vec::new();
    for id in competed_for() {
        ours.extend(state.take_lease(&id, at(0), LIFE).await.unwrap());
    }
    // This lets the other one end, and not before.
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let theirs: Vec<_> =
        text.split_whitespace().filter_map(|word| word.strip_prefix("took-")).collect();
    assert_eq!(ours.len() + theirs.len(), 100, "{text}");
    assert!(ours.iter().all(|lease| !theirs.contains(&&*lease.id.account)));
}

pub(crate) async fn a_process_that_was_stopped_beyond_its_lease_can_do_nothing_but_hand_in_its_result<
    B: Backend,
>() {
    let world = B::make().await;
    let mut child = process("stall", &world).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(REACHED)));
    let signal = |name: &str| {
        let id = child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    };
    signal("-STOP");
    world.pass(60).await;
    let state = open(&world).await;
    let taken = state.take_lease(&ann(), at(60), LIFE).await.unwrap().unwrap();
    assert!(state.open_entry(&ann()).await.unwrap().is_some());
    signal("-CONT");
    drop(child.stdin.take());
    assert!(lines.any(|line| line.contains("truetruetrue")), "it was let through");
    child.wait().unwrap();
    let open = state.open_entry(&ann()).await.unwrap().unwrap();
    assert_eq!((open.result, open.probed), (Some(token("late")), false));
    state.close(open.entry, Closing::Done).await.unwrap();
    state.release(&taken).await.unwrap();
}

/// What two processes want at the same time.
pub(crate) fn competed_for() -> impl Iterator<Item = AccountId> {
    (0..100).map(|account| AccountId::new("tiktok", format!("{account}")))
}

/// [`the_process_that_is_killed`], about to do `step`.
pub(crate) fn process(step: &str, world: &impl Backend) -> Command {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process
        .args(["--exact", "crash::the_process_that_is_killed", "--nocapture"])
        .env(STEP, step)
        .envs(world.environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    process
}

const STEP: &str = "STATE_TEST_STEP";
pub(crate) const REACHED: &str = "reached the step";
