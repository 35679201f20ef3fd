//! `cargo xtask demo`: the first thing a user does, end to end, as a transcript.
//!
//! A private image, a login, a lazy run, a changed password, the clear error, a new login, a run
//! that rebuilds nothing. Each answer is checked, so that the demo is also a test. State is in a
//! scratch folder that goes away; only the packed image is kept, below `target/`.

mod checks;
mod functions;
mod holdfast;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;
use crate::lab::{self, Login, Registry, Scratch};
use crate::{process, setup, tree};

use self::holdfast::{Holdfast, Timing};

/// What the demo runs: an interpreter and a library, nothing of the handler.
const SCRIPT: &str = r#"import sys, requests; print("hello from", sys.version.split()[0])"#;
const ANSWER: &str = "hello from 3.11";

/// `run` exits with this when the failure is ours and not the command's.
const OURS: i32 = 125;

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let profile = arguments
        .value("--profile")?
        .unwrap_or_else(|| "release".to_owned());
    let binary = arguments.value("--binary")?.map(PathBuf::from);
    arguments.finish()?;
    setup::require_root()?;
    if setup::run(Arguments::none())? != ExitCode::SUCCESS {
        bail!("the machine is not set up");
    }
    let binary = match binary {
        Some(binary) => binary,
        None => build(&profile)?,
    };
    let folder = tree::target().join("holdfast-demo");
    let image = lab::packed_image(&folder)?;
    let scratch = Scratch::new(&folder, "run")?;
    let first = Login::generate("alice")?;
    let registry = Registry::start(&scratch.path().join("registry"), &first)?;
    let name = registry.push(&image, &first)?;
    println!("\nA private image is at {name}; the registry demands a login.\n");
    let holdfast = Holdfast::new(binary, scratch.path())?;
    let passwords = vec![first];
    let mut demo = Demo {
        holdfast,
        registry,
        name,
        passwords,
    };
    demo.first_use()?;
    demo.lazy_runs()?;
    demo.rotation()?;
    demo.function()?;
    demo.leave_nothing()?;
    println!("\nThe demo is complete: every answer was checked.");
    Ok(ExitCode::SUCCESS)
}

fn build(profile: &str) -> Result<PathBuf> {
    let folder = match profile {
        "release" => "release",
        "dev" => "debug",
        other => bail!("no profile {other}: dev or release"),
    };
    println!("building holdfast ({profile})");
    let mut command = process::command("cargo", &["build", "--package", "holdfast-cli"]);
    process::run(
        command
            .args(["--profile", profile])
            .current_dir(tree::root()),
    )?;
    Ok(tree::target().join(folder).join("holdfast"))
}

struct Demo {
    holdfast: Holdfast,
    registry: Registry,
    name: String,
    /// Every password so far; the last one is in force.
    passwords: Vec<Login>,
}

impl Demo {
    fn first_use(&mut self) -> Result<()> {
        say("Log in once. The credential is checked, then sealed.");
        self.login()?;
        say("The first use reads each layer once: it indexes and fills the cache in one pass.");
        self.run_well()?;
        Ok(())
    }

    fn lazy_runs(&mut self) -> Result<()> {
        say("From now on only what the command touches is fetched. Empty the cache and see.");
        self.holdfast.succeed(&["cache", "prune", "--all"])?;
        let cold = self.run_well()?;
        checks::lazy(&cold)?;
        let (fetched, total) = (cold.bytes_fetched, cold.bytes_total);
        let percent = fetched * 100 / total.max(1);
        println!("    (fetched {fetched} of {total} bytes: {percent} %)\n");
        say("And once more, with the cache warm.");
        let warm = self.run_well()?;
        if warm.bytes_fetched > fetched {
            bail!(
                "the warm run fetched more than the cold one: {}",
                warm.bytes_fetched
            );
        }
        Ok(())
    }

    fn rotation(&mut self) -> Result<()> {
        say("Now the registry's password changes. The next start is refused, and says why.");
        let next = Login::generate("alice")?;
        self.registry.change_password(&next)?;
        self.passwords.push(next);
        let refused = self.holdfast.run(&self.run_arguments(), None)?;
        checks::refused(&refused, OURS, &self.name)?;
        say("Log in again. Nothing is rebuilt and nothing is indexed anew.");
        let before = self.holdfast.indexes()?;
        self.login()?;
        self.run_well()?;
        if self.holdfast.indexes()? != before {
            bail!("the indexes changed with the password");
        }
        println!("    ({} layer indexes, untouched)\n", before.len());
        Ok(())
    }

    fn function(&self) -> Result<()> {
        say("Functions: a gateway on this machine, and a program that calls it.");
        let serving = functions::serve(&self.holdfast)?;
        say("The first call checks the credential, builds the image and starts a container.");
        let login = self.passwords.last().expect("there is a password");
        for call in ["first", "second"] {
            let answer = functions::run_program(&serving, &self.holdfast, &self.name, login)?;
            if !answer.status.success() || !answer.output.ends_with("Hello!\n") {
                bail!("the {call} call printed {:?}", answer.output);
            }
        }
        serving.stop()
    }

    fn leave_nothing(&self) -> Result<()> {
        say("What is kept of the credential: its name, kind and state.");
        self.holdfast.succeed(&["credentials", "list"])?;
        checks::no_secret_in(self.holdfast.data_dir(), &self.passwords)?;
        checks::no_secret_in(self.holdfast.transcript_dir(), &self.passwords)?;
        checks::no_mount_below(self.holdfast.data_dir())
    }

    fn login(&self) -> Result<()> {
        let scope = format!("{}/acme", self.registry.address());
        let login = self
            .passwords
            .last()
            .expect("there is a password from the start");
        let arguments = [
            "login",
            &scope,
            "--username",
            login.username,
            "--password-stdin",
        ];
        let answer = self.holdfast.run(&arguments, Some(&login.password))?;
        if !answer.status.success() {
            bail!("login failed: {}", answer.status);
        }
        Ok(())
    }

    fn run_arguments(&self) -> Vec<&str> {
        vec!["run", "--timing", &self.name, "--", "python3", "-c", SCRIPT]
    }

    fn run_well(&self) -> Result<Timing> {
        let answer = self.holdfast.run_timed(&self.run_arguments())?;
        if !answer.output.starts_with(ANSWER) {
            bail!(
                "the command printed {:?} instead of {ANSWER:?}",
                answer.output
            );
        }
        answer
            .timing
            .context("--timing-json wrote nothing that can be read")
    }
}

fn say(text: &str) {
    println!("# {text}");
}
