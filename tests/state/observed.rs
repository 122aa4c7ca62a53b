//! How far logs and tables were read.

use super::*;

pub(crate) async fn a_position_is_kept_under_its_name_until_the_next_one<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    assert_eq!(state.position_of("log a").await.unwrap(), None);
    let strange = "{\"files\":[]} '\"\\ ü \u{1}\0";
    for (name, position) in [("log a", "1"), ("log b", strange), ("log a", "2"), ("log \0", "3")] {
        state.keep_position(name, position, at(0)).await.unwrap();
    }
    state.shut().await;
    let state = open(&world).await;
    for (name, position) in [("log a", "2"), ("log b", strange), ("log \0", "3")] {
        assert_eq!(state.position_of(name).await.unwrap().as_deref(), Some(position), "{name:?}");
    }
    assert_eq!(state.position_of("log").await.unwrap(), None);
}

pub(crate) async fn a_position_that_nobody_moves_is_forgotten_after_months<B: Backend>() {
    let world = B::make().await;
    let state = open(&world).await;
    let day = |day: i64| at(day * 24 * 3_600);
    state.keep_position("moved", "1", day(0)).await.unwrap();
    state.keep_position("left", "1", day(0)).await.unwrap();
    state.keep_position("moved", "2", day(80)).await.unwrap();
    assert!(state.position_of("left").await.unwrap().is_some());
    state.keep_position("other", "1", day(91)).await.unwrap();
    assert_eq!(state.position_of("left").await.unwrap(), None);
    assert_eq!(state.position_of("moved").await.unwrap().as_deref(), Some("2"));
}
