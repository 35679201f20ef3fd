//! Files that were open when this process began, which the keeper shall not have.
//!
//! What this program opens is closed when another is started; what a shell or a supervisor had
//! open for *this* process is not, and goes on to its children.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::process::Command;

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Resource, getrlimit};

/// Standard input, output and error, which the caller has chosen.
const STANDARD: RawFd = 2;
/// Close-on-exec, among the flags that `fdinfo` shows.
const CLOSE_ON_EXEC: u32 = 0o2_000_000;

/// Puts `/dev/null` in the place of every file that the command would inherit. What has a number
/// above the limit on them, which was lowered after it was opened, cannot be replaced and stays.
pub(super) fn cover(command: &mut Command) -> io::Result<()> {
    let numbers = numbers()?;
    if numbers.is_empty() {
        return Ok(());
    }
    let null = OwnedFd::from(OpenOptions::new().read(true).open("/dev/null")?);
    let mut mappings = Vec::with_capacity(numbers.len());
    for child_fd in numbers {
        let parent_fd = null.try_clone()?;
        mappings.push(FdMapping {
            parent_fd,
            child_fd,
        });
    }
    let mapped = command.fd_mappings(mappings);
    mapped.map(drop).map_err(io::Error::other)
}

fn numbers() -> io::Result<Vec<RawFd>> {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.and_then(|limit| RawFd::try_from(limit).ok());
    let replaceable = STANDARD + 1..limit.unwrap_or(RawFd::MAX);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo")? {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|number| replaceable.contains(number)) else {
            continue;
        };
        // One that another thread has closed since is none.
        if std::fs::read_to_string(entry.path()).is_ok_and(|info| is_inherited(&info)) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

fn is_inherited(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & CLOSE_ON_EXEC == 0)
}

#[cfg(test)]
mod tests {
    use super::is_inherited;

    #[test]
    fn flags_are_read() {
        for (info, expected) in [
            ("pos:\t0\nflags:\t0100000\nmnt_id:\t9\n", true),
            ("pos:\t0\nflags:\t02100000\nmnt_id:\t9\n", false),
            ("pos:\t0\n", false),
            ("", false),
        ] {
            assert_eq!(is_inherited(info), expected, "{info:?}");
        }
    }
}
