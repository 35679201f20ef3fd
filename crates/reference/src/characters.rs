//! ASCII character classes of the grammar. Deliberately byte-wise: no Unicode class may leak in.

/// A lower-case letter or a digit, as in a part of a path.
pub(crate) fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// A lower-case hexadecimal digit, the only kind in a digest.
pub(crate) fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// A byte that may stand after the first one of a tag.
pub(crate) fn is_tag_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}
