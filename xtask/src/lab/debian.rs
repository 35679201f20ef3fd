//! A Debian root filesystem, made from the mirror that this machine is configured to use.
//!
//! The mirror's name stays out of what is printed and out of the image: it goes to debootstrap as
//! an argument, its chatter goes to a log file, and the chroot's apt files are removed again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const SUITE: &str = "bookworm";

/// Files of this machine that apt in a chroot needs to reach the mirror, and loses again.
const BORROWED: &[&str] = &["/etc/resolv.conf", "/etc/hosts", "/etc/apt/sources.list"];

/// Makes a minimal root filesystem at `folder`.
pub(super) fn bootstrap(folder: &Path, log: &Path) -> Result<()> {
    let mirror = mirror()?;
    let mut command = Command::new("debootstrap");
    command
        .args(["--variant=minbase", SUITE])
        .arg(folder)
        .arg(mirror);
    logged(&mut command, log)?;
    clean(folder)
}

/// Installs packages into the root filesystem at `folder`.
pub(super) fn install(folder: &Path, packages: &[&str], log: &Path) -> Result<()> {
    let source = format!("deb {} {SUITE} main\n", mirror()?);
    let borrowed: Vec<Borrowed> = BORROWED
        .iter()
        .map(|path| Borrowed::new(folder, path, &source))
        .collect::<Result<_>>()?;
    let mut update = chroot(folder, &["apt-get", "update", "-q"]);
    logged(&mut update, log)?;
    let mut install = chroot(folder, &["apt-get", "install", "-y", "-q"]);
    logged(install.arg("--no-install-recommends").args(packages), log)?;
    drop(borrowed);
    clean(folder)
}

fn chroot(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg(folder)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Removes what apt keeps for later, and what debootstrap copied from this machine.
fn clean(folder: &Path) -> Result<()> {
    for name in [
        "var/lib/apt/lists",
        "var/cache/apt",
        "var/cache/debconf",
        "var/log",
    ] {
        empty(&folder.join(name))?;
    }
    let public = format!("deb http://deb.debian.org/debian {SUITE} main\n");
    for (name, text) in [
        ("etc/apt/sources.list", public.as_str()),
        ("etc/hostname", "debian\n"),
        ("etc/resolv.conf", ""),
        ("etc/hosts", ""),
    ] {
        std::fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(())
}

fn empty(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        let removed = if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Runs with its output in a log file, whose name an error gives.
fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::options().create(true).append(true).open(log)?;
    command
        .stdin(std::process::Stdio::null())
        .stderr(file.try_clone()?)
        .stdout(file);
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!(
            "{program} failed ({status}); what it said is in {}",
            log.display()
        );
    }
    Ok(())
}

/// A file of the chroot that is ours for a while; what was there comes back.
#[derive(Debug)]
struct Borrowed {
    path: PathBuf,
    before: Option<Vec<u8>>,
}

impl Borrowed {
    fn new(folder: &Path, path: &str, source: &str) -> Result<Self> {
        let inside = folder.join(path.trim_start_matches('/'));
        let before = std::fs::read(&inside).ok();
        let text = if path.ends_with("sources.list") {
            source.as_bytes().to_vec()
        } else {
            std::fs::read(path).unwrap_or_default()
        };
        std::fs::write(&inside, text)
            .with_context(|| format!("cannot write {}", inside.display()))?;
        Ok(Self {
            path: inside,
            before,
        })
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let restored = match &self.before {
            Some(bytes) => std::fs::write(&self.path, bytes),
            None => std::fs::remove_file(&self.path),
        };
        if let Err(error) = restored {
            eprintln!("warning: cannot restore {}: {error}", self.path.display());
        }
    }
}

/// The mirror of the first source of the suite.
fn mirror() -> Result<String> {
    let mut texts = vec![std::fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    let mut paths: Vec<PathBuf> = std::fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    paths.sort();
    for path in paths.iter().filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "list" || extension == "sources")
    }) {
        texts.push(std::fs::read_to_string(path).unwrap_or_default());
    }
    let found = texts.iter().find_map(|text| mirror_in(text));
    found.with_context(|| format!("no source for {SUITE} in /etc/apt/sources.list*"))
}

fn mirror_in(text: &str) -> Option<String> {
    one_line_mirror(text).or_else(|| text.split("\n\n").find_map(deb822_mirror))
}

/// `deb [options] URI SUITE COMPONENT…`
fn one_line_mirror(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let rest = rest
            .split_once(']')
            .filter(|_| rest.starts_with('['))
            .map_or(rest, |s| s.1);
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        (suite == SUITE).then(|| uri.to_owned())
    })
}

/// A paragraph with `URIs:` and `Suites:`.
fn deb822_mirror(paragraph: &str) -> Option<String> {
    let field = |name: &str| {
        paragraph
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default()
    };
    let suites = field("Suites:")
        .split_whitespace()
        .any(|suite| suite == SUITE);
    let uri = field("URIs:").split_whitespace().next()?;
    (suites && field("Types:").split_whitespace().any(|kind| kind == "deb")).then(|| uri.to_owned())
}

#[cfg(test)]
mod tests {
    use super::mirror_in;

    #[test]
    fn finds_the_mirror_in_both_formats() {
        let table: &[(&str, Option<&str>)] = &[
            (
                "deb http://a/debian bookworm main\n",
                Some("http://a/debian"),
            ),
            (
                "# deb http://a bookworm main\ndeb [arch=amd64] http://b bookworm main\n",
                Some("http://b"),
            ),
            ("deb http://a bookworm-security main\n", None),
            (
                "Types: deb\n# note\nURIs: http://c/debian\nSuites: bookworm bookworm-updates\n",
                Some("http://c/debian"),
            ),
            ("Types: deb-src\nURIs: http://c\nSuites: bookworm\n", None),
            (
                "Types: deb\nURIs: http://s\nSuites: bookworm-security\n\n\
                 Types: deb\nURIs: http://d\nSuites: bookworm\n",
                Some("http://d"),
            ),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(mirror_in(text).as_deref(), *expected, "{text}");
        }
    }
}
