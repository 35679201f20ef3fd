//! Rules on the text of a file: header, length, columns, white space, words left for later.

use super::Violation;
use crate::tree::SourceFile;

/// A file longer than this holds more than one idea.
const MAX_LINES: usize = 800;
/// What fits beside a second file on one screen; rustfmt uses the same number.
const MAX_COLUMNS: usize = 100;
/// Words that promise work instead of doing it, spelled apart so that this file passes.
const LATER: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

pub(super) fn check(source: &SourceFile) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        violations.extend(check_line(&source.path, index + 1, line));
    }
    if source.has_extension(&["rs"]) {
        violations.extend(check_rust(source));
    }
    if !source.text.is_empty() && !source.text.ends_with('\n') {
        let last = source.text.lines().count();
        violations.push(Violation::new(
            &source.path,
            last,
            "no newline at the end",
            "add one",
        ));
    }
    violations
}

fn check_line(path: &str, number: usize, line: &str) -> Option<Violation> {
    if line.ends_with([' ', '\t']) {
        return Some(Violation::new(
            path,
            number,
            "trailing white space",
            "remove it",
        ));
    }
    let word = LATER.iter().find(|word| has_word(line, word))?;
    let fix = "do it now, or open an issue and say in words what is not done";
    Some(Violation::new(
        path,
        number,
        format!("the word {word}"),
        fix,
    ))
}

fn has_word(line: &str, word: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    line.match_indices(word).any(|(start, _)| {
        edge(line[..start].chars().next_back()) && edge(line[start + word.len()..].chars().next())
    })
}

fn check_rust(source: &SourceFile) -> Vec<Violation> {
    let path = source.path.as_str();
    let mut violations = Vec::new();
    if !source.text.starts_with("//!") {
        let fix = "open the file with `//!`: what it owns, its invariants, what it does not do";
        violations.push(Violation::new(path, 1, "no header", fix));
    }
    let count = source.text.lines().count();
    if count > MAX_LINES {
        let what = format!("{count} lines, the limit is {MAX_LINES}");
        violations.push(Violation::new(
            path,
            count,
            what,
            "split the file by what it owns",
        ));
    }
    if path.ends_with("/mod.rs") {
        let fix = "use name.rs beside a folder name/";
        violations.push(Violation::new(path, 1, "a mod.rs", fix));
    }
    let wide = source
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| too_wide(line));
    violations.extend(wide.map(|(index, line)| {
        let what = format!(
            "{} columns, the limit is {MAX_COLUMNS}",
            line.chars().count()
        );
        Violation::new(path, index + 1, what, "break the line")
    }));
    violations
}

/// A single word (a URL, a digest) cannot be broken, so it may stick out.
fn too_wide(line: &str) -> bool {
    let words = line
        .split_whitespace()
        .filter(|word| !word.starts_with("//"))
        .count();
    line.chars().count() > MAX_COLUMNS && words > 1
}

#[cfg(test)]
mod tests {
    use super::{LATER, check};
    use crate::tree::SourceFile;

    fn whats(path: &str, text: &str) -> Vec<String> {
        let source = SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&source)
            .into_iter()
            .map(|violation| violation.what)
            .collect()
    }

    #[test]
    fn rules_on_lines() {
        let header = "//! Owns x.\n";
        let wide = format!("{header}// {}\n", "word ".repeat(21).trim_end());
        let url = format!("{header}// https://{}\n", "x".repeat(120));
        let long = format!("{header}{}", "//\n".repeat(800));
        let later = format!("{header}// {}: not now\n", LATER[0]);
        let table: &[(&str, &str, &[&str])] = &[
            ("a.rs", header, &[]),
            ("a.rs", "// Owns x.\n", &["no header"]),
            ("a.md", "# Title\n", &[]),
            ("a.md", "# Title \n", &["trailing white space"]),
            ("a.rs", "//! Owns x.", &["no newline at the end"]),
            ("a/mod.rs", header, &["a mod.rs"]),
            ("a.rs", &wide, &["107 columns, the limit is 100"]),
            ("a.rs", &url, &[]),
            ("a.rs", &long, &["801 lines, the limit is 800"]),
            ("a.rs", "//! TODOS and XXXL are no such words.\n", &[]),
        ];
        for (path, text, expected) in table {
            assert_eq!(whats(path, text), *expected, "{path}: {text}");
        }
        assert_eq!(whats("a.rs", &later), [format!("the word {}", LATER[0])]);
    }
}
