//! The root key in a process of its own: who has its bytes, and what a kill leaves.

use std::path::Path;
use std::process::Command;

use credential::ExposeSecret;
use ids::WorkspaceId;
use vault::{KeySource, RootKey, Vault, VaultPlace};

use crate::role::{Kill, Moment, Victim};
use crate::support::{Setting, data, files, key_file, name, put};

const WORK: &str = "VAULT_TEST_KEEPER_WORK";
const DIRECTORY: &str = "VAULT_TEST_KEEPER_DIRECTORY";
const WORKSPACE: &str = "VAULT_TEST_KEEPER_WORKSPACE";
const KILL: &str = "VAULT_TEST_KEEPER_KILL";

/// The questions at which a keeper that is killed fails its command: the first, which each further
/// keeper is killed at too, and those that change files.
const CREATE_ERRORS: &[usize] = &[1];
const ROTATE_ERRORS: &[usize] = &[1, 2, 3, 4, 7];

/// The body of a child that opens a vault by a keeper. As a test of its own it has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(work) = std::env::var(WORK) else {
        return;
    };
    let directory = std::env::var_os(DIRECTORY).unwrap();
    let directory = Path::new(&directory);
    let workspace: WorkspaceId = std::env::var(WORKSPACE).unwrap().parse().unwrap();
    let program = match std::env::var(KILL) {
        Ok(kill) => Kill::parse(&kill).unwrap().program(),
        Err(_) => crate::role::program("key_keeper"),
    };
    let place = VaultPlace {
        data: data(directory),
        server: None,
        root_key: RootKey::kept_by(program, &KeySource::File(key_file(directory))),
    };
    let done = async {
        let vault = Vault::open(place).await?;
        match work.as_str() {
            "create" => drop(put(&vault, workspace, "a", "one").await?),
            "rotate" => drop(vault.rotate_root_key(None, "child").await?),
            other => panic!("no work {other}"),
        }
        Ok::<_, vault::VaultError>(())
    };
    match done.await {
        Ok(()) => println!("\nended well"),
        Err(error) => println!("\nended {}", error.kind()),
    }
}

/// How the child said that it ended, if it was there to say it.
fn run_child(work: &str, directory: &Path, workspace: WorkspaceId, kill: Kill) -> Option<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "keeper::child", "--nocapture"])
        .env(WORK, work)
        .env(DIRECTORY, directory)
        .env(WORKSPACE, workspace.to_string())
        .env(KILL, kill.word())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let ended = text.lines().find_map(|line| line.strip_prefix("ended "));
    ended.map(str::to_owned)
}

/// Kills at this question; answers how the child said that it ended.
async fn kill_at(work: &str, kill: Kill) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let workspace = WorkspaceId::new();
    if work == "rotate" {
        let vault = Vault::open(Setting::HERE.place(directory)).await.unwrap();
        put(&vault, workspace, "a", "one").await.unwrap();
        vault.close().await;
    }
    let ended = run_child(work, directory, workspace, kill);
    opens(work, directory, workspace, kill).await;
    ended
}

/// The next process opens the vault, finds what was sealed, and leaves one key.
async fn opens(work: &str, directory: &Path, workspace: WorkspaceId, kill: Kill) {
    let vault = Vault::open(Setting::KEEPER.place(directory)).await;
    let vault = vault.unwrap_or_else(|error| panic!("{kill:?}: {error}"));
    if work == "create" {
        put(&vault, workspace, "a", "one").await.unwrap();
    }
    let opened = vault.open_secret(workspace, &name("a"), None, "t").await;
    let opened = opened.unwrap_or_else(|error| panic!("{kill:?}: {error}"));
    assert_eq!(opened.plaintext.expose_secret(), "one", "{kill:?}");
    let report = vault.verify(None).await.unwrap();
    assert!(report.is_sound(), "{kill:?}: {report:?}");
    let keys = files(key_file(directory).parent().unwrap());
    assert_eq!(keys.len(), 1, "{kill:?}");
}

/// Making a vault asks two questions and the first sealing one; opening asks two and a rotation
/// with one workspace five. What only computes is asked again, of a keeper that is killed at its
/// own question of that number: the first of each is lost for good, and the fourth is killed again
/// when the rotation has been committed and is settled.
#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_killed_at_any_question_is_an_error_at_most_and_the_next_open_works() {
    for (work, questions, errors) in [("create", 3, CREATE_ERRORS), ("rotate", 7, ROTATE_ERRORS)] {
        for moment in [Moment::Asked, Moment::Done] {
            let mut lost = Vec::new();
            for question in 1..=questions {
                let kill = Kill {
                    victim: Victim::Keeper,
                    moment,
                    question,
                };
                match kill_at(work, kill).await.as_deref() {
                    Some("well") => {}
                    Some("keeper") => lost.push(question),
                    ended => panic!("{kill:?}: {ended:?}"),
                }
            }
            assert_eq!(lost, errors, "{work} {moment:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_killed_at_any_question_opens_again() {
    for (work, questions) in [("create", 3), ("rotate", 7)] {
        for moment in [Moment::Asked, Moment::Done] {
            for question in 1..=questions + 1 {
                let kill = Kill {
                    victim: Victim::Vault,
                    moment,
                    question,
                };
                let expected = (question > questions).then(|| "well".to_owned());
                assert_eq!(kill_at(work, kill).await, expected, "{kill:?}");
            }
        }
    }
}
