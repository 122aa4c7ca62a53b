//! Gates as the tables hold them: JSON in one column, because nobody searches for one.

use super::writer::Refusal;
use crate::core::{
    Cause, Door, Gate, KeptGate, Timestamp,
    gate::{Objection, Why},
};
use serde::{Deserialize, Serialize};

/// What is remembered of a gate. What is as it is from the beginning is left out.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    gate: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    #[serde(skip_serializing_if = "is_no")]
    by_hand: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    objection: Option<StoredObjection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prove_from: Option<i64>,
    #[serde(skip_serializing_if = "is_zero")]
    tries: u8,
    #[serde(skip_serializing_if = "is_no")]
    marked: bool,
    #[serde(skip_serializing_if = "is_zero")]
    followed: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct StoredObjection {
    cause: String,
    #[serde(default, skip_serializing_if = "is_no")]
    owners: bool,
    since: i64,
    times: u8,
}

/// `None` leaves the column as it is; a gate that never moved takes no room.
pub(super) fn text(door: Option<Door>, left: Option<Timestamp>) -> Option<String> {
    let door = door?;
    if door == Door::default() && left.is_none() {
        return Some(String::new());
    }
    let stored = Stored {
        gate: door.gate.as_label().to_owned(),
        why: door.why.map(|why| why.as_label().to_owned()),
        since: door.since.map(Timestamp::as_unix),
        by_hand: door.by_hand,
        refused: door.refused.map(|cause| cause.as_label().to_owned()),
        objection: door.objection.map(|one| StoredObjection {
            cause: one.cause.as_label().to_owned(),
            owners: one.is_owners,
            since: one.since.as_unix(),
            times: one.times,
        }),
        prove_from: door.prove_from.map(Timestamp::as_unix),
        tries: door.tries,
        marked: door.marked,
        followed: door.followed,
        left: left.map(Timestamp::as_unix),
    };
    Some(serde_json::to_string(&stored).expect("words and numbers are always JSON"))
}

/// The same of an account that is away.
pub(super) fn kept(kept: KeptGate) -> Option<String> {
    text(Some(kept.door), Some(kept.left))
}

/// The way back from [`text`].
pub(super) fn read(text: Option<&str>) -> Result<(Door, Option<Timestamp>), Refusal> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok((Door::default(), None));
    };
    let damaged = || Refusal::Damaged("a gate in it is none that was ever written".to_owned());
    let stored: Stored = serde_json::from_str(text).map_err(|_| damaged())?;
    let why = |label: String| Why::from_label(&label).ok_or_else(damaged);
    let cause = |label: String| Cause::from_label(&label).ok_or_else(damaged);
    let objection = |one: StoredObjection| {
        Ok::<_, Refusal>(Objection {
            cause: cause(one.cause)?,
            is_owners: one.owners,
            since: Timestamp::from_unix(one.since),
            times: one.times,
        })
    };
    let door = Door {
        gate: Gate::from_label(&stored.gate).ok_or_else(damaged)?,
        why: stored.why.map(why).transpose()?,
        since: stored.since.map(Timestamp::from_unix),
        by_hand: stored.by_hand,
        refused: stored.refused.map(cause).transpose()?,
        objection: stored.objection.map(objection).transpose()?,
        prove_from: stored.prove_from.map(Timestamp::from_unix),
        tries: stored.tries,
        marked: stored.marked,
        followed: stored.followed,
    };
    Ok((door, stored.left.map(Timestamp::from_unix)))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
const fn is_no(flag: &bool) -> bool {
    !*flag
}

fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_comes_back_as_it_was_and_one_that_never_moved_takes_no_room() {
        let at = |seconds| Some(Timestamp::from_unix(seconds));
        let full = Door {
            gate: Gate::Canary,
            why: Some(Why::Person),
            since: at(1),
            by_hand: true,
            refused: Some(Cause::Unknown),
            objection: Some(Objection {
                cause: Cause::WrongEnvironment,
                is_owners: true,
                since: Timestamp::from_unix(5),
                times: 6,
            }),
            prove_from: at(2),
            tries: 3,
            marked: true,
            followed: 4,
        };
        for (door, left) in [(Door::default(), None), (full, None), (full, at(7))] {
            let text = text(Some(door), left).unwrap();
            assert_eq!(text.is_empty(), door == Door::default());
            assert_eq!(read(Some(&text)).unwrap(), (door, left));
        }
        assert_eq!(text(None, None), None);
        assert_eq!(read(None).unwrap(), (Door::default(), None));
    }

    #[test]
    fn what_was_never_written_is_refused() {
        for text in ["{}", "[]", r#"{"gate":"ajar"}"#, r#"{"gate":"open","why":"whim"}"#] {
            assert!(matches!(read(Some(text)), Err(Refusal::Damaged(_))), "{text}");
        }
    }
}
