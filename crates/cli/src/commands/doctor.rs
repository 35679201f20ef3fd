//! `holdfast doctor`: what this machine lacks or has too old, and the command that mends it.
//!
//! Looks, and changes nothing. Each check stands alone, so that one run names everything.

use std::path::{Path, PathBuf};

use key_service::{RootKeySource, ServiceSettings};
use serde::Serialize;
use vault::KeySource;

use crate::failure::{Failure, Kind, Result};
use crate::output::{Output, bytes, table};
use crate::settings::{DatabaseServer, Settings};

/// Debian 12's kernel: the oldest on which everything must work.
const KERNEL_FLOOR: (u32, u32) = (6, 1);

/// An index and a few spans fit; below this the first image will not.
const FREE_SPACE_FLOOR_BYTES: u64 = 1 << 30;

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    found: String,
    fix: Option<String>,
}

impl Check {
    fn new(name: &'static str, ok: bool, found: impl Into<String>, fix: &str) -> Self {
        let fix = (!ok).then(|| fix.to_owned());
        Self {
            name,
            ok,
            found: found.into(),
            fix,
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

pub(crate) async fn doctor(settings: &Settings, output: Output) -> Result<()> {
    let mut checks = vec![
        root(),
        kernel(),
        fuse(),
        overlay(),
        confinement(),
        user_namespaces(settings.userns_first_id),
        runtime(),
        cgroups(),
        tool("ip", "iproute2"),
        tool("nft", "nftables"),
        forwarding(),
        certificates(),
        free_space(&settings.data_dir),
        root_key(&settings.root_key, &settings.key_services),
    ];
    if let Some(server) = &settings.database {
        checks.push(database(server, &settings.files_beside_server()).await);
    }
    let report = Report {
        ok: checks.iter().all(|check| check.ok),
        checks,
    };
    output.show(&report, render)?;
    if report.ok {
        return Ok(());
    }
    let missing = report.checks.iter().filter(|check| !check.ok).count();
    Err(
        Failure::new(Kind::Machine, format!("{missing} of the checks failed"))
            .hint("run the commands in the last column, then `holdfast doctor` again"),
    )
}

fn render(report: &Report) -> String {
    let rows = report.checks.iter().map(|check| {
        let mark = if check.ok { "ok" } else { "MISSING" };
        vec![
            check.name.to_owned(),
            mark.to_owned(),
            check.found.clone(),
            check.fix.clone().unwrap_or_default(),
        ]
    });
    table(&["CHECK", "STATE", "FOUND", "FIX"], rows)
}

fn root() -> Check {
    let uid = rustix::process::geteuid();
    let found = format!("uid {}", uid.as_raw());
    Check::new("root", uid.is_root(), found, "sudo holdfast …")
}

fn kernel() -> Check {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let ok = version(&release).is_some_and(|found| found >= KERNEL_FLOOR);
    Check::new(
        "kernel",
        ok,
        release,
        "apt-get install linux-image-amd64, then reboot",
    )
}

/// The first two numbers of a version such as `6.1.0-18-amd64`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn fuse() -> Check {
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    let found = match &opened {
        Ok(_) => "/dev/fuse".to_owned(),
        Err(error) => format!("/dev/fuse: {error}"),
    };
    Check::new("fuse", opened.is_ok(), found, "modprobe fuse")
}

fn overlay() -> Check {
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let ok = filesystems
        .lines()
        .any(|line| line.trim_end().ends_with("\toverlay"));
    let found = if ok {
        "in the kernel"
    } else {
        "not in /proc/filesystems"
    };
    Check::new("overlayfs", ok, found, "modprobe overlay")
}

/// Landlock is one wall of several, and older kernels lack it; without seccomp nothing is indexed.
fn confinement() -> Check {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
    let has_seccomp = actions.is_ok_and(|actions| actions.split_whitespace().any(|a| a == "errno"));
    let found = match (has_seccomp, confine::has_landlock()) {
        (true, true) => "seccomp and Landlock",
        (true, false) => "seccomp, no Landlock",
        (false, _) => "no seccomp",
    };
    let fix = "boot a kernel with CONFIG_SECCOMP_FILTER, such as Debian's";
    Check::new("confinement", has_seccomp, found, fix)
}

fn user_namespaces(first_id: u32) -> Check {
    let text = std::fs::read_to_string("/proc/sys/user/max_user_namespaces");
    let limit = text.map(|text| text.trim().to_owned());
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let (ok, found) = match limit {
        Ok(limit) if !has_id(&map, first_id) => {
            let found = format!("at most {limit}, but id {first_id} is not this machine's");
            (false, found)
        }
        Ok(limit) => (limit != "0", format!("at most {limit}")),
        Err(_) => (false, "not in the kernel".to_owned()),
    };
    let fix = "sysctl user.max_user_namespaces=65536 and a userns_first_id that the machine has, \
               or userns = \"host\" in the configuration";
    Check::new("user namespaces", ok, found, fix)
}

/// Whether a map of ids, `inside outside count` a line, has an id inside.
fn has_id(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), _, Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        (first..first.saturating_add(count)).contains(&u64::from(id))
    })
}

fn runtime() -> Check {
    let (ok, found) = match container::Runtime::find() {
        Ok(runtime) => (true, format!("{} {}", runtime.name(), runtime.version())),
        Err(error) => (false, error.to_string()),
    };
    Check::new("container runtime", ok, found, "apt-get install runc")
}

fn cgroups() -> Check {
    let (ok, found) = match container::Cgroups::detect() {
        Ok(groups) => (
            groups.has_controller("memory"),
            groups.mode().as_str().to_owned(),
        ),
        Err(error) => (false, error.to_string()),
    };
    Check::new("cgroups", ok, found, "mount -t cgroup2 none /sys/fs/cgroup")
}

fn tool(name: &'static str, package: &str) -> Check {
    let found = container::find_program(name);
    let ok = found.is_some();
    let found = found.map_or_else(|| "not found".to_owned(), |path| path.display().to_string());
    Check::new(name, ok, found, &format!("apt-get install {package}"))
}

/// Containers have no network where somebody else's chain drops what is routed.
fn forwarding() -> Check {
    let (ok, found, fix) = match container::forward_drops() {
        Ok(drops) => match drops.first() {
            None => (true, "nobody drops it".to_owned(), String::new()),
            Some(drop) => (false, format!("dropped by {}", drop.chain), drop.fix()),
        },
        Err(error) => (false, error.to_string(), "sudo holdfast doctor".to_owned()),
    };
    Check::new("forwarding", ok, found, &fix)
}

fn certificates() -> Check {
    let bundle = Path::new("/etc/ssl/certs/ca-certificates.crt");
    let found = if bundle.exists() {
        bundle.display().to_string()
    } else {
        "none".to_owned()
    };
    Check::new(
        "certificates",
        bundle.exists(),
        found,
        "apt-get install ca-certificates",
    )
}

/// Measures the nearest directory that exists: a first run has made none yet.
fn free_space(data_dir: &Path) -> Check {
    let existing = data_dir
        .ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"));
    let (ok, found) = match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            (
                free >= FREE_SPACE_FLOOR_BYTES,
                format!("{} free", bytes(free)),
            )
        }
        Err(error) => (false, format!("{}: {error}", existing.display())),
    };
    Check::new(
        "disk",
        ok,
        found,
        "holdfast cache prune --all, or set HOLDFAST_DATA_DIR",
    )
}

fn root_key(source: &RootKeySource, services: &ServiceSettings) -> Check {
    use std::os::unix::fs::MetadataExt;
    let RootKeySource::Kept(KeySource::File(path)) = source else {
        // Whether it is there is for the process that is given it to say, or for its service.
        return match source.credential(services) {
            Ok(None) => Check::new("root key", true, source.to_string(), ""),
            Ok(Some(credential)) => match credential.look() {
                Ok(()) => {
                    let found = format!("{source}, asked with {credential}");
                    Check::new("root key", true, found, "")
                }
                Err(error) => {
                    let fix = "a file of your own for nobody else: chmod 600";
                    Check::new("root key", false, error.to_string(), fix)
                }
            },
            Err(error) => Check::new("root key", false, error.to_string(), &error.hint()),
        };
    };
    let (ok, found) = match std::fs::metadata(path) {
        Ok(metadata) if is_private(metadata.mode()) => (true, path.display().to_string()),
        Ok(metadata) => (
            false,
            format!("{}: mode {:o}", path.display(), metadata.mode() & 0o777),
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (
            true,
            format!("{} (made by the first login)", path.display()),
        ),
        Err(error) => (false, format!("{}: {error}", path.display())),
    };
    Check::new(
        "root key",
        ok,
        found,
        &format!("chmod 600 {}", path.display()),
    )
}

/// Whether the server of the vault and the state is there, and lets us in; and what lies in files
/// and is not read.
async fn database(named: &DatabaseServer, unread: &[PathBuf]) -> Check {
    let server = match named.server() {
        Ok(server) => server,
        Err(failure) => {
            let fix = "a file of your own for nobody else: chmod 600";
            return Check::new("database", false, failure.message, fix);
        }
    };
    match server.look().await {
        Ok(version) => {
            let mut found = format!("{server}, {version}");
            for file in unread {
                found.push_str(&format!("; {} is not read", file.display()));
            }
            Check::new("database", true, found, "")
        }
        Err(error) => {
            let found = format!("{server}: {error}");
            let fix = match error.failure() {
                database::Failure::Refused => "give that user its password and that database",
                _ => "start the server, or name another by `database` in the configuration",
            };
            Check::new("database", false, found, fix)
        }
    }
}

/// Nothing for group and others.
fn is_private(mode: u32) -> bool {
    mode.trailing_zeros() >= 6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read() {
        for (text, expected) in [
            ("6.1.0-18-amd64", Some((6, 1))),
            ("6.18.44", Some((6, 18))),
            ("5.10", Some((5, 10))),
            ("six", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
