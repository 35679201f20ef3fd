//! Changes that are nothing but statements.
//!
//! Every question to SQLite wakes the connection's thread and whoever asks, which takes longer than
//! most statements do. So what happens often is written as one text of several statements, each
//! guarded by a condition of its own where it depends on how things stand, and made in one turn. A
//! server takes them one by one.

use std::sync::OnceLock;

use crate::query::Value;

/// Statements that make one change, of one numbering of `$1`, `$2`, …
#[derive(Debug)]
pub struct Statements {
    /// Of a file: as a transaction.
    pub(crate) alone: &'static str,
    /// Of a file: within one, which they leave as it was when one of them fails.
    pub(crate) among: &'static str,
    list: &'static [&'static str],
    parts: OnceLock<Vec<Part>>,
}

/// A statement with a numbering of its own, since a server knows no number that it has not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) text: String,
    /// What it is told, as indexes of what all of them are told.
    used: Vec<usize>,
}

/// What takes back what was made of a change among others.
pub(crate) const TAKE_BACK: &str = "ROLLBACK TO change; RELEASE change";

/// Statements that are made in this order, as a `static`.
#[macro_export]
macro_rules! statements {
    ($($text:expr),+ $(,)?) => {
        $crate::Statements::new(
            concat!("BEGIN IMMEDIATE;", $($text, ";",)+ "COMMIT"),
            concat!("SAVEPOINT change;", $($text, ";",)+ "RELEASE change"),
            &[$($text),+],
        )
    };
}

impl Statements {
    /// For [`statements!`](crate::statements).
    #[doc(hidden)]
    pub const fn new(
        alone: &'static str,
        among: &'static str,
        list: &'static [&'static str],
    ) -> Self {
        Self {
            alone,
            among,
            list,
            parts: OnceLock::new(),
        }
    }

    pub(crate) fn parts(&self) -> &[Part] {
        self.parts
            .get_or_init(|| self.list.iter().map(|text| Part::new(text)).collect())
    }
}

impl Part {
    fn new(text: &str) -> Self {
        let mut part = Self {
            text: String::with_capacity(text.len()),
            used: Vec::new(),
        };
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            let end = after.find(|sign: char| !sign.is_ascii_digit());
            let (digits, after) = after.split_at(end.unwrap_or(after.len()));
            let number: usize = digits.parse().expect("a number follows each $");
            let number = part.number_of(number - 1);
            part.text.push_str(before);
            part.text.push_str(&format!("${number}"));
            rest = after;
        }
        part.text.push_str(rest);
        part
    }

    fn number_of(&mut self, index: usize) -> usize {
        let known = self.used.iter().position(|used| *used == index);
        let position = known.unwrap_or_else(|| {
            self.used.push(index);
            self.used.len() - 1
        });
        position + 1
    }

    /// Of what all of the statements are told, what this one is.
    pub(crate) fn values(&self, all: &[Value]) -> Vec<Value> {
        let values = self.used.iter().filter_map(|index| all.get(*index));
        values.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_a_numbering_of_their_own() {
        static STATEMENTS: Statements =
            statements!("INSERT $2, $1, $2", "SELECT 1", "DELETE $10 = $2");
        let [insert, select, delete] = STATEMENTS.parts() else {
            panic!("{STATEMENTS:?}");
        };
        assert_eq!(insert.text, "INSERT $1, $2, $1");
        assert_eq!(select.text, "SELECT 1");
        assert_eq!(delete.text, "DELETE $1 = $2");
        let all: Vec<Value> = (1..=10_u32).map(Value::from).collect();
        let told = |part: &Part| part.values(&all);
        assert_eq!(told(insert), [2_u32, 1].map(Value::from));
        assert_eq!(told(select), []);
        assert_eq!(told(delete), [10_u32, 2].map(Value::from));
    }
}
