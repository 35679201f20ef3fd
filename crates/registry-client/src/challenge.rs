//! `WWW-Authenticate`: several header lines, several challenges in each, read without trust.
//!
//! ```text
//! value      = [ "," ] challenge *( "," challenge )
//! challenge  = scheme [ SP ( token68 / param *( "," param ) ) ]
//! param      = name *WSP "=" *WSP ( token / quoted )
//! quoted     = DQUOTE *( any but DQUOTE and "\" / "\" any ) DQUOTE
//! ```
//!
//! A comma both ends a parameter and ends a challenge; a word followed by `=` is a parameter of the
//! challenge before it, any other word begins a new one. Blanks may stand in for commas, as some
//! registries write. What does not fit ends the reading of that header line, and what was read
//! before it counts. Schemes and parameter names come out in lower case.

/// One challenge of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Lower-case, such as `basic` or `bearer`.
    pub scheme: String,
    /// Names in lower case, in the order sent.
    pub params: Vec<(String, String)>,
    /// The single unnamed value that some schemes have.
    pub token68: Option<String>,
}

/// Bytes read from one header line; longer lines are cut. Real ones are below 2 KiB.
const MAX_VALUE_BYTES: usize = 16 * 1024;

/// Header lines read.
const MAX_VALUES: usize = 16;

/// Challenges kept, over all lines.
const MAX_CHALLENGES: usize = 16;

/// Parameters kept for one challenge; more are read and dropped.
const MAX_PARAMS: usize = 32;

impl Challenge {
    /// The value of a parameter, whose name is given in lower case. The first one counts.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Reads all challenges of a reply.
pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for value in values.into_iter().take(MAX_VALUES) {
        let mut end = value.len().min(MAX_VALUE_BYTES);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        Reader {
            text: &value[..end],
            at: 0,
        }
        .read_into(&mut challenges);
    }
    challenges
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn read_into(&mut self, challenges: &mut Vec<Challenge>) {
        // A parameter belongs to a challenge of the same line only.
        let mut open = false;
        loop {
            self.skip(|byte| is_blank(byte) || byte == b',');
            let word = self.take(is_token).to_ascii_lowercase();
            if word.is_empty() {
                return;
            }
            let blanks = self.skip(is_blank);
            if self.peek() == Some(b'=') && open {
                self.at += 1;
                self.skip(is_blank);
                let Some(value) = self.value() else { return };
                keep_param(challenges.last_mut(), word, value);
                continue;
            }
            if challenges.len() == MAX_CHALLENGES {
                return;
            }
            let token68 = if blanks > 0 { self.token68() } else { None };
            challenges.push(Challenge {
                scheme: word,
                params: Vec::new(),
                token68,
            });
            open = true;
        }
    }

    fn value(&mut self) -> Option<String> {
        if self.peek() == Some(b'"') {
            self.quoted()
        } else {
            Some(self.take(is_token).to_owned())
        }
    }

    /// A quoted text that never ends is no value.
    fn quoted(&mut self) -> Option<String> {
        self.at += 1;
        let mut value = String::new();
        let mut characters = self.text[self.at..].char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += offset + 1;
                    return Some(value);
                }
                '\\' => value.push(characters.next()?.1),
                other => value.push(other),
            }
        }
        None
    }

    /// A token68 fills the challenge up to the next comma; `name=value` is not one.
    fn token68(&mut self) -> Option<String> {
        let start = self.at;
        self.take(is_token68);
        self.skip(|byte| byte == b'=');
        let end = self.at;
        self.skip(is_blank);
        if end > start && matches!(self.peek(), None | Some(b',')) {
            return Some(self.text[start..end].to_owned());
        }
        self.at = start;
        None
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &str {
        let start = self.at;
        self.skip(wanted);
        &self.text[start..self.at]
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| wanted(**byte)).count();
        self.at += count;
        count
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

fn keep_param(challenge: Option<&mut Challenge>, name: String, value: String) {
    if let Some(challenge) = challenge
        && challenge.params.len() < MAX_PARAMS
    {
        challenge.params.push((name, value));
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/:".contains(&byte)
}

fn is_token68(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    use proptest::prelude::*;

    fn shown(values: &[&str]) -> String {
        let one = |challenge: Challenge| {
            let mut text = challenge.scheme;
            if let Some(token) = challenge.token68 {
                write!(text, " <{token}>").expect("writing to a string");
            }
            for (name, value) in challenge.params {
                write!(text, " {name}=[{value}]").expect("writing to a string");
            }
            text
        };
        parse(values.iter().copied())
            .into_iter()
            .map(one)
            .collect::<Vec<_>>()
            .join("; ")
    }

    #[test]
    fn challenges_are_read() {
        let table: [(&[&str], &str); 19] = [
            (&[], ""),
            (&[""], ""),
            (&["Basic"], "basic"),
            (
                &["Basic realm=\"basic realm\""],
                "basic realm=[basic realm]",
            ),
            (
                &["Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:x:pull,push\""],
                "bearer realm=[https://a/t] service=[s] scope=[repository:x:pull,push]",
            ),
            (
                &["BEARER Realm = \"r\" , SERVICE=plain"],
                "bearer realm=[r] service=[plain]",
            ),
            (
                &["Negotiate, Basic realm=\"b\""],
                "negotiate; basic realm=[b]",
            ),
            (
                &["Negotiate YII+/a==, Bearer realm=\"r\""],
                "negotiate <YII+/a==>; bearer realm=[r]",
            ),
            (
                &["Basic realm=\"b\", Bearer realm=\"r\",scope=\"\""],
                "basic realm=[b]; bearer realm=[r] scope=[]",
            ),
            (
                &["Basic realm=\"b\"", "Bearer realm=\"r\""],
                "basic realm=[b]; bearer realm=[r]",
            ),
            (&["Bearer realm=\"a\\\"b\\\\c\""], "bearer realm=[a\"b\\c]"),
            (
                &["Bearer realm=\"a,b=c\", service=x"],
                "bearer realm=[a,b=c] service=[x]",
            ),
            (
                &["Bearer realm=\"r\" service=\"s\""],
                "bearer realm=[r] service=[s]",
            ),
            (&[",, Basic realm=x ,,"], "basic realm=[x]"),
            (
                &["Bearer realm=https://a/token,service=s"],
                "bearer realm=[https://a/token] service=[s]",
            ),
            (&["Bearer realm=\"never ends"], "bearer"),
            (&["realm=\"no scheme\""], "realm"),
            (
                &["Bearer realm=\"r\"", "service=\"other line\""],
                "bearer realm=[r]; service",
            ),
            (&["Basic realm=\"b\", \u{fc}"], "basic realm=[b]"),
        ];
        for (values, expected) in table {
            assert_eq!(shown(values), expected, "{values:?}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let many = "Basic, ".repeat(1000);
        assert_eq!(parse([many.as_str()]).len(), MAX_CHALLENGES);
        let params = format!("Bearer {}", "a=b, ".repeat(1000));
        assert_eq!(parse([params.as_str()])[0].params.len(), MAX_PARAMS);
        let long = format!("Bearer realm=\"{}\"", "\u{20ac}".repeat(MAX_VALUE_BYTES));
        assert!(parse([long.as_str()])[0].params.is_empty());
    }

    fn quoted(value: &str) -> String {
        value.replace('\\', "\\\\").replace('"', "\\\"")
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(values in prop::collection::vec(".{0,80}", 0..4)) {
            let challenges = parse(values.iter().map(String::as_str));
            prop_assert!(challenges.len() <= MAX_CHALLENGES);
        }

        #[test]
        fn header_like_text_is_read_without_panic(value in "[A-Za-z=\", \\\\]{0,60}") {
            parse([value.as_str()]);
        }

        #[test]
        fn what_is_written_is_read_back(
            challenges in prop::collection::vec(
                ("[a-z]{1,8}", prop::collection::vec(("[a-z]{1,8}", "[ -~]{0,20}"), 1..5)), 1..5)
        ) {
            let written: Vec<String> = challenges.iter().map(|(scheme, params)| {
                let params: Vec<String> = params.iter()
                    .map(|(name, value)| format!("{name}=\"{}\"", quoted(value))).collect();
                format!("{scheme} {}", params.join(","))
            }).collect();
            let in_one_line = written.join(", ");
            let expected: Vec<Challenge> = challenges.into_iter()
                .map(|(scheme, params)| Challenge { scheme, params, token68: None }).collect();
            prop_assert_eq!(parse([in_one_line.as_str()]), expected.clone());
            prop_assert_eq!(parse(written.iter().map(String::as_str)), expected);
        }
    }
}
