//! How the values are read that may be written in more than one way.
//!
//! By hand, because serde's untagged enums answer "did not match any variant" where a person needs to read
//! what was expected.

use super::{OneOrMany, Ordered, Scalar, StatusClass, StatusSet};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use std::{fmt, marker::PhantomData};

impl<'de> Deserialize<'de> for StatusSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let OneOrMany(words) = OneOrMany::<Scalar>::deserialize(deserializer)?;
        if words == [Scalar("any".to_owned())] {
            return Ok(Self::default());
        }
        let classes = words.iter().map(|word| status_class(&word.0)).collect::<Option<_>>();
        classes.map(Self).ok_or_else(|| {
            de::Error::custom("expected `any`, a status such as 401, `5xx`, or a list of these")
        })
    }
}

fn status_class(word: &str) -> Option<StatusClass> {
    let in_range = |class: &u16| (1..=5).contains(class);
    if let Some(class) = word.strip_suffix("xx") {
        return class.parse().ok().filter(in_range).map(StatusClass::Hundred);
    }
    word.parse().ok().filter(|status| in_range(&(status / 100))).map(StatusClass::Exactly)
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a whole number, `true` or `false`")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.to_owned()))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl<'de, T: Deserialize<'de> + From<Scalar>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + From<Scalar>> Visitor<'de> for Reader<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list of values")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(OneOrMany(vec![Scalar(value.to_string()).into()]))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                Ok(OneOrMany(vec![Scalar(value.to_string()).into()]))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(OneOrMany(vec![Scalar(value.to_owned()).into()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(OneOrMany(values))
            }
        }

        deserializer.deserialize_any(Reader(PhantomData))
    }
}

impl From<Scalar> for String {
    fn from(scalar: Scalar) -> Self {
        scalar.0
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names with texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut entries: Vec<(String, String)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Scalar>()? {
                    if entries.iter().any(|(earlier, _)| *earlier == name) {
                        return Err(de::Error::custom(format!("`{name}` is there twice")));
                    }
                    entries.push((name, value.0));
                }
                Ok(Ordered(entries))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}
