//! Text that a registry, an image or a container gave, made safe to show.

/// One line must stay readable; a longer text is somebody else talking.
const SHOWN_CHARS: usize = 2000;

/// The text with control characters and invisible ones, which turn text around, shown by number,
/// on one line of bounded length.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(SHOWN_CHARS));
    for (count, character) in text.chars().enumerate() {
        if count == SHOWN_CHARS {
            out.push('…');
            break;
        }
        match character {
            '\n' => out.push(' '),
            '"' | '\'' | '\\' => out.push(character),
            other => out.extend(other.escape_debug()),
        }
    }
    out
}

/// `1.5 MB`, in the decimal units of registries.
pub fn size(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_one_harmless_line() {
        for (given, expected) in [
            ("plain \"text\" of Zürich", "plain \"text\" of Zürich"),
            ("two\nlines", "two lines"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\u{202e}b\u{200b}", "a\\u{202e}b\\u{200b}"),
            ("\r\0", "\\r\\0"),
        ] {
            assert_eq!(shown(given), expected);
        }
        let long = shown(&"x".repeat(5000));
        assert_eq!(long.chars().count(), SHOWN_CHARS + 1);
    }

    #[test]
    fn amounts_have_a_unit() {
        for (count, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (70_400_000, "70.4 MB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(size(count), expected);
        }
    }
}
