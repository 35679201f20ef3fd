//! What is accepted against a rule: one line each, a name and then the reason.
//!
//! A waiver that nothing needs any more is itself a violation, so that the list only shrinks.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Violation;

const FILE: &str = "xtask/tidy-waivers.txt";

#[derive(Debug)]
pub(super) struct Waivers {
    entries: Vec<Waiver>,
}

#[derive(Debug)]
struct Waiver {
    name: String,
    line: usize,
    used: bool,
}

impl Waivers {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(root.join(FILE))
            .with_context(|| format!("cannot read {FILE}"))?;
        Self::parse(&text)
    }

    /// Reads `name  reason` lines; `#` starts a comment line.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, reason)) = line.split_once(char::is_whitespace) else {
                bail!("{FILE}:{}: a waiver without a reason", index + 1);
            };
            if reason.trim().is_empty() {
                bail!("{FILE}:{}: a waiver without a reason", index + 1);
            }
            entries.push(Waiver {
                name: name.to_owned(),
                line: index + 1,
                used: false,
            });
        }
        Ok(Self { entries })
    }

    /// True when this name is waived; notes that the waiver is needed.
    pub(super) fn take(&mut self, name: &str) -> bool {
        let found = self.entries.iter_mut().find(|waiver| waiver.name == name);
        found.is_some_and(|waiver| {
            waiver.used = true;
            true
        })
    }

    /// Call after all rules have run.
    pub(super) fn unused(&self) -> Vec<Violation> {
        let unused = self.entries.iter().filter(|waiver| !waiver.used);
        unused
            .map(|waiver| {
                let what = format!("nothing needs the waiver for {}", waiver.name);
                Violation::new(FILE, waiver.line, what, "delete the line")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Waivers;

    #[test]
    fn a_waiver_has_a_reason_and_a_use() {
        let mut waivers = Waivers::parse("# why\n\na::b  a table\nc::d  another\n").unwrap();
        assert!(waivers.take("a::b"));
        assert!(!waivers.take("a"));
        let unused = waivers.unused();
        assert_eq!(unused.len(), 1);
        assert_eq!(
            (unused[0].line, unused[0].fix.as_str()),
            (4, "delete the line")
        );
        assert!(Waivers::parse("a::b\n").is_err());
        assert!(Waivers::parse("a::b  \n").is_err());
    }
}
