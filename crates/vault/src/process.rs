//! The process itself: a name by which its leases are known to be orphans.

use std::io;

/// Where the processes are that open one vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machines {
    One,
    Many,
}

/// A process for as long as it lives. A number alone would be reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessName {
    name: String,
    machines: Machines,
}

impl ProcessName {
    pub(crate) fn of_this_process(machines: Machines) -> io::Result<Self> {
        let pid = std::process::id();
        let start = start_ticks(pid)?.ok_or(io::ErrorKind::NotFound)?;
        let name = format!("{}/{}/{pid}/{start}", boot()?, namespace()?);
        Ok(Self { name, machines })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }
}

/// Whether the process of that name is certainly gone. Of a process in another pid namespace
/// nothing can be said, nor of one of another boot, where that may be another machine: leases of
/// such end by the clock.
pub(crate) fn is_gone(name: &str, viewer: &ProcessName) -> bool {
    let machines = viewer.machines;
    let (Some(owner), Some(viewer)) = (Parts::of(name), Parts::of(viewer.as_str())) else {
        return true;
    };
    if owner.boot != viewer.boot {
        return machines == Machines::One;
    }
    if owner.namespace != viewer.namespace {
        return false;
    }
    let Ok(pid) = owner.pid.parse() else {
        return true;
    };
    match start_ticks(pid) {
        Ok(Some(start)) => start != owner.start,
        Ok(None) => true,
        Err(_) => false,
    }
}

struct Parts<'a> {
    boot: &'a str,
    namespace: &'a str,
    pid: &'a str,
    start: &'a str,
}

impl<'a> Parts<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let mut parts = name.splitn(4, '/');
        Some(Self {
            boot: parts.next()?,
            namespace: parts.next()?,
            pid: parts.next()?,
            start: parts.next()?,
        })
    }
}

fn boot() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

fn namespace() -> io::Result<String> {
    let link = std::fs::read_link("/proc/self/ns/pid")?;
    Ok(link.to_string_lossy().replace('/', "_"))
}

/// When a process started, in ticks since boot: the 22nd field of its `stat`, counted from behind
/// the command, which may hold spaces and parentheses.
fn start_ticks(pid: u32) -> io::Result<Option<String>> {
    let text = match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let behind_command = text.rsplit_once(") ").map(|(_, rest)| rest);
    let start = behind_command.and_then(|rest| rest.split(' ').nth(19));
    Ok(start.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_living_are_told_from_the_gone() {
        let me = ProcessName::of_this_process(Machines::One).unwrap();
        assert!(!is_gone(me.as_str(), &me));
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let start = start_ticks(pid).unwrap().unwrap();
        let place = me.as_str().rsplitn(3, '/').nth(2).unwrap().to_owned();
        let name = format!("{place}/{pid}/{start}");
        assert!(!is_gone(&name, &me));
        assert!(is_gone(&format!("{place}/{pid}/1"), &me), "another start");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(&name, &me), "ended");
        let of_old_boot = format!("old-boot/{}", &name[name.find('/').unwrap() + 1..]);
        assert!(is_gone(&of_old_boot, &me));
        let one_of_many = ProcessName::of_this_process(Machines::Many).unwrap();
        assert!(!is_gone(&of_old_boot, &one_of_many), "another machine");
        assert!(is_gone(&name, &one_of_many), "ended on this one");
        assert!(
            !is_gone(&name.replace("pid:", "pid:9"), &me),
            "another namespace"
        );
        assert!(is_gone("nonsense", &me));
    }
}
