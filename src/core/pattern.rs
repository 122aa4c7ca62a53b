//! Which accounts a text such as `tiktok/brand-*` names.

/// True when `pattern`, in which `*` stands for any text, describes the whole of `text`. Each `*` takes as
/// little as it can, and only the last one ever takes more: no pattern makes it slow.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_everything_else_for_itself() {
        let cases = [
            ("*", "tiktok/a", true),
            ("tiktok/*", "tiktok/a", true),
            ("tiktok/*", "tiktok/", true),
            ("tiktok/*", "x/a", false),
            ("*/brand-a", "tiktok/brand-a", true),
            ("*/brand-a", "tiktok/brand-ab", false),
            ("tiktok/*-eu-*", "tiktok/shop-eu-2", true),
            ("tiktok/*-eu-*", "tiktok/shop-us-2", false),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "ab", false),
            ("a*a", "a", false),
            ("**", "", true),
            ("tiktok/a", "tiktok/a", true),
            ("tiktok/a", "tiktok/ab", false),
            ("tiktok/a?", "tiktok/ab", false),
            ("tiktok/א*", "tiktok/אב", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
