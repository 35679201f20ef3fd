//! Several processes at once, and processes that are killed in the middle of things.
//!
//! A child is this test program again, told by its environment what to do. It prints a line when
//! something has been committed; whatever it printed must be there after it was killed.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use credential::ExposeSecret;
use fastrand::Rng;
use ids::WorkspaceId;
use vault::{Vault, VaultError};

use crate::support::{Setting, name, put, with_each_setting};

with_each_setting!(
    a_kill_leaves_the_old_or_the_new_version,
    a_killed_rotation_leaves_a_key_that_opens,
    processes_make_and_use_one_vault_together,
);

const WORK: &str = "VAULT_TEST_WORK";
const DIRECTORY: &str = "VAULT_TEST_DIRECTORY";
const WORKSPACE: &str = "VAULT_TEST_WORKSPACE";
const SETTING: &str = "VAULT_TEST_SETTING";
const KILLS: usize = 25;

/// The body of a child. As a test of its own it has nothing to do.
#[tokio::test]
async fn child() {
    let Ok(work) = std::env::var(WORK) else {
        return;
    };
    let directory = std::env::var(DIRECTORY).unwrap();
    let workspace: WorkspaceId = std::env::var(WORKSPACE).unwrap().parse().unwrap();
    let setting = std::env::var(SETTING).unwrap();
    let setting = Setting::parse(&setting).unwrap();
    let vault = Vault::open(setting.place(Path::new(&directory)));
    let vault = vault.await.unwrap();
    println!("\nopened");
    match work.as_str() {
        "seal" => loop {
            seal_next(&vault, workspace).await;
        },
        "rotate" => loop {
            vault.rotate_root_key(None, "child").await.unwrap();
            println!("rotated");
        },
        "race" => race(&vault, workspace).await,
        "no-core" => {
            confine::forbid_dumps().unwrap();
            let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
            let dumpable = rustix::process::dumpable_behavior().unwrap();
            println!("core {:?} {:?} {dumpable:?}", limit.current, limit.maximum);
        }
        other => panic!("no work {other}"),
    }
}

/// Seals the next version, whose plaintext says which it is.
async fn seal_next(vault: &Vault, workspace: WorkspaceId) {
    let current = vault.current_version(workspace, &name("a")).await.unwrap();
    let next = current.map_or(1, |current| current.version + 1);
    let sealed = put(vault, workspace, "a", &format!("value {next}"))
        .await
        .unwrap();
    assert_eq!(sealed.version, next, "one writer in this test");
    println!("sealed {next}");
}

async fn race(vault: &Vault, workspace: WorkspaceId) {
    for round in 0..20 {
        put(vault, workspace, "shared", &format!("round {round}"))
            .await
            .unwrap();
        vault
            .open_secret(workspace, &name("shared"), None, "race")
            .await
            .unwrap();
    }
    println!("done");
}

struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(work: &str, directory: &Path, workspace: WorkspaceId) -> Self {
        Self::with(Setting::HERE, work, directory, workspace)
    }

    fn with(setting: Setting, work: &str, directory: &Path, workspace: WorkspaceId) -> Self {
        // Where it is is known before a child makes it: a server of its own would end with it.
        let _made = setting.place(directory);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "crash::child",
                "--nocapture",
                "--test-threads",
                "1",
            ])
            .env(WORK, work)
            .env(DIRECTORY, directory)
            .env(WORKSPACE, workspace.to_string())
            .env(SETTING, setting.word())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads until a line starts like this; answers the rest of it.
    fn wait_for(&mut self, start: &str) -> Option<String> {
        let mut lines = self.lines.by_ref().map_while(Result::ok);
        lines.find_map(|line| line.strip_prefix(start).map(str::to_owned))
    }

    /// Kills it as `kill -9` does, and reads what it had still printed.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.map_while(Result::ok).collect()
    }
}

/// The seed is printed, so that a failure can be had again.
fn random() -> Rng {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    Rng::with_seed(seed)
}

async fn a_kill_leaves_the_old_or_the_new_version(setting: Setting) {
    let directory = tempfile::tempdir().unwrap();
    let workspace = WorkspaceId::new();
    let mut random = random();
    let mut sealed = 0;
    for round in 0..KILLS {
        let mut child = Running::with(setting, "seal", directory.path(), workspace);
        for _ in 0..=random.u64(..3) {
            sealed = child.wait_for("sealed ").unwrap().parse().unwrap();
        }
        // Anywhere within the next sealings; which point it is, is the kill's own affair.
        std::thread::sleep(Duration::from_micros(random.u64(..4000)));
        let rest = child.kill();
        let printed = rest.iter().filter_map(|line| line.strip_prefix("sealed "));
        sealed = printed
            .filter_map(|line| line.parse().ok())
            .max()
            .unwrap_or(sealed);

        let vault = Vault::open(setting.place(directory.path())).await.unwrap();
        let opened = vault
            .open_secret(workspace, &name("a"), None, "t")
            .await
            .unwrap();
        let expected = format!("value {}", opened.version);
        assert_eq!(opened.plaintext.expose_secret(), expected, "round {round}");
        assert!(
            opened.version == sealed || opened.version == sealed + 1,
            "round {round}: version {} after {sealed} was printed",
            opened.version
        );
        let report = vault.verify(None).await.unwrap();
        assert!(report.is_sound(), "round {round}: {report:?}");
        vault.close().await;
    }
}

async fn a_killed_rotation_leaves_a_key_that_opens(setting: Setting) {
    let directory = tempfile::tempdir().unwrap();
    let workspace = WorkspaceId::new();
    let mut random = random();
    let vault = Vault::open(setting.place(directory.path())).await.unwrap();
    put(&vault, workspace, "a", "one").await.unwrap();
    vault.close().await;
    for round in 0..KILLS {
        let mut child = Running::with(setting, "rotate", directory.path(), workspace);
        child.wait_for("rotated").unwrap();
        std::thread::sleep(Duration::from_micros(random.u64(..8000)));
        child.kill();
        let vault = Vault::open(setting.place(directory.path())).await.unwrap();
        let opened = vault
            .open_secret(workspace, &name("a"), None, "t")
            .await
            .unwrap();
        assert_eq!(opened.plaintext.expose_secret(), "one", "round {round}");
        let report = vault.verify(None).await.unwrap();
        assert!(report.is_sound(), "round {round}: {report:?}");
        vault.close().await;
    }
}

/// Processes that make the vault together and then write to it together.
async fn processes_make_and_use_one_vault_together(setting: Setting) {
    let directory = tempfile::tempdir().unwrap();
    let workspace = WorkspaceId::new();
    let children: Vec<_> = (0..4)
        .map(|_| Running::with(setting, "race", directory.path(), workspace))
        .collect();
    for mut child in children {
        assert_eq!(child.wait_for("done").as_deref(), Some(""));
        assert!(child.child.wait().unwrap().success());
    }
    let vault = Vault::open(setting.place(directory.path())).await.unwrap();
    let current = vault
        .current_version(workspace, &name("shared"))
        .await
        .unwrap();
    assert_eq!(current.map(|current| current.version), Some(80));
    let report = vault.verify(None).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    let error = vault
        .open_secret(workspace, &name("shared"), Some(79), "t")
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::Retired { .. }), "{error}");
}

/// In a process of its own: what is forbidden stays so.
#[test]
fn a_process_can_forbid_its_core_dumps() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Running::start("no-core", directory.path(), WorkspaceId::new());
    let told = child.wait_for("core ");
    assert_eq!(told.as_deref(), Some("Some(0) Some(0) NotDumpable"));
    assert!(child.child.wait().unwrap().success());
}
