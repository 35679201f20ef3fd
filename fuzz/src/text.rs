//! What every text that comes out of a reader must be, and how the targets cut their input.

/// Longest message. Readers bound what they quote, so no input makes a message longer.
const MESSAGE_MAX_BYTES: usize = 4096;

/// A message is short and cannot drive a terminal, whatever was read.
#[track_caller]
pub(crate) fn check_message(message: &str) {
    assert!(
        message.len() <= MESSAGE_MAX_BYTES,
        "a message of {} bytes",
        message.len()
    );
    assert!(
        !message.chars().any(char::is_control),
        "a control character in {message:?}"
    );
}

/// The first line and what follows it, without the line break.
pub(crate) fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}
