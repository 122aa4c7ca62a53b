//! Incidents and their mails.

use super::*;

pub(crate) fn firing() -> Notice {
    let mut evidence = Evidence::of(Cause::ConsentRevoked, at(90));
    evidence.code = Some("access_token_invalid".into());
    evidence.log_id = Some("2026".into());
    evidence.status = Some(401);
    evidence.retry_after = Some(Duration::from_secs(7));
    Notice {
        subject: Subject::Account(ann()),
        cause: Cause::ConsentRevoked,
        change: Change::Firing,
        audience: Audience::Owner,
        since: at(90),
        at: at(100),
        expires_at: Some(at(900)),
        evidence: Some(Arc::new(evidence)),
        step: Some(Step::ReconnectGranting),
        missing_scopes: vec!["video.publish".into()],
        accounts: 1,
        posts_at_risk: None,
        gate: Gate::Held,
    }
}

fn over(change: Change) -> Notice {
    Notice { change, at: at(200), ..firing() }
}

fn owners() -> Vec<Secret> {
    ["one@example.org", "two@example.org", "one@example.org"]
        .map(|address| Secret::new(address.to_owned()))
        .into()
}

/// Every notice in a mail of its own, those that are due.
pub(crate) async fn hand_out(state: &State, now: Timestamp, at_most: usize) -> Vec<Owed> {
    state.arrange(Way::Mail, now, &Rules::EACH, &[]).await.unwrap();
    state.owed(Way::Mail, now, at_most).await.unwrap()
}

async fn owed(state: &State) -> Vec<Owed> {
    hand_out(state, at(1_000), 100).await
}

fn only(mail: &Owed) -> &Notice {
    let [(_, notice)] = &mail.notices[..] else { panic!("not one notice: {mail:?}") };
    notice
}

/// Of how many mails something is owed.
async fn length(state: &State) -> usize {
    state.outbox(Way::Mail).await.unwrap().0
}

pub(crate) async fn an_incident_fires_once_and_owes_one_mail_per_address<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    assert!(state.fire(&firing(), owners()).await.unwrap());
    assert!(!state.fire(&firing(), owners()).await.unwrap());
    state.shut().await;

    let state = open(&world).await;
    assert!(!state.fire(&firing(), owners()).await.unwrap());
    let mails = owed(&state).await;
    let to: Vec<_> = mails.iter().map(|mail| mail.to.expose()).collect();
    assert_eq!(to, ["one@example.org", "two@example.org"]);
    assert!(mails.iter().all(|mail| *only(mail) == firing() && mail.threads.is_empty()));
    assert_eq!(length(&state).await, 2);
}

pub(crate) async fn another_cause_or_subject_is_another_incident<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let bob = AccountId::new("tiktok", "bob");
    for notice in [
        firing(),
        Notice { cause: Cause::ScopeMissing, ..firing() },
        Notice { subject: Subject::Account(bob), ..firing() },
        Notice { subject: Subject::App("tiktok/ann".into()), ..firing() },
        Notice { subject: Subject::Store, evidence: None, ..firing() },
        Notice { subject: Subject::Host, audience: Audience::Operator, ..firing() },
    ] {
        assert!(state.fire(&notice, owners()).await.unwrap(), "{}", notice.subject);
        assert_eq!(*only(owed(&state).await.last().unwrap()), notice);
    }
}

pub(crate) async fn everybody_who_was_told_hears_of_the_end_in_the_same_thread<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.fire(&firing(), owners()).await.unwrap();
    let first = owed(&state).await;
    for mail in &first {
        state.sent(mail.row, at(110)).await.unwrap();
    }
    assert_eq!(length(&state).await, 0);
    assert!(state.resolve(&over(Change::Resolved)).await.unwrap());
    assert!(!state.resolve(&over(Change::Resolved)).await.unwrap());
    let second = owed(&state).await;
    assert_eq!(second.len(), 2);
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(second.threads[0].key, first.message_key);
        assert_eq!(*only(second), over(Change::Resolved));
        assert_eq!(second.to, first.to);
        state.sent(second.row, at(210)).await.unwrap();
    }
    assert_eq!(length(&state).await, 0);
}

pub(crate) async fn a_mail_that_never_left_is_withdrawn_with_its_end<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.fire(&firing(), owners()).await.unwrap();
    let [one, two]: [Owed; 2] = owed(&state).await.try_into().unwrap();
    state.sent(one.row, at(110)).await.unwrap();
    state.postpone(two.row, at(150), false, "x").await.unwrap();
    assert!(state.resolve(&over(Change::Resolved)).await.unwrap());
    let left = owed(&state).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].to, one.to);
}

pub(crate) async fn a_mail_that_was_leaving_while_its_incident_ended_is_followed_by_the_end<
    B: Backend,
>() {
    for (name, certain) in [("sent", true), ("perhaps", false)] {
        let world = B::make().await;
        let state = open(&world).await;
        state.fire(&firing(), owners()).await.unwrap();
        let [one, two]: [Owed; 2] = owed(&state).await.try_into().unwrap();
        state.resolve(&over(Change::Resolved)).await.unwrap();
        assert!(owed(&state).await.is_empty(), "{name}");
        match certain {
            true => state.sent(one.row, at(210)).await.unwrap(),
            false => state.postpone(one.row, at(210), true, "x").await.unwrap(),
        }
        state.postpone(two.row, at(210), false, "x").await.unwrap();
        let left = owed(&state).await;
        assert_eq!(left.len(), 1, "{name}");
        assert_eq!(*only(&left[0]), over(Change::Resolved), "{name}");
        assert_eq!(left[0].threads[0].key, one.message_key, "{name}");
        assert_eq!(left[0].to, one.to, "{name}");
    }
}

pub(crate) async fn a_mail_that_perhaps_left_is_not_sent_again_after_the_end_but_its_end_is<
    B: Backend,
>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.fire(&firing(), vec![Secret::new("one@example.org".to_owned())]).await.unwrap();
    let mail = owed(&state).await.remove(0);
    state.postpone(mail.row, at(120), true, "x").await.unwrap();
    // Certain of the second attempt, still not of the first.
    state.postpone(mail.row, at(130), false, "x").await.unwrap();
    state.resolve(&over(Change::Resolved)).await.unwrap();
    let left = owed(&state).await;
    assert_eq!(left.len(), 1);
    assert_eq!(only(&left[0]).change, Change::Resolved);
}

pub(crate) async fn nobody_is_mailed_about_an_account_that_is_of_no_interest_any_more<
    B: Backend,
>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.fire(&firing(), owners()).await.unwrap();
    let [one, two]: [Owed; 2] = owed(&state).await.try_into().unwrap();
    state.sent(one.row, at(110)).await.unwrap();
    assert!(state.resolve(&over(Change::Withdrawn)).await.unwrap());
    assert_eq!(length(&state).await, 0);
    state.sent(two.row, at(210)).await.unwrap();
    assert_eq!(length(&state).await, 0);
    assert!(!state.resolve(&over(Change::Withdrawn)).await.unwrap());
}

pub(crate) async fn a_mail_that_was_given_up_is_owed_no_end<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.fire(&firing(), owners()).await.unwrap();
    for mail in owed(&state).await {
        state.give_up(mail.row, at(110), "x").await.unwrap();
    }
    assert!(owed(&state).await.is_empty());
    state.resolve(&over(Change::Resolved)).await.unwrap();
    assert_eq!(length(&state).await, 0);
}

pub(crate) async fn a_postponed_mail_comes_back_when_its_time_has_come_with_the_same_key<
    B: Backend,
>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.fire(&firing(), vec![Secret::new("one@example.org".to_owned())]).await.unwrap();
    assert!(hand_out(&state, at(99), 10).await.is_empty());
    let first = hand_out(&state, at(100), 10).await.remove(0);
    state.postpone(first.row, at(160), false, "x").await.unwrap();
    assert_eq!(state.next_due(Way::Mail).await.unwrap(), Some(at(160)));
    assert_eq!(length(&state).await, 1);
    assert!(hand_out(&state, at(159), 10).await.is_empty());
    let second = hand_out(&state, at(160), 10).await.remove(0);
    assert_eq!((first.attempts, second.attempts), (0, 1));
    assert_eq!(first.message_key, second.message_key);
}

pub(crate) async fn no_two_mails_share_a_key_and_no_key_shows_an_address<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let mut keys = std::collections::BTreeSet::new();
    let mut mails = 0;
    for _ in 0..3 {
        state.fire(&firing(), owners()).await.unwrap();
        for end in [false, true] {
            for mail in owed(&state).await {
                assert!(mail.message_key.bytes().all(|byte| byte.is_ascii_hexdigit()));
                keys.insert(mail.message_key);
                mails += 1;
                state.sent(mail.row, at(110)).await.unwrap();
            }
            if !end {
                state.resolve(&over(Change::Resolved)).await.unwrap();
            }
        }
    }
    assert_eq!((mails, keys.len()), (12, 12));
}

pub(crate) async fn no_more_mails_are_handed_out_than_were_asked_for<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    state.fire(&firing(), owners()).await.unwrap();
    let mails = hand_out(&state, at(1_000), 1).await;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to.expose(), "one@example.org");
}

pub(crate) async fn a_mail_that_was_handed_out_is_not_handed_to_another<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    one.fire(&firing(), owners()).await.unwrap();
    let mine = hand_out(&one, at(1_000), 1).await;
    let his = hand_out(&two, at(1_000), 10).await;
    assert_eq!((mine.len(), his.len()), (1, 1));
    assert_ne!(mine[0].row, his[0].row);
    // Who asks again gets his own again.
    assert_eq!(hand_out(&one, at(1_001), 10).await[0].row, mine[0].row);
    // What another has claimed is counted, and looked at again when the claim ends.
    assert_eq!(one.next_due(Way::Mail).await.unwrap(), Some(at(1_000)));
    assert_eq!(length(&one).await, 2);
    two.sent(his[0].row, at(1_002)).await.unwrap();
    one.postpone(mine[0].row, at(1_010), false, "x").await.unwrap();
    // Postponed, it is nobody's.
    assert_eq!(hand_out(&two, at(1_010), 10).await[0].row, mine[0].row);
}

pub(crate) async fn a_mail_whose_claimant_is_not_heard_of_goes_to_another<B: Backend>() {
    let world = B::make().await;
    let (one, two) = (open(&world).await, open(&world).await);
    one.fire(&firing(), vec![Secret::new("one@example.org".to_owned())]).await.unwrap();
    let mail = hand_out(&one, at(1_000), 10).await.remove(0);
    world.pass(100).await;
    assert!(hand_out(&two, at(1_100), 10).await.is_empty());
    assert!(two.next_due(Way::Mail).await.unwrap().is_none_or(|next| next > at(1_000)));
    world.pass(20).await;
    let taken = hand_out(&two, at(1_120), 10).await.remove(0);
    assert_eq!((taken.row, taken.message_key), (mail.row, mail.message_key));
    // The first one is alive after all; what he says changes nothing of the claim.
    one.postpone(mail.row, at(1_121), false, "x").await.unwrap();
    assert!(hand_out(&one, at(1_121), 10).await.is_empty());
    assert_eq!(hand_out(&two, at(1_121), 10).await.len(), 1);
}

pub(crate) async fn many_who_ask_at_once_share_the_mails_and_none_gets_anothers<B: Backend>() {
    let world = B::make().await;
    let states = [open(&world).await, open(&world).await, open(&world).await];
    let to = (0..60).map(|n| Secret::new(format!("{n}@example.org"))).collect();
    states[0].fire(&firing(), to).await.unwrap();
    states[0].arrange(Way::Mail, at(1_000), &Rules::EACH, &[]).await.unwrap();
    let asking: Vec<_> = (0..30)
        .map(|nth| {
            let state = states[nth % 3].clone();
            tokio::spawn(
                async move { (nth % 3, state.owed(Way::Mail, at(1_000), 7).await.unwrap()) },
            )
        })
        .collect();
    let mut of: std::collections::BTreeMap<i64, usize> = std::collections::BTreeMap::new();
    for asked in asking {
        let (who, mails) = asked.await.unwrap();
        for mail in mails {
            assert_eq!(*of.entry(mail.row).or_insert(who), who, "mail {}", mail.row);
        }
    }
    assert!(of.len() >= 7);
}
