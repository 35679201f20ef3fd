//! Secrets on their way in: standard input, a file, or a named environment variable.
//!
//! Never an argument. A trailing newline is what `echo` and editors add and is dropped; other
//! white space belongs to the secret.

use std::io::IsTerminal;
use std::path::Path;

use credential::SecretString;
use zeroize::Zeroizing;

use crate::bounded_file::{self, failure};
use crate::failure::{Failure, Result};

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
    let read = bounded_file::read_opened(stdin.lock(), SECRET_MAX_BYTES);
    let bytes = read.map_err(|error| failure(format!("{what}: standard input"), &error))?;
    from_bytes(what, bytes)
}

/// Reads a whole file as one secret.
pub(crate) fn from_file(what: &str, path: &Path) -> Result<SecretString> {
    let read = bounded_file::read(path, SECRET_MAX_BYTES);
    let bytes = read.map_err(|error| failure(format!("{what}: {}", path.display()), &error))?;
    from_bytes(what, bytes)
}

fn from_bytes(what: &str, bytes: Zeroizing<Vec<u8>>) -> Result<SecretString> {
    let text = bounded_file::text(bytes).map_err(|error| failure(what, &error))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
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
        let bytes = |input: &[u8]| Zeroizing::new(input.to_vec());
        for (input, secret) in [
            ("pw", "pw"),
            ("pw\n", "pw"),
            ("pw\r\n", "pw"),
            ("pw\n\n", "pw\n"),
            (" pw ", " pw "),
        ] {
            let read = from_bytes("password", bytes(input.as_bytes())).expect(input);
            assert_eq!(read.expose_secret(), secret);
        }
        for input in [&b""[..], b"\n", b"\xff"] {
            assert!(from_bytes("password", bytes(input)).is_err());
        }
    }
}
