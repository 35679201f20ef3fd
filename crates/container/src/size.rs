//! Sizes as people type them: `64m`, `1.5g`, `4096`, `2GiB`.
//!
//! Units are powers of 1024 as in docker's flags. A size is a whole number of bytes; what does not
//! fit in 64 bits is refused, never rounded silently to a limit.

/// A text that is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("size `{text}` is not a number with an optional unit b, k, m, g or t")]
pub struct ParseSizeError {
    text: String,
}

/// Bytes of a size with an optional unit, without a unit in bytes.
pub fn parse_size_bytes(text: &str) -> Result<u64, ParseSizeError> {
    let error = || ParseSizeError {
        text: text.to_owned(),
    };
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(error()),
    };
    let digits = digits.trim_end();
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: u64 = parse_digits(whole).ok_or_else(error)?;
    let scaled = whole.checked_mul(1 << shift).ok_or_else(error)?;
    let part = fraction_bytes(fraction, shift).ok_or_else(error)?;
    scaled.checked_add(part).ok_or_else(error)
}

fn parse_digits(text: &str) -> Option<u64> {
    // `parse` would also take a leading plus.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    text.parse().ok()
}

/// Digits of a fraction that count: nine tell apart every byte of a gigabyte, and more would
/// overflow for nothing.
const PRECISION: usize = 9;

/// What `0.fraction` of the unit is in bytes, rounded down.
fn fraction_bytes(fraction: &str, shift: u32) -> Option<u64> {
    if fraction.is_empty() {
        return Some(0);
    }
    fraction
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    let digits = &fraction[..fraction.len().min(PRECISION)];
    let numerator = u128::from(parse_digits(digits)?);
    let denominator = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    u64::try_from((numerator << shift) / denominator).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table: &[(&str, Option<u64>)] = &[
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("64m", Some(64 << 20)),
            ("64M", Some(64 << 20)),
            ("64mb", Some(64 << 20)),
            ("2GiB", Some(2 << 30)),
            ("1.5g", Some(3 << 29)),
            ("0.5k", Some(512)),
            ("1 k", Some(1024)),
            ("1t", Some(1 << 40)),
            ("17179869183g", Some(17_179_869_183 << 30)),
            ("17179869184g", None),
            ("", None),
            ("m", None),
            ("-1", None),
            ("+1", None),
            ("1.x", None),
            ("1..2", None),
            ("1x", None),
            ("0x10", None),
            ("99999999999999999999", None),
            ("１m", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_size_bytes(text).ok(), *expected, "{text:?}");
        }
    }
}
