//! The two text formats, line by line, into a buffer that is used again.
//!
//! The hot loop of a scrape is in here, so nothing in here allocates or formats through `fmt`, except
//! where a value is not an integer.

use super::negotiation::Format;
use std::io::Write as _;

/// A metric family: what its HELP and TYPE lines say. Help texts are constants without line breaks or
/// backslashes, because neither format's readers agree on how those are escaped.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// [`PREFIX`], or nothing for the names that every process has.
    pub prefix: &'static str,
    /// The name without prefix and without the `_total` of counters.
    pub name: &'static str,
    /// What kind of values it has.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
}

/// The kinds of families that are written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, until the process starts anew.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

/// What every name of ours begins with.
pub const PREFIX: &str = "oauth_keepalive_";

impl Family {
    /// A counter of ours; its samples get `_total`.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { prefix: PREFIX, name, kind: Kind::Counter, help }
    }

    /// A gauge of ours.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { prefix: PREFIX, name, kind: Kind::Gauge, help }
    }

    /// The HELP and TYPE lines. OpenMetrics names the family there, the classic format the sample.
    pub fn write_header(&self, out: &mut Vec<u8>, format: Format) {
        let total = match (self.kind, format) {
            (Kind::Counter, Format::Classic) => "_total",
            _ => "",
        };
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        for part in ["# HELP ", self.prefix, self.name, total, " ", self.help, "\n# TYPE "] {
            out.extend_from_slice(part.as_bytes());
        }
        for part in [self.prefix, self.name, total, " ", kind, "\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }

    /// The name of a sample.
    pub fn write_sample_name(&self, out: &mut Vec<u8>) {
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        for part in [self.prefix, self.name, total] {
            out.extend_from_slice(part.as_bytes());
        }
    }

    /// One sample with these labels.
    pub fn write_sample(&self, out: &mut Vec<u8>, labels: &[(&str, &str)], value: i64) {
        self.write_sample_name(out);
        write_labels(out, labels);
        out.push(b' ');
        write_integer_line(out, value);
    }

    /// Header and the only sample of a family that has no labels.
    pub fn write_single(&self, out: &mut Vec<u8>, format: Format, value: i64) {
        self.write_header(out, format);
        self.write_sample(out, &[], value);
    }

    /// The same for a value that is no integer.
    pub fn write_single_float(&self, out: &mut Vec<u8>, format: Format, value: f64) {
        self.write_header(out, format);
        self.write_sample_name(out);
        out.push(b' ');
        write_float(out, value);
        out.push(b'\n');
    }
}

/// `{name="value",…}`, or nothing when there is no label.
pub fn write_labels(out: &mut Vec<u8>, labels: &[(&str, &str)]) {
    let mut opening = b'{';
    for (name, value) in labels {
        out.push(opening);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        write_escaped(out, value);
        out.push(b'"');
        opening = b',';
    }
    if !labels.is_empty() {
        out.push(b'}');
    }
}

/// A label value. A quote or a line break that got through would let an account's name write series of
/// its own.
pub fn write_escaped(out: &mut Vec<u8>, value: &str) {
    let bytes = value.as_bytes();
    // Without early exit the compiler checks sixteen bytes at a time; nearly no name has any of them.
    if !bytes.iter().fold(false, |found, byte| found | needs_escape(*byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    for byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(*byte),
        }
    }
}

const fn needs_escape(byte: u8) -> bool {
    (byte == b'\\') | (byte == b'"') | (byte == b'\n')
}

/// An integer in decimal that ends its line: one copy for both.
pub fn write_integer_line(out: &mut Vec<u8>, value: i64) {
    let (line, at) = decimal_line(value);
    out.extend_from_slice(&line[at..]);
}

/// The digits and a line break, at the end of the array, and where they begin.
fn decimal_line(value: i64) -> ([u8; INTEGER_DIGITS_MAX + 1], usize) {
    let mut line = [b'\n'; INTEGER_DIGITS_MAX + 1];
    let mut at = INTEGER_DIGITS_MAX;
    let mut rest = value.unsigned_abs();
    while rest >= 100 {
        let pair = (rest % 100) as usize * 2;
        rest /= 100;
        at -= 2;
        line[at..at + 2].copy_from_slice(&DIGIT_PAIRS[pair..pair + 2]);
    }
    if rest >= 10 {
        let pair = rest as usize * 2;
        at -= 2;
        line[at..at + 2].copy_from_slice(&DIGIT_PAIRS[pair..pair + 2]);
    } else {
        at -= 1;
        line[at] = b'0' + rest as u8;
    }
    if value < 0 {
        at -= 1;
        line[at] = b'-';
    }
    (line, at)
}

/// A value that is no integer. Always with a point, as OpenMetrics wants it for bucket bounds.
pub fn write_float(out: &mut Vec<u8>, value: f64) {
    write!(out, "{value:?}").expect("a vector takes every byte");
}

/// `-9223372036854775808`.
const INTEGER_DIGITS_MAX: usize = 20;

/// "00" to "99": two digits for each division.
const DIGIT_PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut number = 0;
    while number < 100 {
        pairs[number * 2] = b'0' + (number / 10) as u8;
        pairs[number * 2 + 1] = b'0' + (number % 10) as u8;
        number += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_as_the_standard_library_writes_them() {
        let mut cases =
            vec![0, 5, 9, 10, 99, 100, 101, 12_345, i64::MAX, i64::MIN, -1, -10, -86_400];
        cases.extend((0..63).flat_map(|bit| [1_i64 << bit, -(1_i64 << bit), (1_i64 << bit) - 1]));
        for value in cases {
            let mut out = Vec::new();
            write_integer_line(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{value}\n"));
        }
    }

    #[test]
    fn nothing_in_a_label_value_ends_the_label() {
        let cases = [
            ("plain", "plain"),
            ("", ""),
            ("say \"hi\"", r#"say \"hi\""#),
            ("back\\slash", r"back\\slash"),
            ("two\nlines", r"two\nlines"),
            ("🎬 über", "🎬 über"),
            ("x\"} 1\noauth_keepalive_store_up 0\n#", r#"x\"} 1\noauth_keepalive_store_up 0\n#"#),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            write_escaped(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
