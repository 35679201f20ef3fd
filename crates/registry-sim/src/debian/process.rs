//! The process of a `docker-registry`: started, waited for until it listens, ended by its pid.
//!
//! A thread of its own starts the process and reads what it writes until it ends. The process is
//! told to die with that thread, so that a test which is killed leaves none behind.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long it may take until it listens. It takes 50 ms on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Lines of its log that are kept.
const KEPT_LINES: usize = 40;

pub(super) struct RegistryProcess {
    child: Arc<Mutex<Child>>,
    address: SocketAddr,
    log: Log,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>);

/// What the thread reports while the process starts.
enum News {
    Started(Arc<Mutex<Child>>),
    Listening(SocketAddr),
}

impl RegistryProcess {
    pub(super) fn start(config: &Path) -> Self {
        let log = Log::default();
        let (sender, news) = mpsc::channel();
        let reader = {
            let (config, log) = (config.to_owned(), log.clone());
            thread::spawn(move || run(&config, &log, &sender))
        };
        let next = |what: &str| {
            news.recv_timeout(START_LIMIT).unwrap_or_else(|_| {
                panic!("docker-registry did not {what}; its log:\n{}", log.text())
            })
        };
        let News::Started(child) = next("start") else {
            panic!("news out of order")
        };
        let News::Listening(address) = next("listen") else {
            panic!("news out of order")
        };
        Self {
            child,
            address,
            log,
            reader: Some(reader),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn pid(&self) -> u32 {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.id()
    }

    pub(super) fn log_tail(&self) -> String {
        self.log.text()
    }
}

impl Drop for RegistryProcess {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have ended by itself; then there is nothing left to end.
        let _ = child.kill();
        let _ = child.wait();
        drop(child);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl std::fmt::Debug for RegistryProcess {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RegistryProcess")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Log {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

fn run(config: &Path, log: &Log, news: &Sender<News>) {
    let mut child = spawn(config);
    let stderr = child.stderr.take().expect("a piped stderr");
    // Nobody listens any more when starting has failed: then the sends have no effect.
    let _ = news.send(News::Started(Arc::new(Mutex::new(child))));
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Some(address) = listening_on(&line) {
            let _ = news.send(News::Listening(address));
        }
        log.push(line);
    }
}

fn spawn(config: &Path) -> Child {
    let program = find("docker-registry");
    Command::new("setpriv")
        .arg("--pdeathsig=KILL")
        .arg(program)
        .arg("serve")
        .arg(config)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start setpriv ({error}): run `cargo xtask setup`"))
}

/// The program, or a panic that says how to get it.
fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/bin"), PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run `cargo xtask setup`"))
}

/// The address in its line `msg="listening on 127.0.0.1:5000"`, with `, tls` behind it for TLS.
fn listening_on(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on ")?;
    rest.split(['"', ',', ' ']).next()?.parse().ok()
}
