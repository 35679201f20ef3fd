//! How fast credentials are sealed, opened and vended.
//!
//! `credential_speed PART …` measures one part once, in a folder that must be empty, and prints one
//! JSON document: `cipher`, `vault FOLDER`, `vend FOLDER HOST`, `crowd FOLDER`, `rotating FOLDER`.
//! `registry` is what others are measured at too: a registry with a token service that prints its
//! host and serves until it is killed. `keep` is the process that keeps a vault's root key.

mod clocked;
mod sealing;
mod stage;
mod vending;

use std::path::Path;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T> = Result<T, Failure>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let measured = match words[..] {
        ["cipher"] => sealing::cipher()?,
        ["vault", folder] => sealing::vault(Path::new(folder)).await?,
        ["vend", folder, host] => vending::alone(Path::new(folder), host).await?,
        ["crowd", folder] => vending::crowd(Path::new(folder)).await?,
        ["rotating", folder] => vending::rotating(Path::new(folder)).await?,
        ["registry"] => return serve().await,
        [stage::KEEP] => return Ok(vault::keep_root_key()?),
        _ => return Err("usage: credential_speed PART [FOLDER [HOST]]".into()),
    };
    println!("{measured}");
    Ok(())
}

async fn serve() -> Outcome<()> {
    let registry = stage::registry().await;
    println!("{}", registry.host());
    std::future::pending().await
}
