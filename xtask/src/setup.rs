//! `cargo xtask setup`: what building, testing and the demo need from Debian, the toolchain's own
//! components, and Python environments from `PyPI`.
//!
//! Invariants: quick and silent when everything is there (one `dpkg-query`); no daemon of an
//! installed package is started, and a `policy-rc.d` that was there before is put back. It
//! deliberately installs nothing outside Debian's packages and `target/`, and never edits
//! configuration. What one bench alone needs is installed by [`need`] when that bench runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;
use crate::{process, python};

/// Debian packages, with what would not work without each.
type Packages = &'static [(&'static str, &'static str)];

/// What `setup` installs.
const PACKAGES: Packages = &[
    ("gcc", "the C parts of SQLite, zstd, BLAKE3 and AWS-LC"),
    ("g++", "libFuzzer, which is C++, for `cargo xtask fuzz`"),
    ("libc6-dev", "C headers for the same"),
    ("runc", "the OCI runtime"),
    ("nftables", "the egress rules of a container's network"),
    ("iproute2", "network namespaces in tests and benches"),
    ("ca-certificates", "system roots for TLS"),
    ("docker-registry", "the registry of the tests and the demo"),
    ("apache2-utils", "htpasswd, for that registry"),
    ("skopeo", "pushing test images, and a peer in benches"),
    ("podman", "a program that our credential helper serves"),
    ("postgresql", "the other database of the tests"),
    ("umoci", "packing test images, and a peer in benches"),
    ("debootstrap", "the root filesystem of the demo image"),
    ("containerd", "extraction to compare the mounted tree with"),
    ("attr", "extended attributes in test images"),
    ("libcap2-bin", "file capabilities in test images"),
    ("busybox-static", "small test images"),
    ("zstd", "layers of zstd in a bench's image"),
    ("procps", "sysctl, for the network namespaces of a bench"),
    ("e2fsprogs", "disks whose power tests cut"),
    ("openssl", "certificates of test registries"),
    ("python3", "the demo's handler and test scripts"),
    (
        "python3-venv",
        "our Python package and the beta9 client, apart from the system's",
    ),
];

/// What invoke-rc.d asks before it starts anything; 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_SAVED: &str = "/usr/sbin/policy-rc.d.before-holdfast-setup";
const POLICY_TEXT: &str = "#!/bin/sh\n# Written by `cargo xtask setup` of Holdfast for the time of \
                           one installation.\nexit 101\n";

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let check_only = arguments.flag("--check");
    arguments.finish()?;
    let packages = missing_of(PACKAGES)?;
    let components = missing_components();
    let environments = python::missing();
    if packages.is_empty() && components.is_empty() && environments.is_empty() {
        println!(
            "setup: everything is there ({} Debian packages)",
            PACKAGES.len()
        );
        return Ok(ExitCode::SUCCESS);
    }
    report(&packages, &components, &environments);
    if check_only {
        println!("setup: install with `cargo xtask setup` as root");
        return Ok(ExitCode::FAILURE);
    }
    install_components(&components)?;
    install(PACKAGES)?;
    python::install()?;
    Ok(ExitCode::SUCCESS)
}

fn report(packages: &[&str], components: &[&str], environments: &[&str]) {
    for (name, purpose) in PACKAGES.iter().filter(|(name, _)| packages.contains(name)) {
        println!("missing package {name}: {purpose}");
    }
    for name in components {
        println!("missing toolchain component {name}");
    }
    for name in environments {
        println!("missing Python environment {name}");
    }
}

/// Installs, of packages that `setup` leaves out, those that are missing.
pub(crate) fn need(packages: Packages) -> Result<()> {
    for (name, purpose) in packages {
        if missing_of(packages)?.contains(name) {
            println!("missing package {name}: {purpose}");
        }
    }
    install(packages)
}

fn missing_of(packages: Packages) -> Result<Vec<&'static str>> {
    let mut query = process::command("dpkg-query", &["-W", "-f", "${Package} ${Status}\\n"]);
    query.args(names(packages));
    // It exits with 1 when it does not know one of the names, and still prints the others.
    let output = process::output(&mut query).with_context(|| {
        format!(
            "this is not a Debian system; install these by hand: {}",
            names(packages).join(" ")
        )
    })?;
    Ok(missing_from(
        packages,
        &String::from_utf8_lossy(&output.stdout),
    ))
}

fn missing_from(packages: Packages, listing: &str) -> Vec<&'static str> {
    let installed: Vec<&str> = listing
        .lines()
        .filter_map(|line| line.strip_suffix(" install ok installed"))
        .collect();
    names(packages)
        .into_iter()
        .filter(|name| !installed.contains(name))
        .collect()
}

fn names(packages: Packages) -> Vec<&'static str> {
    packages.iter().map(|(name, _)| *name).collect()
}

fn missing_components() -> Vec<&'static str> {
    let works = |subcommand: &str| {
        process::output(&mut process::command("cargo", &[subcommand, "--version"]))
            .is_ok_and(|output| output.status.success())
    };
    [("fmt", "rustfmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(subcommand, _)| !works(subcommand))
        .map(|(_, component)| component)
        .collect()
}

fn install_components(components: &[&str]) -> Result<()> {
    if components.is_empty() {
        return Ok(());
    }
    process::run(process::command("rustup", &["component", "add"]).args(components))
        .context("cannot add toolchain components; without rustup, install them with the toolchain")
}

fn install(packages: Packages) -> Result<()> {
    let missing = missing_of(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    require_debian_12(&release, &missing)?;
    require_root()?;
    let _policy = NoDaemons::begin(Path::new(POLICY), Path::new(POLICY_SAVED))?;
    apt_get(&["update", "-q"])
        .context("no package lists: is the network up, and are Debian's sources configured?")?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&missing);
    apt_get(&install)?;
    let left = missing_of(packages)?;
    if !left.is_empty() {
        bail!(
            "apt-get succeeded but these are still missing: {}",
            left.join(" ")
        );
    }
    println!(
        "setup: installed {}; no daemon was started",
        missing.join(" ")
    );
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = process::command("apt-get", arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    process::run(&mut command)
}

fn require_debian_12(os_release: &str, missing: &[&str]) -> Result<()> {
    let field = |name: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map_or("unknown", |value| value.trim_matches('"'))
            .to_owned()
    };
    let (id, version) = (field("ID"), field("VERSION_ID"));
    if id != "debian" || version != "12" {
        let list = missing.join(" ");
        bail!("setup knows Debian 12, this is {id} {version}; install these by hand: {list}");
    }
    Ok(())
}

/// Refuses to go on without root; says so before any work is lost.
pub(crate) fn require_root() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").context("no /proc/self/status")?;
    let user = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1));
    if user != Some("0") {
        bail!("this needs root: it installs packages, mounts filesystems and starts containers");
    }
    Ok(())
}

/// Holds a `policy-rc.d` that says no; puts things back when dropped.
///
/// A run that was killed leaves its file behind: the next one recognises it by its text.
#[derive(Debug)]
struct NoDaemons {
    policy: PathBuf,
    saved: PathBuf,
}

impl NoDaemons {
    fn begin(policy: &Path, saved: &Path) -> Result<Self> {
        let guard = Self {
            policy: policy.to_path_buf(),
            saved: saved.to_path_buf(),
        };
        let ours = std::fs::read_to_string(policy).is_ok_and(|text| text == POLICY_TEXT);
        if policy.exists() && !ours {
            std::fs::rename(policy, saved)
                .with_context(|| format!("cannot set aside {}", policy.display()))?;
        }
        write_executable(policy, POLICY_TEXT)?;
        Ok(guard)
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        let restored = if self.saved.exists() {
            std::fs::rename(&self.saved, &self.policy)
        } else {
            std::fs::remove_file(&self.policy)
        };
        if let Err(error) = restored {
            eprintln!("warning: cannot restore {}: {error}", self.policy.display());
        }
    }
}

fn write_executable(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let subject = || format!("cannot write {}", path.display());
    std::fs::write(path, text).with_context(subject)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).with_context(subject)
}

#[cfg(test)]
mod tests {
    use super::{NoDaemons, PACKAGES, POLICY_TEXT, missing_from, names, require_debian_12};

    #[test]
    fn a_removed_package_is_missing() {
        let listing: String = names(PACKAGES)
            .iter()
            .map(|name| match *name {
                "runc" => "runc deinstall ok config-files\n".to_owned(),
                other => format!("{other} install ok installed\n"),
            })
            .collect();
        assert_eq!(missing_from(PACKAGES, &listing), ["runc"]);
        assert_eq!(missing_from(PACKAGES, "").len(), PACKAGES.len());
    }

    #[test]
    fn only_debian_12_is_known() {
        assert!(require_debian_12("ID=debian\nVERSION_ID=\"12\"\n", &[]).is_ok());
        for other in [
            "ID=debian\nVERSION_ID=\"13\"\n",
            "ID=fedora\nVERSION_ID=41\n",
            "",
        ] {
            let text = require_debian_12(other, &["gcc"]).unwrap_err().to_string();
            assert!(text.contains("install these by hand: gcc"), "{text}");
        }
    }

    #[test]
    fn the_policy_that_was_there_comes_back() {
        let folder = std::env::temp_dir().join(format!("holdfast-policy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (policy, saved) = (folder.join("policy"), folder.join("saved"));
        std::fs::write(&policy, "theirs").unwrap();
        let guard = NoDaemons::begin(&policy, &saved).unwrap();
        assert_eq!(std::fs::read_to_string(&policy).unwrap(), POLICY_TEXT);
        // A killed run: its guard never drops, and the next one must not save our own file.
        std::mem::forget(guard);
        drop(NoDaemons::begin(&policy, &saved).unwrap());
        assert_eq!(std::fs::read_to_string(&policy).unwrap(), "theirs");
        std::fs::remove_file(&policy).unwrap();
        drop(NoDaemons::begin(&policy, &saved).unwrap());
        assert!(!policy.exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
