//! Whole numbers as JSON Schema counts them: `401.0` is one, whatever a publisher's language makes of its numbers.

use serde::{Deserialize, Deserializer, de};
use std::fmt;

/// A whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole(pub(super) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole, E> {
                // Beyond any of our ranges, and refused there.
                Ok(Whole(i64::try_from(number).unwrap_or(i64::MAX)))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Whole, E> {
                if number.fract() != 0.0 {
                    return Err(E::custom("not a whole number"));
                }
                // Saturates, like the one above.
                Ok(Whole(number as i64))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        let cases = [
            ("401", Some(401)),
            ("401.0", Some(401)),
            ("4.01e2", Some(401)),
            ("-1", Some(-1)),
            ("18446744073709551615", Some(i64::MAX)),
            ("1e300", Some(i64::MAX)),
            ("401.5", None),
            ("\"401\"", None),
            ("true", None),
            ("null", None),
        ];
        for (text, expected) in cases {
            let read = serde_json::from_str::<Whole>(text).ok().map(|whole| whole.0);
            assert_eq!(read, expected, "{text}");
        }
    }
}
