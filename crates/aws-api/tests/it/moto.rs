//! A `moto` server over TLS, which `cargo xtask setup` installs.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use registry_sim::Authority;

/// As `cargo xtask setup` names it.
const ENVIRONMENT: &str = "moto-5.2.5";

/// The running server. Dropping it ends it.
pub(crate) struct Moto {
    child: Child,
    pub(crate) host: String,
    /// It logs there, and would fail if nobody could read it.
    _stderr: BufReader<ChildStderr>,
}

impl Moto {
    /// With a certificate of this authority.
    pub(crate) fn start(authority: &Authority) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| folder.path().join(name);
        let pem = authority.server_pem();
        std::fs::write(path("certificate"), pem.certificate).expect("a file");
        std::fs::write(path("key"), pem.key).expect("a file");
        // Told to die with the test's thread, so that a test which is killed leaves none behind.
        let mut child = Command::new("setpriv")
            .arg("--pdeathsig=KILL")
            .args([programs().join("python"), programs().join("moto_server")])
            .args(["-H", "127.0.0.1", "-p", "0", "-s"])
            .args(["-c".into(), path("certificate"), "-k".into(), path("key")])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("a piped stderr"));
        let host = listening_on(&mut stderr);
        Self {
            child,
            host,
            _stderr: stderr,
        }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn programs() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    let target = own.ancestors().nth(3).expect("target/<profile>/deps");
    let programs = target.join("python").join(ENVIRONMENT).join("bin");
    assert!(programs.exists(), "{ENVIRONMENT}: run `cargo xtask setup`");
    programs
}

/// The address in its line ` * Running on https://127.0.0.1:5000`.
fn listening_on(stderr: &mut BufReader<ChildStderr>) -> String {
    let mut log = String::new();
    loop {
        let before = log.len();
        let read = stderr.read_line(&mut log).expect("a line");
        assert_ne!(read, 0, "moto did not listen; its log:\n{log}");
        if let Some((_, host)) = log[before..].split_once("Running on https://") {
            return host.trim().to_owned();
        }
    }
}
