//! Text as PostgreSQL takes it: everything but a zero byte.
//!
//! Accounts are named by publishers, and a name with a zero byte must not stop its neighbours.

/// Makes `text` free of zero bytes, reversibly.
pub(super) fn store(text: &str) -> String {
    if !text.contains([ZERO, ESCAPE]) {
        return text.to_owned();
    }
    text.replace(ESCAPE, ESCAPED_ESCAPE).replace(ZERO, ESCAPED_ZERO)
}

/// The way back from [`store`].
pub(super) fn read(stored: String) -> String {
    if !stored.contains(ESCAPE) {
        return stored;
    }
    stored.replace(ESCAPED_ZERO, "\0").replace(ESCAPED_ESCAPE, "\u{1}")
}

const ZERO: char = '\0';
const ESCAPE: char = '\u{1}';
const ESCAPED_ZERO: &str = "\u{1}0";
const ESCAPED_ESCAPE: &str = "\u{1}\u{2}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_no_two_become_one() {
        let texts = ["", "ann", "\0", "\u{1}", "\u{1}0", "\u{1}\0", "\0\u{1}\u{2}0", "a\u{2}", "ü"];
        let mut stored: Vec<_> = texts.iter().map(|text| store(text)).collect();
        for (text, stored) in texts.iter().zip(&stored) {
            assert!(!stored.contains('\0'), "{text:?}");
            assert_eq!(read(stored.clone()), *text);
        }
        stored.sort();
        stored.dedup();
        assert_eq!(stored.len(), texts.len());
    }
}
