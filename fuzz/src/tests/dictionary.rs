//! libFuzzer's dictionaries: a quoted word on each line, with `\xHH`, `\\` and `\"` inside.

use std::path::Path;

/// The words of a dictionary; none where there is no file.
pub(super) fn read(path: &Path) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let words = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    words
        .map(|line| word(line).unwrap_or_else(|| panic!("{}: {line}", path.display())))
        .collect()
}

fn word(line: &str) -> Option<Vec<u8>> {
    let quoted = line.strip_prefix('"')?.strip_suffix('"')?;
    let mut bytes = Vec::new();
    let mut rest = quoted.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match (first, after) {
            (b'\\', [b'x', digits @ ..]) => {
                rest = digits.get(2..)?;
                u8::from_str_radix(str::from_utf8(&digits[..2]).ok()?, 16).ok()?
            }
            (b'\\', [escaped @ (b'\\' | b'"'), ..]) => {
                rest = &after[1..];
                *escaped
            }
            (b'\\' | b'"', _) => return None,
            (plain, _) => *plain,
        });
    }
    Some(bytes)
}

#[test]
fn words_are_read() {
    assert_eq!(word(r#""a\x00\"\\b""#), Some(b"a\0\"\\b".to_vec()));
    for bad in [r#""a"#, r"a", r#""\x0""#, r#""\n""#, r#""a"b""#] {
        assert_eq!(word(bad), None, "{bad}");
    }
}
