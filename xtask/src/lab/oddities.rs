//! A layer with everything that extraction tools get wrong: set-id bits, capabilities, hard links,
//! whiteouts, opaque folders, devices, holes, names that are not UTF-8, times before 1970.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};

use crate::process;

/// Fills `folder` with the files of the layer.
pub(super) fn fill(folder: &Path) -> Result<()> {
    let odd = folder.join("opt/odd");
    fs::create_dir_all(&odd)?;
    links(&odd).context("cannot make links")?;
    modes(&odd).context("cannot make files with special modes")?;
    attributes(&odd)?;
    devices(&odd)?;
    names_and_times(&odd)?;
    holes(&odd)?;
    whiteouts(folder).context("cannot make whiteouts")
}

fn links(odd: &Path) -> std::io::Result<()> {
    fs::write(odd.join("linked-a"), "one file, three names\n")?;
    fs::hard_link(odd.join("linked-a"), odd.join("linked-b"))?;
    fs::create_dir_all(odd.join("deep"))?;
    fs::hard_link(odd.join("linked-a"), odd.join("deep/linked-c"))?;
    symlink("/nowhere/at/all", odd.join("dangling"))?;
    symlink("deep/linked-c", odd.join("relative"))
}

fn modes(odd: &Path) -> std::io::Result<()> {
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("secret", 0o000)] {
        fs::write(odd.join(name), format!("{name}\n"))?;
        fs::set_permissions(odd.join(name), fs::Permissions::from_mode(mode))?;
    }
    fs::create_dir(odd.join("sticky"))?;
    fs::set_permissions(odd.join("sticky"), fs::Permissions::from_mode(0o1777))?;
    fs::write(odd.join("empty"), "")
}

fn attributes(odd: &Path) -> Result<()> {
    fs::write(odd.join("capable"), "#!/bin/sh\n")?;
    fs::write(odd.join("labelled"), "with attributes\n")?;
    process::run(process::command("setcap", &["cap_net_raw+ep"]).arg(odd.join("capable")))?;
    let value = ["-n", "user.holdfast.note", "-v", "0xfffe00"];
    process::run(process::command("setfattr", &value).arg(odd.join("labelled")))?;
    process::run(process::command("chown", &["1000:2000"]).arg(odd.join("labelled")))
}

fn devices(odd: &Path) -> Result<()> {
    let mknod = |name: &str, rest: &[&str]| {
        process::run(process::command("mknod", &[odd.join(name)]).args(rest))
    };
    mknod("character", &["c", "1", "3"])?;
    mknod("block", &["b", "7", "200"])?;
    mknod("fifo", &["p"])
}

fn names_and_times(odd: &Path) -> Result<()> {
    fs::write(
        odd.join(OsStr::from_bytes(b"latin-\xe9t\xe9")),
        "not UTF-8\n",
    )?;
    fs::write(
        odd.join("a name with spaces\nand a line"),
        "printable elsewhere\n",
    )?;
    let long = "long-".repeat(50);
    fs::create_dir_all(odd.join(&long).join(&long))?;
    fs::write(
        odd.join(&long).join(&long).join("leaf"),
        "a path over the ustar limit\n",
    )?;
    for (name, time) in [
        ("old", "1962-02-20 14:47:39.25"),
        ("exact", "2024-02-29 12:00:00.123456789"),
    ] {
        fs::write(odd.join(name), "")?;
        let time = format!("--date={time} UTC");
        process::run(process::command("touch", &[time]).arg(odd.join(name)))?;
    }
    Ok(())
}

fn holes(odd: &Path) -> Result<()> {
    let path = odd.join("sparse");
    fs::write(&path, "head")?;
    process::run(process::command("truncate", &["--size=3M"]).arg(&path))?;
    let mut bytes = fs::OpenOptions::new().append(true).open(&path)?;
    std::io::Write::write_all(&mut bytes, b"tail")?;
    Ok(())
}

/// Files of the base layer disappear: one by name, a folder with all that was in it, and a folder
/// that keeps its name but starts anew.
fn whiteouts(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder.join("usr/share/doc/apt"))?;
    fs::create_dir_all(folder.join("etc/cron.daily"))?;
    fs::write(folder.join("etc/.wh.issue"), "")?;
    fs::write(folder.join("usr/share/.wh.man"), "")?;
    fs::write(folder.join("usr/share/doc/apt/.wh..wh..opq"), "")?;
    fs::write(
        folder.join("usr/share/doc/apt/only"),
        "all that is left here\n",
    )?;
    fs::write(folder.join("etc/cron.daily/.wh.dpkg"), "")?;
    fs::write(folder.join("etc/cron.daily/ours"), "")
}
