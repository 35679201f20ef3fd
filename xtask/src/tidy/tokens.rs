//! Rules on tokens: unsafe code only in the named rooms, no placeholders, no ignored tests.
//!
//! Tokens rather than text, so that comments and strings may name what is forbidden, and rather
//! than syntax, so that the inside of a macro call counts too.

use proc_macro2::{TokenStream, TokenTree};

use super::Violation;
use crate::tree::SourceFile;

/// The rooms with unsafe code and raw system calls; a prefix of the path.
const UNSAFE_ROOMS: &[&str] = &[
    "crates/inflate-resume/",
    "crates/image-mount/",
    "crates/container/src/sys.rs",
    "crates/container/src/sys/",
];

/// Macros that are fine for a minute and wrong in a commit.
const PLACEHOLDERS: &[&str] = &["todo", "unimplemented", "dbg"];

pub(super) fn check(source: &SourceFile) -> Vec<Violation> {
    let stream: TokenStream = match source.text.parse() {
        Ok(stream) => stream,
        Err(error) => {
            let what = format!("not Rust: {error}");
            return vec![Violation::new(&source.path, 1, what, "make it compile")];
        }
    };
    let mut scan = Scan {
        path: &source.path,
        violations: Vec::new(),
    };
    scan.stream(stream);
    scan.violations
}

struct Scan<'a> {
    path: &'a str,
    violations: Vec<Violation>,
}

impl Scan<'_> {
    fn stream(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Ident(ident) => {
                    let name = ident.to_string();
                    let line = ident.span().start().line;
                    self.ident(&name, line, is_call(&tokens[index + 1..]));
                }
                TokenTree::Group(group) => {
                    if index > 0 && is_punct(&tokens[index - 1], '#') {
                        self.attribute(&group.stream(), group.span().start().line);
                    }
                    self.stream(group.stream());
                }
                _ => {}
            }
        }
    }

    fn ident(&mut self, name: &str, line: usize, called: bool) {
        if called && PLACEHOLDERS.contains(&name) {
            self.push(
                line,
                format!("{name}! in the tree"),
                "write the code that belongs there",
            );
        }
        let room = UNSAFE_ROOMS.iter().any(|room| self.path.starts_with(room));
        if name == "unsafe" && !room {
            let fix = "use a safe wrapper such as rustix, or move it to a room of tokens.rs";
            self.push(line, "unsafe outside the named rooms".to_owned(), fix);
        }
    }

    fn attribute(&mut self, stream: &TokenStream, line: usize) {
        let first = stream
            .clone()
            .into_iter()
            .next()
            .map(|token| token.to_string());
        if first.as_deref() == Some("ignore") {
            let fix = "run it always, failing loudly when a tool is missing";
            self.push(line, "an ignored test".to_owned(), fix);
        }
    }

    fn push(&mut self, line: usize, what: String, fix: &str) {
        self.violations
            .push(Violation::new(self.path, line, what, fix));
    }
}

/// What follows a macro's name when it is called; `!=` is something else.
fn is_call(next: &[TokenTree]) -> bool {
    matches!(next, [bang, TokenTree::Group(_), ..] if is_punct(bang, '!'))
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tree::SourceFile;

    /// Path, text, and what is found on which line.
    type Case = (&'static str, &'static str, &'static [(usize, &'static str)]);

    const OUTSIDE: &str = "unsafe outside the named rooms";

    const CASES: &[Case] = &[
        (
            "crates/a/src/lib.rs",
            "fn a() {}\n// unsafe, todo!()\n",
            &[],
        ),
        ("crates/a/src/lib.rs", "fn a() { \"dbg!\"; }", &[]),
        ("crates/a/src/lib.rs", "#![allow(unsafe_code)]", &[]),
        (
            "crates/a/src/lib.rs",
            "fn a() {\n unsafe {} }",
            &[(2, OUTSIDE)],
        ),
        ("crates/image-mount/src/lib.rs", "fn a() { unsafe {} }", &[]),
        ("crates/container/src/sys.rs", "fn a() { unsafe {} }", &[]),
        (
            "crates/container/src/system.rs",
            "unsafe fn a() {}",
            &[(1, OUTSIDE)],
        ),
        (
            "a.rs",
            "fn a() { b!({ dbg!(1) }) }",
            &[(1, "dbg! in the tree")],
        ),
        ("a.rs", "fn a() {\n todo!() }", &[(2, "todo! in the tree")]),
        (
            "a.rs",
            "#[test]\n#[ignore = \"x\"]\nfn a() {}",
            &[(2, "an ignored test")],
        ),
        ("a.rs", "fn ignore(todo: u8) -> bool { todo != 1 }", &[]),
        (
            "a.rs",
            "fn {",
            &[(1, "not Rust: cannot parse string into token stream")],
        ),
    ];

    #[test]
    fn rules_on_tokens() {
        for (path, text, expected) in CASES {
            let source = SourceFile {
                path: (*path).to_owned(),
                text: (*text).to_owned(),
            };
            let found = check(&source);
            let found: Vec<_> = found.iter().map(|v| (v.line, v.what.as_str())).collect();
            assert_eq!(found, *expected, "{text}");
        }
    }
}
