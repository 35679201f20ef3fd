//! Functions: a gateway that serves, and a Python program that calls it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::holdfast::{Answer, Holdfast};
use crate::lab::Login;
use crate::serving::{self, Serving};
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

/// Starts the gateway, and shows how.
pub(super) fn serve(holdfast: &Holdfast) -> Result<Serving> {
    let shown = process::show(&process::command("holdfast", serving::WORDS));
    println!("$ {shown} &");
    let serving = Serving::start(holdfast.command().args(serving::WORDS))?;
    println!("  listening on {}\n", serving.gateway());
    Ok(serving)
}

/// Runs the program with our own Python package.
pub(super) fn run_program(
    serving: &Serving,
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
        .env("HOLDFAST_GATEWAY", serving.gateway())
        .env("HOLDFAST_TOKEN", serving.token())
        .env("HOLDFAST_PROGRESS", "1")
        .env("IMAGE", image)
        .env("USERNAME", login.username)
        .env("PASSWORD", &login.password);
    holdfast.finish(command, "python hello.py", None)
}

/// The program in a directory of its own, since what is beside it is sent along.
fn program(holdfast: &Holdfast) -> Result<PathBuf> {
    let folder = holdfast.transcript_dir().join("app");
    fs::create_dir_all(&folder)?;
    let program = folder.join("hello.py");
    fs::write(&program, PROGRAM)?;
    Ok(program)
}
