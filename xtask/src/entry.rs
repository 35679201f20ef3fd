//! What stands before a program to start it elsewhere: in other namespaces, in a cgroup.

use std::ffi::OsStr;
use std::process::Command;

/// The first words of a command line; none starts a program here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry(Vec<String>);

impl Entry {
    pub(crate) fn new(words: impl IntoIterator<Item = String>) -> Self {
        Self(words.into_iter().collect())
    }

    /// A command that starts `program` there.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let Some((first, rest)) = self.0.split_first() else {
            return Command::new(program);
        };
        let mut command = Command::new(first);
        command.args(rest).arg(program);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::Entry;
    use crate::process::show;

    #[test]
    fn the_words_stand_first() {
        assert_eq!(show(&Entry::default().command("true")), "true");
        let entry = Entry::new(["nsenter", "--"].map(str::to_owned));
        assert_eq!(show(entry.command("true").arg("x")), "nsenter -- true x");
    }
}
