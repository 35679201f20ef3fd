//! A data directory and a root key in a temporary place, and the binary run against them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rustix::process::Pid;
use tempfile::TempDir;

/// What a run of the binary left behind.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The run succeeded; anything else shows what it said.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(
            self.code, 0,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }

    /// The run failed with this code and said this on standard error.
    #[track_caller]
    pub fn fails(self, code: i32, says: &str) -> Self {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        assert!(
            self.stderr.contains(says),
            "{says:?} not in stderr: {}",
            self.stderr
        );
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.stdout))
    }
}

/// One user's Holdfast: its own data, its own key.
#[derive(Debug)]
pub struct Home {
    directory: TempDir,
    program: PathBuf,
}

impl Home {
    pub fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "end-to-end tests mount and run containers: run them as root"
        );
        Self {
            directory: TempDir::new().expect("a temporary directory"),
            program: binary().to_owned(),
        }
    }

    /// Runs the binary under a name of this home's, by which its processes are told from others:
    /// those that it starts as hidden roles are started from there too.
    pub fn with_own_program(mut self) -> Self {
        let program = self.path().join("holdfast");
        std::fs::hard_link(binary(), &program)
            .or_else(|_| std::fs::copy(binary(), &program).map(drop))
            .expect("the binary can be copied");
        self.program = program;
        self
    }

    /// The processes of a home with its own program, and what each was started as.
    pub fn processes(&self) -> Vec<(Pid, String)> {
        let entries = std::fs::read_dir("/proc").expect("/proc");
        let process = |entry: std::fs::DirEntry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let program = std::fs::read_link(entry.path().join("exe")).ok()?;
            let words = std::fs::read(entry.path().join("cmdline")).ok()?;
            let role = words.split(|byte| *byte == 0).nth(1).unwrap_or_default();
            let role = String::from_utf8_lossy(role).into_owned();
            (program == self.program).then_some((pid, role))
        };
        entries.flatten().filter_map(process).collect()
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn root_key(&self) -> PathBuf {
        self.path().join("keys/root.key")
    }

    /// Where a test may have a disk whose power it cuts.
    pub fn disk(&self) -> PathBuf {
        self.path().join("disk.d")
    }

    /// Where this home's containers and sockets live.
    pub fn run_dir(&self) -> PathBuf {
        self.path().join("run")
    }

    /// The binary with an environment of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.equipped(Command::new(&self.program), arguments)
    }

    /// The same, as another program starts it, which is told it as its last words.
    pub fn command_by(&self, starter: &[&str], arguments: &[&str]) -> Command {
        let (program, words) = starter.split_first().expect("a program");
        let mut command = Command::new(program);
        command.args(words).arg(&self.program);
        self.equipped(command, arguments)
    }

    fn equipped(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .args(arguments)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOLDFAST_DATA_DIR", self.data_dir())
            .env("HOLDFAST_ROOT_KEY", self.root_key())
            .env("HOLDFAST_RUN_DIR", self.run_dir())
            .current_dir(self.path());
        if self.configuration().exists() {
            command.env("HOLDFAST_CONFIG", self.configuration());
        }
        command
    }

    /// Has the binary configured by this from now on.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.configuration(), text).expect("a file of the home's");
    }

    fn configuration(&self) -> PathBuf {
        self.path().join("configuration.toml")
    }

    /// Runs to the end, with nothing on standard input.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with_input(arguments, "")
    }

    /// Runs to the end, with `input` on standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Finished {
        finish(self.spawn(arguments), input)
    }

    /// Starts with pipes on all three streams.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        spawn(self.command(arguments))
    }

    /// Logs in with a password.
    pub fn login(&self, scope: &str, username: &str, password: &str) -> Finished {
        let words = ["login", scope, "--username", username, "--password-stdin"];
        self.run_with_input(&words, password)
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

/// Starts with pipes on all three streams.
pub fn spawn(mut command: Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// Feeds `input` and waits for the end.
pub fn finish(mut child: Child, input: &str) -> Finished {
    let mut stdin = child.stdin.take().expect("standard input is piped");
    // A program that fails early closes its end; that is for the assertions to judge.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the child is waited for");
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The binary of this tree, built once per test run so that it is never an old one. Where it was
/// built just before, `HOLDFAST_TEST_BINARY` names it.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(built) = std::env::var_os("HOLDFAST_TEST_BINARY") {
            return built.into();
        }
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "holdfast-cli"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo starts");
        assert!(status.success(), "the holdfast binary does not build");
        let test = std::env::current_exe().expect("a test knows its own path");
        let profile = test
            .ancestors()
            .nth(2)
            .expect("target/<profile>/deps/<test>");
        profile.join("holdfast")
    })
}
