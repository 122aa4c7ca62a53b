//! Which notices go in one mail, what a cap holds back, what is called to mind, and mails that may have left.

use super::{
    outbox::{firing, hand_out},
    *,
};
use oauth_keepalive::core::digest::{Cap, DOUBTS_MAX};

const RULES: Rules =
    Rules { quiet: Duration::from_secs(30), owner_per_day: 2, total_per_hour: 100, many_from: 20 };

fn of(account: &str, seconds: i64) -> Notice {
    let subject = Subject::Account(AccountId::new("tiktok", account));
    Notice { subject, at: at(seconds), since: at(seconds), ..firing() }
}

fn over_of(account: &str, seconds: i64) -> Notice {
    Notice { change: Change::Resolved, ..of(account, seconds) }
}

fn to(name: &str) -> Vec<Secret> {
    vec![Secret::new(format!("{name}@example.org"))]
}

fn operators() -> Vec<Secret> {
    to("ops")
}

async fn arrange(state: &State, seconds: i64) -> oauth_keepalive::state::Arranged {
    state.arrange(Way::Mail, at(seconds), &RULES, &operators()).await.unwrap()
}

async fn owed(state: &State, seconds: i64) -> Vec<Owed> {
    state.owed(Way::Mail, at(seconds), 100).await.unwrap()
}

fn names(mail: &Owed) -> Vec<String> {
    mail.notices.iter().map(|(_, notice)| notice.subject.to_string()).collect()
}

pub(crate) async fn what_one_owner_hears_of_at_once_is_one_mail_and_its_ends_follow_in_its_thread<
    B: Backend,
>() {
    let world = B::make().await;
    let state = open(&world).await;
    for (account, seconds) in [("a", 100), ("b", 110), ("c", 120)] {
        assert!(state.fire(&of(account, seconds), to("Anna")).await.unwrap());
    }
    // However the address is written.
    assert!(state.fire(&of("d", 120), to(" anna")).await.unwrap());
    assert_eq!(arrange(&state, 149).await.next, Some(at(150)));
    assert!(owed(&state, 149).await.is_empty());
    state.shut().await;

    let state = open(&world).await;
    arrange(&state, 150).await;
    let [mail]: [Owed; 1] = owed(&state, 150).await.try_into().unwrap();
    assert_eq!(names(&mail).len(), 4);
    assert_eq!(mail.counts, [(Change::Firing, Cause::ConsentRevoked, 4)]);
    assert!(state.begin(mail.row, "Four accounts").await.unwrap());
    state.sent(mail.row, at(151)).await.unwrap();

    for (account, seconds) in [("a", 200), ("c", 210)] {
        assert!(state.resolve(&over_of(account, seconds)).await.unwrap());
    }
    arrange(&state, 240).await;
    let [end]: [Owed; 1] = owed(&state, 240).await.try_into().unwrap();
    assert_eq!(names(&end), ["account tiktok/a", "account tiktok/c"]);
    assert_eq!(end.threads.len(), 1);
    assert_eq!(end.threads[0].key, mail.message_key);
    assert_eq!(end.threads[0].subject.as_deref(), Some("Four accounts"));
}

pub(crate) async fn what_was_over_before_its_mail_left_is_in_no_mail<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    for account in ["a", "b", "c"] {
        state.fire(&of(account, 100), to("anna")).await.unwrap();
    }
    state.resolve(&over_of("a", 110)).await.unwrap();
    arrange(&state, 130).await;
    assert_eq!(names(&owed(&state, 130).await[0]), ["account tiktok/b", "account tiktok/c"]);
    state.resolve(&over_of("b", 131)).await.unwrap();
    let [mail]: [Owed; 1] = owed(&state, 132).await.try_into().unwrap();
    assert_eq!(names(&mail), ["account tiktok/c"]);
    state.resolve(&over_of("c", 133)).await.unwrap();
    assert!(owed(&state, 134).await.is_empty());
    assert_eq!(state.outbox(Way::Mail).await.unwrap(), (0, 0));
}

pub(crate) async fn what_a_cap_holds_back_is_in_the_next_mail_and_the_operator_hears_of_it<
    B: Backend,
>() {
    let world = B::make().await;
    let state = open(&world).await;
    for (nth, account) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let seconds = 1_000 * i64::try_from(nth).unwrap();
        state.fire(&of(account, seconds), to("anna")).await.unwrap();
        let arranged = arrange(&state, seconds + 30).await;
        let expected = if nth < 2 { vec![] } else { vec![(Cap::Owner, 1)] };
        assert_eq!(arranged.held, expected, "{account}");
    }
    let mails = owed(&state, 4_000).await;
    assert_eq!(mails.len(), 3);
    assert_eq!(mails[2].to.expose(), "ops@example.org");
    assert_eq!((mails[2].summary.held, mails[2].notices.len()), (1, 0));
    assert_eq!(state.outbox(Way::Mail).await.unwrap(), (3, 2));
    for mail in mails {
        state.sent(mail.row, at(4_000)).await.unwrap();
    }
    let day = 24 * 3_600;
    assert_eq!(arrange(&state, day + 29).await.next, Some(at(day + 30)));
    arrange(&state, day + 30).await;
    let mails = owed(&state, day + 30).await;
    let hers = mails.iter().find(|mail| mail.to.expose() == "anna@example.org").unwrap();
    assert_eq!(names(hers), ["account tiktok/c", "account tiktok/d"]);
    assert_eq!(state.outbox(Way::Mail).await.unwrap().1, 0);
}

pub(crate) async fn of_two_that_plan_at_once_one_does<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    for nth in 0..40 {
        one.fire(&of(&format!("n{nth}"), 100), to(&format!("{}", nth % 8))).await.unwrap();
    }
    let plans: Vec<_> = (0..10)
        .map(|nth| {
            let state = if nth % 2 == 0 { one.clone() } else { two.clone() };
            tokio::spawn(async move { arrange(&state, 130).await })
        })
        .collect();
    for plan in plans {
        plan.await.unwrap();
    }
    let (mine, his) = (owed(&one, 130).await, owed(&two, 130).await);
    let mails: Vec<&Owed> = mine.iter().chain(&his).collect();
    let to_owners = mails.iter().filter(|mail| mail.to.expose() != "ops@example.org");
    assert_eq!(to_owners.clone().count(), 8, "one for each owner");
    assert!(to_owners.clone().all(|mail| mail.notices.len() == 5));
    let told: Vec<_> = mails.iter().flat_map(|mail| &mail.summary.many).collect();
    assert_eq!(told.len(), 1, "and one for the operator");
    assert_eq!((told[0].accounts, told[0].owners), (40, 8));
}

pub(crate) async fn trouble_that_lasts_is_called_to_mind_in_its_thread_and_not_for_ever<
    B: Backend,
>() {
    let world = B::make().await;
    let state = open(&world).await;
    let day = 24 * 3_600;
    let gaps = [1, 3, 7].map(|days| Duration::from_secs(days * 24 * 3_600));
    let count = async |state: &State, seconds: i64| {
        let (owed, next) = state.call_to_mind(at(seconds), &gaps).await.unwrap();
        (owed.len(), next.map(|next| next.seconds_from(at(0))))
    };
    state.fire(&of("a", 0), to("anna")).await.unwrap();
    // Nobody has read it, so there is nothing to call to mind.
    state.fire(&of("unsent", 0), to("bob")).await.unwrap();
    // It has reminders of its own.
    let ends = Notice { cause: Cause::NotRenewable, expires_at: Some(at(30 * day)), ..of("b", 0) };
    state.fire(&ends, to("anna")).await.unwrap();
    let mut first = None;
    for mail in hand_out(&state, at(0), 10).await {
        if mail.to.expose() == "anna@example.org" {
            state.begin(mail.row, "The line").await.unwrap();
            state.sent(mail.row, at(1)).await.unwrap();
            first.get_or_insert(mail);
        }
    }
    assert_eq!(count(&state, day - 1).await, (0, Some(day)));
    assert_eq!(count(&state, day).await, (1, Some(3 * day)));
    assert_eq!(count(&state, day).await, (0, Some(3 * day)), "asked again");
    arrange(&state, day + 30).await;
    let reminder = |mails: Vec<Owed>| {
        mails.into_iter().find(|mail| mail.to.expose() == "anna@example.org").unwrap()
    };
    let mail = reminder(owed(&state, day + 30).await);
    let (_, notice) = &mail.notices[0];
    assert_eq!((notice.change, notice.since), (Change::Reminder, at(0)));
    assert_eq!(mail.threads[0].key, first.unwrap().message_key);
    state.sent(mail.row, at(day + 31)).await.unwrap();

    // Asleep over two of them: one.
    assert_eq!(count(&state, 8 * day).await, (1, None));
    assert_eq!(count(&state, 400 * day).await, (0, None));
    // Over before the reminder left: its end alone.
    state.resolve(&Notice { at: at(8 * day), ..over_of("a", 0) }).await.unwrap();
    arrange(&state, 8 * day + 30).await;
    let left = reminder(owed(&state, 8 * day + 30).await);
    assert_eq!(left.counts, [(Change::Resolved, Cause::ConsentRevoked, 1)]);
    // An end that comes closer is called to mind by whoever knows how close it is.
    assert!(state.remind(&Notice { change: Change::Reminder, ..ends.clone() }).await.unwrap());
    assert!(!state.remind(&Notice { change: Change::Reminder, ..ends }).await.unwrap(), "owed");
    assert!(!state.remind(&Notice { change: Change::Reminder, ..of("x", 0) }).await.unwrap());
}

pub(crate) async fn a_mail_in_doubt_is_sent_twice_at_the_most_and_its_end_is_owed<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.fire(&of("a", 0), to("anna")).await.unwrap();
    arrange(&state, 30).await;
    for attempt in 0..DOUBTS_MAX {
        let [mail]: [Owed; 1] = owed(&state, 30).await.try_into().unwrap();
        assert_eq!(mail.doubts, attempt);
        // Sent, and nothing was noted of it: the process was killed.
        assert!(state.begin(mail.row, "line").await.unwrap());
    }
    let [mail]: [Owed; 1] = owed(&state, 30).await.try_into().unwrap();
    assert_eq!(mail.doubts, DOUBTS_MAX);
    state.give_up(mail.row, at(31), "nobody knows").await.unwrap();
    assert!(owed(&state, 10_000).await.is_empty());
    state.resolve(&over_of("a", 40)).await.unwrap();
    arrange(&state, 70).await;
    assert_eq!(owed(&state, 70).await.len(), 1, "she may have read the beginning");
}

pub(crate) async fn a_refused_attempt_leaves_no_doubt_and_an_overtaken_one_changes_nothing<
    B: Backend,
>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    one.fire(&of("a", 0), to("anna")).await.unwrap();
    arrange(&one, 30).await;
    for _ in 0..5 {
        let [mail]: [Owed; 1] = owed(&one, 30).await.try_into().unwrap();
        assert_eq!(mail.doubts, 0);
        assert!(one.begin(mail.row, "line").await.unwrap());
        one.postpone(mail.row, at(30), false, "451").await.unwrap();
    }
    let [mail]: [Owed; 1] = owed(&one, 30).await.try_into().unwrap();
    assert!(one.begin(mail.row, "line").await.unwrap());
    // It stalls, and another takes the mail over.
    world.pass(200).await;
    let [taken]: [Owed; 1] = owed(&two, 230).await.try_into().unwrap();
    assert_eq!((taken.row, taken.doubts), (mail.row, 1));
    assert!(!one.begin(mail.row, "line").await.unwrap(), "it is not the first one's any more");
    assert!(two.begin(mail.row, "line").await.unwrap());
    // What the first one knows of its own attempt says nothing of the other's.
    one.postpone(mail.row, at(230), false, "late").await.unwrap();
    world.pass(200).await;
    let [taken]: [Owed; 1] = owed(&two, 430).await.try_into().unwrap();
    assert_eq!(taken.doubts, 2, "the second one's attempt may have been heard too");
    two.sent(taken.row, at(431)).await.unwrap();
    one.postpone(mail.row, at(432), true, "later still").await.unwrap();
    assert_eq!(one.outbox(Way::Mail).await.unwrap(), (0, 0));
}

pub(crate) async fn mails_can_be_looked_at_whatever_became_of_them<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    for (account, who) in [("a", "sent"), ("b", "failed"), ("c", "owed")] {
        state.fire(&of(account, 0), to(who)).await.unwrap();
    }
    for mail in hand_out(&state, at(0), 10).await {
        state.begin(mail.row, "line").await.unwrap();
        match mail.to.expose() {
            "sent@example.org" => state.sent(mail.row, at(1)).await.unwrap(),
            "failed@example.org" => state.give_up(mail.row, at(2), "550").await.unwrap(),
            _ => state.postpone(mail.row, at(60), false, "451").await.unwrap(),
        }
    }
    state.fire(&of("d", 5), to("waiting")).await.unwrap();
    state.fire(&of("e", 6), to("waiting")).await.unwrap();
    let mails = state.mails(10).await.unwrap();
    let shown: Vec<_> = mails
        .iter()
        .map(|mail| (mail.stage.as_str(), mail.to.expose(), mail.notices, mail.failure.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            ("waiting", "waiting@example.org", 2, None),
            ("given_up", "failed@example.org", 1, Some("550")),
            ("sent", "sent@example.org", 1, None),
            ("owed", "owed@example.org", 1, Some("451")),
        ]
    );
    assert_eq!(state.mails(1).await.unwrap().len(), 1);
}
