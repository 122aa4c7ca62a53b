//! The encoding of forms and queries. Everything on the way is wiped, since tokens pass through.

use crate::core::Secret;

/// `application/x-www-form-urlencoded`: what is not harmless becomes `%XX`, a space becomes `+`.
#[must_use]
pub fn form_encoded(text: &str) -> Secret {
    // Room for the worst case: a `String` that grows leaves copies behind that nobody wipes.
    let mut encoded = String::with_capacity(3 * text.len());
    push_encoded(&mut encoded, text);
    Secret::new(encoded)
}

/// The pairs as `name=value&name=value`, in their order.
#[must_use]
pub fn form_of(pairs: &[(String, Secret)]) -> Secret {
    let room = pairs.iter().map(|(name, value)| 3 * (name.len() + value.expose().len()) + 2).sum();
    let mut encoded = String::with_capacity(room);
    for (name, value) in pairs {
        if !encoded.is_empty() {
            encoded.push('&');
        }
        push_encoded(&mut encoded, name);
        encoded.push('=');
        push_encoded(&mut encoded, value.expose());
    }
    Secret::new(encoded)
}

fn push_encoded(encoded: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => {
                encoded.push('%');
                encoded.push(char::from(HEX[usize::from(byte >> 4)]));
                encoded.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_end_a_value_early_is_escaped() {
        let pairs =
            [("a b".to_owned(), Secret::new("x&y=z+ü%\r\n".to_owned())), pair("c", "d-._*~")];
        assert_eq!(form_of(&pairs).expose(), "a+b=x%26y%3Dz%2B%C3%BC%25%0D%0A&c=d-._*%7E");
    }

    fn pair(name: &str, value: &str) -> (String, Secret) {
        (name.to_owned(), Secret::new(value.to_owned()))
    }
}
