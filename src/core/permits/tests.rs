use super::*;

const NOON: Timestamp = Timestamp::from_unix(1_800_000_000);
const PACE: Pace =
    Pace { canary_deadline: Duration::from_secs(600), resume_every: Duration::from_secs(30) };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(NOON.as_unix() + seconds)
}

fn id(account: &str) -> AccountId {
    AccountId::new("tiktok", account)
}

fn ask(post: &str, scheduled: i64) -> Ask {
    Ask { post: post.into(), scheduled_at: Some(at(scheduled)) }
}

/// Asks and says in short what came of it.
fn tell(permits: &mut Permits, seconds: i64, gate: Gate, post: &str, scheduled: i64) -> String {
    match permits.ask(at(seconds), &id("a"), gate, &ask(post, scheduled)) {
        Permit::Granted { kind, .. } => kind.as_label().to_owned(),
        Permit::Wait { retry_after, ahead } => format!("{}s behind {ahead}", retry_after.as_secs()),
    }
}

#[test]
fn an_account_that_was_never_in_trouble_has_no_line_and_no_pace() {
    let mut permits = Permits::new(PACE);
    for post in ["1", "2", "3", "1"] {
        assert_eq!(tell(&mut permits, 0, Gate::Open, post, 0), "open");
    }
    assert!(permits.is_empty() && permits.lines.is_empty());
    let granted = permits.ask(NOON, &id("a"), Gate::Open, &ask("4", 0));
    let deadline = NOON.plus(PERMIT_LIFE);
    assert_eq!(granted, Permit::Granted { kind: Kind::Open, deadline });
}

#[test]
fn a_held_queue_goes_on_one_by_one_after_the_canary_and_new_posts_go_behind_it() {
    let mut permits = Permits::new(PACE);
    let mut rows: Vec<(i64, Gate, &str, i64, &str)> = vec![
        // Held: all are remembered, asked twice is one.
        (0, Gate::Held, "late", -10, "60s behind 0"),
        (1, Gate::Held, "early", -900, "60s behind 0"),
        (2, Gate::Held, "middle", -300, "60s behind 1"),
        (3, Gate::Held, "late", -10, "60s behind 2"),
        // Canary: the oldest scheduled, and exactly one.
        (60, Gate::Canary, "late", -10, "15s behind 2"),
        (61, Gate::Canary, "early", -900, "canary"),
        (62, Gate::Canary, "middle", -300, "15s behind 0"),
        (63, Gate::Canary, "early", -900, "canary"),
        (64, Gate::Canary, "late", -10, "15s behind 1"),
    ];
    // Open: paced, counted from the canary.
    rows.extend([
        (70, Gate::Open, "new", 70, "81s behind 2"),
        (71, Gate::Open, "late", -10, "50s behind 1"),
        (72, Gate::Open, "middle", -300, "19s behind 0"),
        (91, Gate::Open, "late", -10, "30s behind 1"),
        (91, Gate::Open, "middle", -300, "open"),
        // It missed the answer.
        (92, Gate::Open, "middle", -300, "open"),
        (93, Gate::Open, "new", 70, "58s behind 1"),
        // Older than all that were held, and new all the same.
        (94, Gate::Open, "backdated", -9_999, "57s behind 1"),
        (121, Gate::Open, "late", -10, "open"),
        (151, Gate::Open, "backdated", -9_999, "open"),
        (160, Gate::Open, "new", 70, "21s behind 0"),
        (181, Gate::Open, "new", 70, "open"),
        // The line is empty, and the next one keeps its distance.
        (190, Gate::Open, "fresh", 190, "21s behind 0"),
        (211, Gate::Open, "fresh", 190, "open"),
        // Long after, as always.
        (300, Gate::Open, "1", 300, "open"),
        (300, Gate::Open, "2", 300, "open"),
    ]);
    for (seconds, gate, post, scheduled, expected) in rows {
        let told = tell(&mut permits, seconds, gate, post, scheduled);
        assert_eq!(told, expected, "{post} at {seconds}");
    }
    assert!(permits.is_empty() && permits.lines.is_empty());
    assert_eq!(permits.forgotten(), Forgotten::default());
}

#[test]
fn a_canary_ends_when_it_is_reported_when_its_time_is_over_or_when_the_gate_is_shut_again() {
    let begun = || {
        let mut permits = Permits::new(PACE);
        assert_eq!(tell(&mut permits, 0, Gate::Canary, "1", 0), "canary");
        assert_eq!(tell(&mut permits, 1, Gate::Canary, "2", 0), "15s behind 0");
        permits
    };
    let mut permits = begun();
    permits.reported(at(2), &id("a"));
    for post in ["1", "2"] {
        let told = tell(&mut permits, 3, Gate::Canary, post, 0);
        assert!(told.starts_with("9s"), "{told}: the gate moves first");
    }
    assert_eq!(tell(&mut permits, 12, Gate::Canary, "2", 0), "canary", "it did not");

    let mut permits = begun();
    permits.see(at(590), &id("a"), Gate::Canary);
    assert_eq!(tell(&mut permits, 599, Gate::Canary, "3", 0), "1s behind 0");
    assert_eq!(tell(&mut permits, 600, Gate::Canary, "3", 0), "canary");

    let mut permits = begun();
    assert_eq!(tell(&mut permits, 3, Gate::Held, "1", 0), "60s behind 1");
    assert_eq!(
        tell(&mut permits, 4, Gate::Canary, "2", 0),
        "canary",
        "the shut gate ended the other"
    );

    let mut permits = Permits::new(PACE);
    permits.claimed(&id("a"), Canary { post: Some("elsewhere".into()), until: at(100) });
    assert_eq!(tell(&mut permits, 0, Gate::Canary, "1", 0), "15s behind 0");
    assert_eq!(tell(&mut permits, 0, Gate::Canary, "elsewhere", 0), "canary");
    permits.claimed(&id("a"), Canary { post: None, until: at(100) });
    assert_eq!(tell(&mut permits, 1, Gate::Canary, "elsewhere", 0), "15s behind 1", "reported");
}

#[test]
fn whoever_does_not_come_back_holds_nobody_up() {
    let mut permits = Permits::new(PACE);
    tell(&mut permits, 0, Gate::Held, "deleted", -900);
    tell(&mut permits, 0, Gate::Held, "kept", -300);
    // While the gate is held nobody needs to come.
    permits.sweep(at(86_400));
    assert_eq!(permits.len(), 2);
    // From then on each has the time it was told, and a little.
    permits.see(at(100_000), &id("a"), Gate::Open);
    assert_eq!(tell(&mut permits, 100_060, Gate::Open, "kept", -300), "30s behind 1");
    assert_eq!(tell(&mut permits, 100_119, Gate::Open, "kept", -300), "30s behind 1");
    assert_eq!(tell(&mut permits, 100_120, Gate::Open, "kept", -300), "open");
    assert_eq!(permits.forgotten(), Forgotten { full: 0, absent: 1 });
    permits.sweep(at(100_200));
    assert!(permits.lines.is_empty());
}

#[test]
fn a_post_that_is_never_asked_for_again_is_forgotten_in_the_end() {
    let mut permits = Permits::new(PACE);
    tell(&mut permits, 0, Gate::Held, "1", 0);
    permits.sweep(at(0).plus(HELD_FOR_MAX));
    assert_eq!(permits.len(), 1);
    permits.sweep(at(60).plus(HELD_FOR_MAX));
    assert!(permits.is_empty() && permits.lines.is_empty());
}

#[test]
fn of_too_many_the_one_that_came_first_is_forgotten_and_counted() {
    let mut permits = Permits::new(PACE);
    for number in 0..POSTS_PER_ACCOUNT_MAX + 3 {
        let number = i64::try_from(number).unwrap();
        // The later they come, the older they are: what counts is who came first.
        tell(&mut permits, number, Gate::Held, &number.to_string(), -number);
    }
    assert_eq!(permits.len(), POSTS_PER_ACCOUNT_MAX);
    assert_eq!(permits.forgotten().full, 3);
    let line = &permits.lines[&id("a")];
    assert!(!line.turns.contains_key("2") && line.turns.contains_key("3"));

    let mut permits = Permits::new(PACE);
    let mut asked = 0;
    'all: for account in 0.. {
        for post in 0..POSTS_PER_ACCOUNT_MAX {
            let ask = ask(&post.to_string(), 0);
            permits.ask(NOON, &id(&account.to_string()), Gate::Held, &ask);
            asked += 1;
            if asked == POSTS_MAX + 2 {
                break 'all;
            }
        }
    }
    assert_eq!(permits.len(), POSTS_MAX);
    assert_eq!(permits.forgotten().full, 2);
    assert!(!permits.lines[&id("0")].turns.contains_key("1"));
    assert_eq!(permits.waiting().map(|(_, posts)| posts).sum::<usize>(), POSTS_MAX);
}

#[test]
fn accounts_that_leave_take_their_posts_along() {
    let mut permits = Permits::new(PACE);
    for account in ["a", "b"] {
        permits.ask(NOON, &id(account), Gate::Held, &ask("1", 0));
    }
    permits.retain(|id| *id.account == *"b");
    assert_eq!(permits.waiting().collect::<Vec<_>>(), [(&id("b"), 1)]);
    assert_eq!(permits.len(), 1);
}

/// Many histories: whatever publishers ask and whatever the gate does, what must hold holds.
#[test]
fn never_two_canaries_and_never_two_of_a_line_within_the_pace() {
    for seed in 0..300_u64 {
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        let mut permits = Permits::new(PACE);
        let mut now = 0;
        let mut gate = Gate::Held;
        // `None` for one that was reported.
        let mut canary: Option<(Option<String>, Timestamp)> = None;
        let mut last_open: Option<(String, i64)> = None;
        for _ in 0..400 {
            now += i64::try_from(draw(40)).unwrap();
            if draw(10) == 0 {
                gate = Gate::ALL[usize::try_from(draw(3)).unwrap()];
                permits.see(at(now), &id("a"), gate);
                canary = canary.filter(|_| gate == Gate::Canary);
            }
            if draw(25) == 0 {
                permits.reported(at(now), &id("a"));
                canary = canary.map(|(_, until)| (None, until.min(at(now + 10))));
            }
            let post = draw(12).to_string();
            let had_line = permits.lines.contains_key(&id("a"));
            match permits.ask(at(now), &id("a"), gate, &ask(&post, 0)) {
                Permit::Granted { kind: Kind::Canary, deadline } => {
                    assert_eq!(gate, Gate::Canary);
                    if let Some((other, until)) = &canary {
                        assert!(
                            other.as_ref() == Some(&post) || until.has_come(at(now)),
                            "two at {now} of {seed}"
                        );
                    }
                    canary = Some((Some(post), deadline));
                }
                Permit::Granted { kind: Kind::Open, .. } => {
                    assert_eq!(gate, Gate::Open);
                    if let (Some((other, before)), true) = (&last_open, had_line) {
                        assert!(
                            *other == post || now - before >= 30,
                            "too fast at {now} of {seed}"
                        );
                    }
                    // Whoever missed the answer is told the same again.
                    let is_again = last_open.as_ref().is_some_and(|(other, _)| *other == post);
                    if !is_again || !had_line {
                        last_open = Some((post, now)).filter(|_| had_line);
                    }
                }
                Permit::Wait { retry_after, .. } => {
                    assert!((RETRY_LEAST..=RETRY_MAX).contains(&retry_after));
                }
            }
            let line = permits.lines.get(&id("a"));
            let (waiting, turns) =
                line.map_or((0, 0), |line| (line.waiting.len(), line.turns.len()));
            assert_eq!((waiting, turns), (permits.len(), permits.len()), "the three lists agree");
        }
    }
}
