//! Python environments of the tests, the demo and the benches: our own package's dependencies, the
//! `beta9` client as it comes from `PyPI`, newest and oldest that we hold to, a stand-in for
//! AWS, and peers of benches.
//!
//! Each is made once below `target/python` and named after what is in it, so that other versions
//! are another environment. Needs `python3-venv` and `PyPI`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{process, tree};

/// A name and what is installed; dependencies of that are what pip finds for it.
type Environment = (&'static str, &'static [&'static str]);

/// What `setup` makes.
const ENVIRONMENTS: &[Environment] = &[
    ("sdk", &["cloudpickle==3.1.3", "httpcore2[asyncio]==2.16.2"]),
    ("beta9-0.1.291", &["beta9==0.1.291"]),
    ("beta9-0.1.245", &["beta9==0.1.245"]),
    ("moto-5.2.5", &["moto[server]==5.2.5"]),
];

/// Peers, large ones: made by the bench that asks for them and by nothing else.
pub(crate) const RAY: Environment = ("ray-2.60.0", &["ray==2.60.0"]);
pub(crate) const CELERY: Environment = ("celery-5.7.0", &["celery[redis]==5.7.0", "redis==8.1.0"]);

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
    ENVIRONMENTS.iter().copied().try_for_each(need)
}

/// Makes an environment unless it is there.
pub(crate) fn need((name, packages): Environment) -> Result<()> {
    if folder(name).join(COMPLETE).exists() {
        return Ok(());
    }
    println!("setup: installing {} from PyPI", packages.join(" "));
    make(name, packages).with_context(|| format!("cannot make {name}"))
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
