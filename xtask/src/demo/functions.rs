//! Functions: a gateway that serves, and a Python program that calls it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::holdfast::{Answer, Holdfast};
use crate::lab::Login;
use crate::{process, python, tree};

/// The program of the README. Name and password come by the environment, which the container does
/// not have.
const PROGRAM: &str = r#"import os

from holdfast import Image, function

environment = os.environ.get


@function(image=Image(base_image=environment("IMAGE", ""),
                      base_image_creds={"USERNAME": environment("USERNAME", ""),
                                        "PASSWORD": environment("PASSWORD", "")}))
def my_function():
    print("in the container")
    return "Hello!"


if __name__ == "__main__":
    print(my_function.remote())
"#;

/// A gateway, until it is stopped or dropped.
pub(super) struct Serving {
    child: Child,
    gateway: String,
    token: String,
}

impl Serving {
    pub(super) fn start(holdfast: &Holdfast) -> Result<Self> {
        let words = ["--json", "serve", "--listen", "127.0.0.1:0"];
        println!(
            "$ {} &",
            process::show(&process::command("holdfast", &words))
        );
        let mut child = holdfast
            .command()
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start holdfast serve")?;
        let output = child.stdout.take().context("serve has no output")?;
        let listening = first_object(BufReader::new(output))?;
        let text = |field: &str| {
            let value = listening[field].as_str();
            value.with_context(|| format!("serve does not say its {field}: {listening}"))
        };
        let gateway = text("gateway")?.to_owned();
        let token = fs::read_to_string(text("token_file")?)?;
        println!("  listening on {gateway}\n");
        Ok(Self {
            child,
            gateway,
            token: token.trim().to_owned(),
        })
    }

    /// Runs the program with our own Python package.
    pub(super) fn run_program(
        &self,
        holdfast: &Holdfast,
        image: &str,
        login: &Login,
    ) -> Result<Answer> {
        let program = program(holdfast)?;
        let mut command = Command::new(python::interpreter("sdk"));
        command
            .arg(&program)
            .env("PYTHONPATH", tree::root().join("sdk/python/src"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("HOLDFAST_GATEWAY", &self.gateway)
            .env("HOLDFAST_TOKEN", &self.token)
            .env("HOLDFAST_PROGRESS", "1")
            .env("IMAGE", image)
            .env("USERNAME", login.username)
            .env("PASSWORD", &login.password);
        holdfast.finish(command, "python hello.py", None)
    }

    /// Ends the gateway as an operator does, and with it all that it started.
    pub(super) fn stop(mut self) -> Result<()> {
        let id = self.child.id().to_string();
        process::run(&mut process::command("kill", &["-TERM", &id]))?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("serve ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program in a directory of its own, since what is beside it is sent along.
fn program(holdfast: &Holdfast) -> Result<PathBuf> {
    let folder = holdfast.transcript_dir().join("app");
    fs::create_dir_all(&folder)?;
    let program = folder.join("hello.py");
    fs::write(&program, PROGRAM)?;
    Ok(program)
}

/// The lines up to the first that closes an object.
fn first_object(output: impl BufRead) -> Result<Value> {
    let mut text = String::new();
    for line in output.lines() {
        let line = line?;
        text.push_str(&line);
        if line == "}" {
            break;
        }
    }
    serde_json::from_str(&text).context("serve ended before it listened")
}
