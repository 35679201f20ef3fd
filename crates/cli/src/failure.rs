//! What a person or a script sees when something fails: a kind, a message, a hint, an exit code.
//!
//! Every error of every crate ends here, converted where a command calls it. Text that came from a
//! registry or an image is escaped and bounded before a terminal sees it.

use std::fmt;

use crate::output::write_error_line;

/// How the caller should react; each kind is one documented exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A defect of ours.
    Internal,
    /// The input is malformed: a reference, a scope, a key, a size.
    Invalid,
    /// A registry refused the credential, or the credential was removed.
    Denied,
    /// An image, credential, container or secret does not exist.
    NotFound,
    /// A registry, a token service or the service of the root key does not answer.
    Unreachable,
    /// A registry asks to slow down.
    RateLimited,
    /// Bytes do not match their digest.
    Corrupt,
    /// Understood and refused: this version does not do it.
    Unsupported,
    /// This machine lacks something: root, FUSE, a runtime, disk space.
    Machine,
    /// The vault cannot be opened or does not verify.
    Vault,
    /// Ctrl-C or a termination signal.
    Interrupted,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::NotFound => "not-found",
            Self::Unreachable => "unreachable",
            Self::RateLimited => "rate-limited",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::Machine => "machine",
            Self::Vault => "vault",
            Self::Interrupted => "interrupted",
        }
    }

    /// The exit code of every command but `run`; 2 is the command line parser's own.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Invalid => 3,
            Self::Denied => 4,
            Self::NotFound => 5,
            Self::Unreachable => 6,
            Self::RateLimited => 7,
            Self::Corrupt => 8,
            Self::Unsupported => 9,
            Self::Machine => 10,
            Self::Vault => 11,
            Self::Interrupted => 130,
        }
    }
}

/// What `--help` says of exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
    0  done, or whoever read the output has gone
    1  internal: a defect of Holdfast
    2  the command line is wrong
    3  invalid: a name, a size, a setting
    4  denied: a registry refused the credential, or it was removed
    5  not-found: an image, credential, container or secret
    6  unreachable: a registry, token service, key service or database does not answer
    7  rate-limited: a registry asks to slow down
    8  corrupt: bytes do not match their digest
    9  unsupported: understood and refused
   10  machine: root, FUSE, a runtime or disk space is missing; see `holdfast doctor`
   11  vault: it cannot be opened or does not verify
  130  interrupted
`run` ends with its command's own code; 125 is a failure of Holdfast's, 126 a command that cannot
be executed, 127 one that is not in the image.";

/// A failure on its way to the user.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// An exit code that the kind does not decide, such as `run`'s 125 to 127.
    pub(crate) exit_code: Option<u8>,
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            hint: None,
            exit_code: None,
        }
    }

    pub(crate) fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// A failure whose message is the error and all its sources.
    pub(crate) fn of(kind: Kind, error: &dyn std::error::Error) -> Self {
        Self::new(kind, chain(error))
    }

    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    pub(crate) fn hint_if(mut self, hint: Option<impl fmt::Display>) -> Self {
        self.hint = hint.map(|hint| hint.to_string()).or(self.hint);
        self
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code.unwrap_or_else(|| self.kind.exit_code())
    }

    /// Prints to standard error, in the form asked for.
    pub(crate) fn report(&self, json: bool) {
        let message = printable(&self.message);
        let hint = self.hint.as_deref().map(printable);
        if json {
            let kind = self.kind.as_str();
            let body = serde_json::json!({
                "error": { "kind": kind, "message": message, "hint": hint }
            });
            write_error_line(&body.to_string());
            return;
        }
        write_error_line(&format!("error: {message}"));
        if let Some(hint) = hint {
            write_error_line(&format!("hint: {hint}"));
        }
    }
}

/// The error and its causes, but for those that repeat it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    message
}

/// One line must stay readable; a longer text is a registry talking, not us.
const PRINTABLE_MAX_CHARS: usize = 2000;

/// Text that may hold foreign bytes, made safe for a terminal: control characters (among them
/// escape sequences) and direction overrides are shown by number, and the length is bounded.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(PRINTABLE_MAX_CHARS));
    for (count, character) in text.chars().enumerate() {
        if count == PRINTABLE_MAX_CHARS {
            out.push('…');
            break;
        }
        match character {
            '\n' => out.push(' '),
            c if drives_terminal(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Control characters, and those that are invisible or turn the text around. All are short enough
/// for four hexadecimal digits.
pub(crate) fn drives_terminal(character: char) -> bool {
    let is_invisible = matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
    );
    is_invisible || character.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_drive_a_terminal() {
        for (input, output) in [
            ("plain", "plain"),
            ("two\nlines", "two lines"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("over\rwritten\u{8}", "over\\u{d}written\\u{8}"),
            ("\u{61c}\u{2028}\u{2066}", "\\u{61c}\\u{2028}\\u{2066}"),
        ] {
            assert_eq!(printable(input), output);
        }
        assert_eq!(
            printable(&"x".repeat(5000)).chars().count(),
            PRINTABLE_MAX_CHARS + 1
        );
    }

    #[test]
    fn every_kind_has_its_own_exit_code() {
        let kinds = [
            Kind::Internal,
            Kind::Invalid,
            Kind::Denied,
            Kind::NotFound,
            Kind::Unreachable,
            Kind::RateLimited,
            Kind::Corrupt,
            Kind::Unsupported,
            Kind::Machine,
            Kind::Vault,
            Kind::Interrupted,
        ];
        for kind in kinds {
            let line = format!("{:>5}  {}", kind.exit_code(), kind.as_str());
            assert!(EXIT_CODES.contains(&line), "{line:?} is not in the help");
        }
        let mut codes: Vec<u8> = kinds.iter().map(|kind| kind.exit_code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), kinds.len());
        assert!(!codes.contains(&0) && !codes.contains(&2));
    }
}
