//! Documents keep their word: every clause names a test that exists, the code map is complete,
//! and every crate inherits the workspace's lints.

use std::collections::BTreeSet;

use super::Violation;
use super::waivers::Waivers;
use crate::tree::SourceFile;

/// Documents of clauses, and the letter that their ids begin with.
const CLAUSES: [(&str, char); 2] = [("docs/SEMANTICS.md", 'S'), ("docs/security.md", 'T')];
const ARCHITECTURE: &str = "ARCHITECTURE.md";

pub(super) fn check(
    sources: &[SourceFile],
    crates: &[String],
    waivers: &mut Waivers,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let functions = function_names(sources);
    for (path, letter) in CLAUSES {
        if let Some(document) = find(sources, path, &mut violations) {
            violations.extend(check_clauses(document, letter, &functions, waivers));
        }
    }
    if let Some(document) = find(sources, ARCHITECTURE, &mut violations) {
        violations.extend(check_map(document, crates));
    }
    violations.extend(sources.iter().filter_map(check_manifest));
    violations
}

fn find<'a>(
    sources: &'a [SourceFile],
    path: &str,
    violations: &mut Vec<Violation>,
) -> Option<&'a SourceFile> {
    let found = sources.iter().find(|source| source.path == path);
    if found.is_none() {
        violations.push(Violation::new(path, 1, "not there", "write it"));
    }
    found
}

/// A clause is a table row: an id such as S12, what holds, and the tests that show it.
fn check_clauses(
    document: &SourceFile,
    letter: char,
    functions: &BTreeSet<&str>,
    waivers: &mut Waivers,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, line) in document.text.lines().enumerate() {
        let Some((id, tests)) = clause(line, letter) else {
            continue;
        };
        let mut push = |what: String, fix: &str| {
            violations.push(Violation::new(&document.path, index + 1, what, fix));
        };
        if tests.is_empty() && !waivers.take(&format!("{}::{id}", document.path)) {
            push(
                format!("clause {id} names no test"),
                "write one and name it in the last column",
            );
        }
        for test in tests.iter().filter(|test| !functions.contains(**test)) {
            push(
                format!("clause {id} names {test}, which does not exist"),
                "name a test function",
            );
        }
    }
    violations
}

fn clause(line: &str, letter: char) -> Option<(&str, Vec<&str>)> {
    let cells: Vec<&str> = line
        .trim()
        .trim_matches('|')
        .split('|')
        .map(str::trim)
        .collect();
    let [id, .., tests] = cells.as_slice() else {
        return None;
    };
    let digits = id.strip_prefix(letter)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((id, tests.split('`').skip(1).step_by(2).collect()))
}

/// Every word that follows `fn` in a Rust file of ours.
fn function_names(sources: &[SourceFile]) -> BTreeSet<&str> {
    let rust = sources
        .iter()
        .filter(|source| source.has_extension(&["rs"]));
    rust.flat_map(|source| source.text.split("fn ").skip(1))
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
        .collect()
}

fn check_map(document: &SourceFile, crates: &[String]) -> Vec<Violation> {
    crates
        .iter()
        .filter(|name| !document.text.contains(&format!("`{name}`")))
        .map(|name| {
            let what = format!("the code map lacks `{name}`");
            Violation::new(&document.path, 1, what, "add its line and its invariant")
        })
        .collect()
}

fn check_manifest(source: &SourceFile) -> Option<Violation> {
    let is_member = source.path.ends_with("/Cargo.toml");
    if !is_member || source.text.contains("[lints]\nworkspace = true") {
        return None;
    }
    let fix = "add [lints] workspace = true";
    Some(Violation::new(
        &source.path,
        1,
        "the workspace's lints are not inherited",
        fix,
    ))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::waivers::Waivers;
    use crate::tree::SourceFile;

    fn whats(semantics: &str, architecture: &str, waivers: &str) -> Vec<String> {
        let file = |path: &str, text: &str| SourceFile {
            path: path.into(),
            text: text.into(),
        };
        let sources = [
            file("docs/SEMANTICS.md", semantics),
            file("docs/security.md", "| T1 | escape | `modes_hold` |\n"),
            file("ARCHITECTURE.md", architecture),
            file("crates/a/src/lib.rs", "fn modes_hold() {}\n"),
            file("crates/a/Cargo.toml", "[lints]\nworkspace = true\n"),
        ];
        let mut waivers = Waivers::parse(waivers).unwrap();
        let violations = check(&sources, &["a".to_owned()], &mut waivers);
        violations
            .into_iter()
            .map(|violation| violation.what)
            .collect()
    }

    #[test]
    fn clauses_name_tests_that_exist() {
        let map = "`a` owns a";
        assert_eq!(whats("| S1 | modes | `modes_hold` |\n", map, ""), [""; 0]);
        assert_eq!(
            whats("| S1 | modes | `modes_hold`, `gone` |\n", map, ""),
            ["clause S1 names gone, which does not exist"]
        );
        assert_eq!(
            whats("| S2 | owners | |\n", map, ""),
            ["clause S2 names no test"]
        );
        assert_eq!(
            whats("| S2 | owners | |\n", map, "docs/SEMANTICS.md::S2  soon\n"),
            [""; 0]
        );
        assert_eq!(
            whats("| Sum | owners | |\n| --- | --- | --- |\n", map, ""),
            [""; 0]
        );
    }

    #[test]
    fn what_an_attacker_cannot_do_names_tests_too() {
        let security = SourceFile {
            path: "docs/security.md".into(),
            text: "| T1 | cannot | `gone` |\n| T2 | cannot | |\n| S3 | of another document | |\n"
                .into(),
        };
        let mut waivers = Waivers::parse("").unwrap();
        let violations = check(&[security], &[], &mut waivers);
        let whats: Vec<_> = violations.iter().map(|one| one.what.as_str()).collect();
        let expected = [
            "not there",
            "clause T1 names gone, which does not exist",
            "clause T2 names no test",
            "not there",
        ];
        assert_eq!(whats, expected);
    }

    #[test]
    fn the_code_map_names_every_crate() {
        assert_eq!(whats("", "nothing", ""), ["the code map lacks `a`"]);
    }
}
