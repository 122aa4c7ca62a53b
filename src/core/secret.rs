//! Text that must never be shown.

use std::fmt;
use zeroize::Zeroizing;

/// A token, a client secret, a password. It has no `Display`, its `Debug` shows nothing, it cannot be
/// serialised, and its memory is wiped when it is dropped. [`Secret::expose`] is the only way to the
/// text: search for that word to see every place that handles one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Use it for the one call that needs it and keep no copy.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True when there is no text, or only white space: a blank token is no token (Postiz stores `""`).
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.0.trim().is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_text_nor_length() {
        let short = format!("{:?}", Secret::new("a".to_owned()));
        let long = format!("{:?}", Secret::new("act.invented-token".to_owned()));
        assert_eq!(short, long);
        assert!(!long.contains("invented"));
    }
}
