//! Text from the network, made fit for an error, a terminal or a log.

/// The text, cut to `limit` characters, with everything but printable ASCII escaped.
///
/// Letters outside ASCII are escaped too: bidirectional marks and look-alikes have no business in
/// an error message, and a registry's diagnostics are ASCII in practice.
pub fn quoted(text: &[u8], limit: usize) -> String {
    let mut out = String::new();
    let lossy = String::from_utf8_lossy(&text[..text.len().min(limit.saturating_mul(4))]);
    for (count, character) in lossy.chars().enumerate() {
        if count >= limit {
            out.push_str("...");
            return out;
        }
        if character == ' ' || character.is_ascii_graphic() {
            out.push(character);
        } else if matches!(character, '\n' | '\r' | '\t') {
            out.push(' ');
        } else {
            out.extend(character.escape_default());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_characters_do_not_pass() {
        assert_eq!(quoted(b"a\x1b[31mred", 100), "a\\u{1b}[31mred");
        assert_eq!(quoted(b"two\nlines", 100), "two lines");
        assert_eq!(quoted("\u{202e}x".as_bytes(), 100), "\\u{202e}x");
        assert_eq!(quoted(b"abcdef", 3), "abc...");
    }

    proptest! {
        #[test]
        fn any_bytes_give_bounded_printable_text(bytes: Vec<u8>, limit in 0usize..50) {
            let text = quoted(&bytes, limit);
            prop_assert!(text.chars().all(|c| c == ' ' || c.is_ascii_graphic()));
            prop_assert!(text.len() <= limit * 10 + 3);
        }
    }
}
