//! Reads as much of a message as a person wants to see: subject, text and HTML.
//!
//! Whatever it does not understand it shows as it is; it never fails.

use base64::{Engine, engine::general_purpose::STANDARD};

/// What a person sees of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: Option<String>,
}

pub(super) fn read(raw: &[u8]) -> Content {
    let raw = String::from_utf8_lossy(raw);
    let (head, _) = split(&raw);
    let mut content =
        Content { subject: decode_words(&field(head, "Subject")), ..Content::default() };
    collect(&raw, PARTS_DEEP_MAX, &mut content);
    content
}

fn collect(part: &str, levels: usize, content: &mut Content) {
    let (head, body) = split(part);
    let kind = field(head, "Content-Type");
    if let Some(boundary) = boundary_of(&kind).filter(|_| levels > 0) {
        for inner in parts(body, &boundary) {
            collect(inner, levels - 1, content);
        }
        return;
    }
    let decoded = decode_body(body, &field(head, "Content-Transfer-Encoding"));
    if kind.to_ascii_lowercase().starts_with("text/html") {
        content.html.get_or_insert(decoded);
    } else if content.text.is_empty() {
        content.text = decoded;
    }
}

/// Header and body; a message without a blank line is all header.
fn split(part: &str) -> (&str, &str) {
    if let Some(body) = part.strip_prefix("\r\n") {
        return ("", body);
    }
    part.split_once("\r\n\r\n").unwrap_or((part, ""))
}

/// A header field, unfolded; empty when it is not there.
fn field(head: &str, name: &str) -> String {
    let mut value: Option<String> = None;
    for line in head.split("\r\n") {
        match &mut value {
            Some(value) if line.starts_with([' ', '\t']) => value.push_str(line),
            Some(_) => break,
            None => {
                let found =
                    line.split_once(':').filter(|(have, _)| have.eq_ignore_ascii_case(name));
                value = found.map(|(_, first)| first.to_owned());
            }
        }
    }
    value.unwrap_or_default().trim().to_owned()
}

fn boundary_of(kind: &str) -> Option<String> {
    if !kind.to_ascii_lowercase().starts_with("multipart/") {
        return None;
    }
    let (_, boundary) = kind.split_once("boundary=")?;
    let boundary = match boundary.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => boundary.split([';', ' ']).next()?,
    };
    Some(boundary.to_owned())
}

fn parts<'a>(body: &'a str, boundary: &str) -> Vec<&'a str> {
    let separator = format!("--{boundary}");
    let pieces = body.split(separator.as_str()).skip(1);
    pieces
        .take_while(|piece| !piece.starts_with("--"))
        .filter_map(|piece| piece.split_once("\r\n").map(|(_, part)| part))
        .map(|part| part.strip_suffix("\r\n").unwrap_or(part))
        .take(PARTS_MAX)
        .collect()
}

fn decode_body(body: &str, encoding: &str) -> String {
    match encoding.to_ascii_lowercase().as_str() {
        "quoted-printable" => {
            let joined = body.replace("=\r\n", "");
            String::from_utf8_lossy(&unquote(&joined, false)).into_owned()
        }
        "base64" => {
            let packed: String = body.split_whitespace().collect();
            let bytes = STANDARD.decode(packed);
            bytes.map_or_else(|_| body.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into())
        }
        _ => body.to_owned(),
    }
}

/// Encoded words of RFC 2047 in UTF-8; white space between two of them vanishes.
fn decode_words(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    let mut after_word = false;
    while let Some((before, from)) = rest.split_once("=?") {
        let Some((word, behind)) = encoded_word(from) else {
            plain.push_str(before);
            plain.push_str("=?");
            rest = from;
            after_word = false;
            continue;
        };
        if !(after_word && before.trim().is_empty()) {
            plain.push_str(before);
        }
        plain.push_str(&word);
        rest = behind;
        after_word = true;
    }
    plain.push_str(rest);
    plain
}

fn encoded_word(from: &str) -> Option<(String, &str)> {
    let (charset, from) = from.split_once('?')?;
    let (encoding, from) = from.split_once('?')?;
    let (coded, behind) = from.split_once("?=")?;
    let bytes = match encoding {
        "b" | "B" => STANDARD.decode(coded).ok()?,
        "q" | "Q" => unquote(coded, true),
        _ => return None,
    };
    charset.eq_ignore_ascii_case("utf-8").then(|| (String::from_utf8_lossy(&bytes).into(), behind))
}

fn unquote(text: &str, underscore_is_blank: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'=', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            (b'_', _) if underscore_is_blank => {
                bytes.push(b' ');
                rest = behind;
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

/// How deep parts may lie in parts.
const PARTS_DEEP_MAX: usize = 4;
const PARTS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_html_are_found_in_a_multipart_message_and_decoded() {
        let raw = "Subject: =?utf-8?b?QWNjb3VudCDigJw=?=\r\n =?utf-8?q?caf=C3=A9_1?=\r\n\
            MIME-Version: 1.0\r\n\
            Content-Type: multipart/alternative;\r\n boundary=\"cut-here\"\r\n\r\n\
            --cut-here\r\nContent-Type: text/plain; charset=utf-8\r\n\
            Content-Transfer-Encoding: quoted-printable\r\n\r\n\
            caf=C3=A9 and a soft=\r\n break =3D\r\n\
            --cut-here\r\nContent-Type: text/html; charset=utf-8\r\n\
            Content-Transfer-Encoding: base64\r\n\r\nPGI+aGk8\r\nL2I+\r\n\
            --cut-here--\r\n";
        let content = read(raw.as_bytes());
        assert_eq!(content.subject, "Account “café 1");
        assert_eq!(content.text, "café and a soft break =");
        assert_eq!(content.html.as_deref(), Some("<b>hi</b>"));
    }

    #[test]
    fn a_built_message_reads_as_it_was_written() {
        let message = lettre::Message::builder()
            .from("a@demo.invalid".parse().unwrap())
            .to("b@demo.invalid".parse().unwrap())
            .subject("Größe — a subject that is so long that it must be folded over two lines, ok")
            .multipart(lettre::message::MultiPart::alternative_plain_html(
                "one\r\n.two ü".to_owned(),
                "<p>one ü</p>".to_owned(),
            ))
            .unwrap();
        let content = read(&message.formatted());
        let subject = "Größe — a subject that is so long that it must be folded over two lines, ok";
        assert_eq!(content.subject, subject);
        assert_eq!(content.text.trim_end(), "one\r\n.two ü");
        assert_eq!(content.html.as_deref().map(str::trim_end), Some("<p>one ü</p>"));
    }

    #[test]
    fn damaged_messages_are_shown_as_they_are() {
        for raw in ["", "\r\n", "no header at all", "Subject: =?utf-8?x?y?=\r\n\r\n=zz"] {
            read(raw.as_bytes());
        }
        let endless = "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n".repeat(50);
        assert_eq!(read(endless.as_bytes()).html, None);
        assert_eq!(read(b"Subject: =?utf-8?x?y?=\r\n\r\nhi").subject, "=?utf-8?x?y?=");
    }
}
