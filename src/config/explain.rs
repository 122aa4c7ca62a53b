//! What serde and a slip of the fingers amount to, in the words of a person who edits a file.

use super::problem::{KeyPath, Step};

/// What serde says, in the words of a person who edits a file. Its own text may quote the value.
pub(super) fn explain(message: &str, key: &KeyPath, found: &str) -> (String, String) {
    if message.contains(UNKNOWN_KEY) {
        let name = match key.0.last() {
            Some(Step::Key(name)) => name.as_str(),
            _ => "",
        };
        return explain_unknown_key(name, &quoted_names(message.split("expected").nth(1)));
    }
    if message.contains("unknown variant") {
        let known = quoted_names(message.split("expected").nth(1));
        let remedy = match nearest(found.trim_matches(['`', '"']), &known) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("write {}", alternatives(&known)),
        };
        return (format!("found {found}, expected {}", alternatives(&known)), remedy);
    }
    if let Some((_, own)) = message.split_once(OWN_MESSAGE) {
        let own = own.split(" at line ").next().unwrap_or(own);
        let (expected, remedy) = own.split_once("; ").unwrap_or((own, "correct the value"));
        return (format!("found {found}, expected {expected}"), remedy.to_owned());
    }
    if let Some(name) = missing_key(message) {
        return (format!("missing, expected the key `{name}`"), format!("add `{name}:` to it"));
    }
    let expected = message.split_once("expected ").map_or("", |(_, expected)| expected);
    let expected = expected.split(" at line ").next().unwrap_or(expected);
    let (expected, remedy) = match expected {
        "a boolean" => ("true or false", "write true or false, without quotes"),
        "a string" => ("text", "write one value on this line"),
        "path string" => ("a file name", "write one file name on this line"),
        "a sequence" => ("a list", "write `[one, two]`, or one element per line after `- `"),
        "u16" => ("a whole number from 0 to 65535", "write digits only, without quotes"),
        "u32" => ("a whole number, 0 or more", "write digits only, without quotes"),
        "f64" => ("a number", "write a number such as 0.5, without quotes"),
        "" => ("another value", "compare with config.example.yaml"),
        "a tuple of size 2" => {
            ("two numbers", "write the first and the last, such as `[200, 299]`")
        }
        "a map" | "names with texts" => KEYS_EXPECTED,
        expected if expected.starts_with("struct ") => KEYS_EXPECTED,
        // What our own types say of themselves.
        expected => (expected, "compare with config.example.yaml"),
    };
    (format!("found {found}, expected {expected}"), remedy.to_owned())
}

/// The key that serde misses.
pub(super) fn missing_key(message: &str) -> Option<&str> {
    message.split_once("missing field `")?.1.split('`').next()
}

fn explain_unknown_key(name: &str, known: &[&str]) -> (String, String) {
    let lower = name.to_ascii_lowercase();
    let secret = ["client_secret", "password", "secret"].into_iter().find(|word| lower == *word);
    let remedy = match (secret, nearest(name, known)) {
        (Some(word), _) if known.contains(&&*format!("{word}_file")) => format!(
            "secrets never stand in this file; put it into one and name that in `{word}_file`, \
             or name a variable in `{word}_env`"
        ),
        (_, Some(known)) => format!("did you mean `{known}`?"),
        (_, None) => "remove it, or move it to where it belongs".to_owned(),
    };
    (format!("{UNKNOWN_KEY_FOUND}, expected {}", alternatives(known)), remedy)
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn alternatives(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

pub(super) fn quoted_names(text: Option<&str>) -> Vec<&str> {
    text.unwrap_or("").split('`').skip(1).step_by(2).collect()
}

/// A value for a message: quoted, escaped and short.
pub(super) fn shown(text: &str, plain: bool) -> String {
    let cut: String = text.chars().take(VALUE_SHOWN_MAX).flat_map(char::escape_debug).collect();
    let dots = if text.chars().count() > VALUE_SHOWN_MAX { "…" } else { "" };
    let quote = if plain { "`" } else { "\"" };
    format!("{quote}{cut}{dots}{quote}")
}

/// The name in `known` that a person most likely meant.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let wanted = name.to_ascii_lowercase().replace(['-', ' '], "_");
    let near = known.iter().map(|known| (distance(&wanted, known), *known)).min()?;
    let contained = known
        .iter()
        .filter(|known| wanted.len() > 3 && (known.contains(&*wanted) || wanted.contains(**known)))
        .min_by_key(|known| known.len().abs_diff(wanted.len()));
    if near.0 <= near.1.len().div_ceil(3) { Some(near.1) } else { contained.copied() }
}

/// Optimal string alignment distance: swapped neighbours are one slip of the fingers, not two.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(WORD_COMPARED_MAX).collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// How our own types begin what they say through serde: `OWN_MESSAGE expected; remedy`.
pub(super) const OWN_MESSAGE: &str = "own: ";

const KEYS_EXPECTED: (&str, &str) =
    ("keys and values", "indent them by two blanks beneath this key");

/// How serde begins when it meets a key that a struct does not have.
pub(super) const UNKNOWN_KEY: &str = "unknown field";

/// How a fault begins that is about a key and not about its value.
pub(super) const UNKNOWN_KEY_FOUND: &str = "unknown key";

/// Longest piece of a value that is shown, in characters.
const VALUE_SHOWN_MAX: usize = 40;

/// Longest piece of a word that is compared with the known ones, in characters.
const WORD_COMPARED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_likely_key_is_suggested_and_an_unlikely_one_is_not() {
        let known = ["due_after", "spread", "backoff_first", "backoff_max", "listen", "to"];
        let cases = [
            ("due_afer", Some("due_after")),
            ("dueAfter", Some("due_after")),
            ("due-after", Some("due_after")),
            ("backof_max", Some("backoff_max")),
            ("lisetn", Some("listen")),
            ("listen_address", Some("listen")),
            ("user_agent", None),
            ("x", None),
        ];
        for (name, suggested) in cases {
            assert_eq!(nearest(name, &known), suggested, "{name}");
        }
    }
}
