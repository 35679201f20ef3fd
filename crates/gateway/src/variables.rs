//! Environment variables that somebody wants, as a shell and a kernel can have them.

use crate::problem::{Kind, Problem};

/// Longest name: far more than any that is used.
const NAME_LIMIT_BYTES: usize = 128;
/// All names and values of one environment. A kernel takes 128 KiB in one value, and functions
/// have their data elsewhere.
const TOTAL_LIMIT_BYTES: usize = 64 << 10;

/// The variables in the order of their names, so that the same ones are equal.
pub(crate) fn parse(mut given: Vec<(String, String)>) -> Result<Vec<(String, String)>, Problem> {
    let total_bytes: usize = given
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if total_bytes > TOTAL_LIMIT_BYTES {
        let message = format!("environment is {total_bytes} bytes and may be {TOTAL_LIMIT_BYTES}");
        return Err(Problem::new(Kind::TooLarge, message));
    }
    for (name, value) in &given {
        check_name(name)?;
        if value.contains('\0') {
            let message = format!("environment: the value of {name} has a NUL, which ends it");
            return Err(Problem::invalid(message));
        }
    }
    given.sort();
    if let Some(pair) = given.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let message = format!("environment: {} is there twice", pair[0].0);
        return Err(Problem::invalid(message));
    }
    Ok(given)
}

fn check_name(name: &str) -> Result<(), Problem> {
    let mut characters = name.chars();
    let starts = characters
        .next()
        .is_some_and(|c| c == '_' || c.is_ascii_alphabetic());
    let goes_on = characters.all(|c| c == '_' || c.is_ascii_alphanumeric());
    if starts && goes_on && name.len() <= NAME_LIMIT_BYTES {
        return Ok(());
    }
    let message = "environment: a name is letters, digits and underscores, and no digit first";
    Err(Problem::invalid(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
        let given = given.iter();
        given
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn variables_are_sorted_or_refused() {
        let sorted = parse(pairs(&[("_b1", ""), ("A", "x=y\n")]));
        assert_eq!(sorted, Ok(pairs(&[("A", "x=y\n"), ("_b1", "")])));
        let long_name = "n".repeat(129);
        for bad in [
            &[("", "x")][..],
            &[("1A", "x")],
            &[("A-B", "x")],
            &[("A=B", "x")],
            &[("Ä", "x")],
            &[("A", "x\0y")],
            &[("A", "1"), ("B", ""), ("A", "2")],
            &[(&long_name, "x")],
        ] {
            assert_eq!(
                parse(pairs(bad)).unwrap_err().kind,
                Kind::Invalid,
                "{bad:?}"
            );
        }
        let fits = "x".repeat(TOTAL_LIMIT_BYTES - 1);
        assert!(parse(pairs(&[("A", &fits)])).is_ok());
        let more = parse(pairs(&[("AB", &fits)])).unwrap_err();
        assert_eq!(more.kind, Kind::TooLarge);
    }
}
