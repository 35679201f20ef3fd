//! Python environments of the tests, the demo and the benches: our own package's dependencies, and
//! the `beta9` client as it comes from `PyPI`, newest and oldest that we hold to.
//!
//! Each is made once below `target/python` and named after what is in it, so that other versions
//! are another environment. Needs `python3-venv` and `PyPI`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{process, tree};

/// What is installed by name; dependencies of these are what pip finds for them.
const ENVIRONMENTS: &[(&str, &[&str])] = &[
    ("sdk", &["cloudpickle==3.1.3", "httpx2==2.16.2"]),
    ("beta9-0.1.291", &["beta9==0.1.291"]),
    ("beta9-0.1.245", &["beta9==0.1.245"]),
];

/// Written when all is installed: what was killed before is made again.
const COMPLETE: &str = "complete";

/// The names of environments that are not there.
pub(crate) fn missing() -> Vec<&'static str> {
    let names = ENVIRONMENTS.iter().map(|(name, _)| *name);
    names
        .filter(|name| !folder(name).join(COMPLETE).exists())
        .collect()
}

/// Makes what is missing.
pub(crate) fn install() -> Result<()> {
    for (name, packages) in ENVIRONMENTS {
        if !folder(name).join(COMPLETE).exists() {
            println!("setup: installing {} from PyPI", packages.join(" "));
            make(name, packages).with_context(|| format!("cannot make {name}"))?;
        }
    }
    Ok(())
}

/// The interpreter of an environment.
pub(crate) fn interpreter(name: &str) -> PathBuf {
    folder(name).join("bin/python")
}

fn make(name: &str, packages: &[&str]) -> Result<()> {
    let folder = folder(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(tree::target().join("python"))?;
    // Debian's own: what is first on the path may be another than the tests' images have.
    process::run(process::command("/usr/bin/python3", &["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(interpreter(name));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    process::run(pip.args(packages))?;
    std::fs::write(folder.join(COMPLETE), "")?;
    Ok(())
}

fn folder(name: &str) -> PathBuf {
    tree::target().join("python").join(name)
}
