//! The few flags that tasks take, read strictly: what is left over is an error.
//!
//! `--flag value` and `--flag=value` both work. There are no short flags and no defaults here.

use anyhow::{Context, Result, bail};

/// The words of a command line that no task has taken yet.
#[derive(Debug)]
pub(crate) struct Arguments {
    words: Vec<String>,
}

impl Arguments {
    pub(crate) fn from_process() -> Self {
        Self {
            words: std::env::args().skip(1).collect(),
        }
    }

    /// No words: a task that another one calls.
    pub(crate) fn none() -> Self {
        Self { words: Vec::new() }
    }

    pub(crate) fn from_words(words: &[&str]) -> Self {
        Self {
            words: words.iter().map(ToString::to_string).collect(),
        }
    }

    /// Takes the first word, whatever it is.
    pub(crate) fn next_word(&mut self) -> Option<String> {
        if self.words.is_empty() {
            None
        } else {
            Some(self.words.remove(0))
        }
    }

    /// Takes a flag without a value; true when it was there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() != before
    }

    /// Takes a flag and its value.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>> {
        let joined = format!("{name}=");
        let Some(position) = self
            .words
            .iter()
            .position(|word| word == name || word.starts_with(&joined))
        else {
            return Ok(None);
        };
        let word = self.words.remove(position);
        if let Some(value) = word.strip_prefix(&joined) {
            return Ok(Some(value.to_owned()));
        }
        if position == self.words.len() {
            bail!("{name} needs a value");
        }
        Ok(Some(self.words.remove(position)))
    }

    /// Takes a flag whose value is a number.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<usize>> {
        self.value(name)?
            .map(|text| {
                text.parse()
                    .with_context(|| format!("{name} needs a number, got {text}"))
            })
            .transpose()
    }

    /// Refuses whatever no one has taken.
    pub(crate) fn finish(self) -> Result<()> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => bail!("unexpected argument {word} (cargo xtask help lists the flags)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    #[test]
    fn takes_values_in_both_spellings_and_refuses_the_rest() {
        let mut arguments = Arguments::from_words(&["a", "--x", "1", "--y=2", "--z"]);
        assert_eq!(arguments.next_word().as_deref(), Some("a"));
        assert_eq!(arguments.number("--x").unwrap(), Some(1));
        assert_eq!(arguments.value("--y").unwrap().as_deref(), Some("2"));
        assert!(arguments.flag("--z"));
        assert!(!arguments.flag("--z"));
        arguments.finish().unwrap();

        let mut arguments = Arguments::from_words(&["--x"]);
        assert!(arguments.value("--x").is_err());
        assert!(Arguments::from_words(&["left"]).finish().is_err());
    }
}
