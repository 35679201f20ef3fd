//! Secrets on their way in: standard input, a file, or a named environment variable.
//!
//! Never an argument. A trailing newline is what `echo` and editors add and is dropped; other
//! white space belongs to the secret.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

use credential::SecretString;
use zeroize::Zeroizing;

use crate::failure::{Failure, Kind, Result};

/// A service-account file has about 3 KB; a credential of a mebibyte is a mistake.
const SECRET_MAX_BYTES: u64 = 1 << 20;

/// Reads the whole of standard input as one secret.
pub(crate) fn from_stdin(what: &str) -> Result<SecretString> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::invalid(format!(
            "{what} is read from standard input, not a terminal"
        ))
        .hint("pipe it in, or send the file that holds it: holdfast … < FILE"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    stdin
        .lock()
        .take(SECRET_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(Kind::Machine, format!("standard input: {error}")))?;
    from_bytes(what, &bytes)
}

/// Reads a whole file as one secret.
pub(crate) fn from_file(what: &str, path: &Path) -> Result<SecretString> {
    let failed = |error: std::io::Error| {
        let message = format!("{what}: {}: {error}", path.display());
        Failure::new(Kind::Machine, message)
    };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(failed)?;
    let mut bounded = file.take(SECRET_MAX_BYTES + 1);
    bounded.read_to_end(&mut bytes).map_err(failed)?;
    from_bytes(what, &bytes)
}

fn from_bytes(what: &str, bytes: &[u8]) -> Result<SecretString> {
    if u64::try_from(bytes.len()).is_ok_and(|length| length > SECRET_MAX_BYTES) {
        return Err(Failure::invalid(format!(
            "{what} is longer than {SECRET_MAX_BYTES} bytes"
        )));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Failure::invalid(format!("{what} is not UTF-8 text")))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Failure::invalid(format!("{what} is empty")));
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use credential::ExposeSecret;

    #[test]
    fn one_line_ending_is_dropped_and_nothing_else() {
        for (input, secret) in [
            ("pw", "pw"),
            ("pw\n", "pw"),
            ("pw\r\n", "pw"),
            ("pw\n\n", "pw\n"),
            (" pw ", " pw "),
        ] {
            let read = from_bytes("password", input.as_bytes()).expect(input);
            assert_eq!(read.expose_secret(), secret);
        }
        for input in [&b""[..], b"\n", b"\xff"] {
            assert!(from_bytes("password", input).is_err());
        }
    }
}
