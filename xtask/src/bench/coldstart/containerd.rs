//! containerd as a contender: a daemon of its own, with root, state and socket in a folder that is
//! emptied before each turn. It ends with the turn's lane.
//!
//! The login is a header in a file that only root reads, since `ctr` takes a password as an
//! argument or from a terminal; that spares it one refusal.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::network::Network;
use super::turn::{Measured, PageCache, Turn};
use super::{Lab, Task};
use crate::entry::Entry;
use crate::lab::Login;
use crate::process::{self, Service};

const STARTING: Duration = Duration::from_secs(30);
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A running daemon.
pub(super) struct Containerd {
    folder: PathBuf,
    entry: Entry,
    _daemon: Service,
}

impl Containerd {
    /// Starts one that has nothing, below `folder`.
    pub(super) fn start(folder: &Path, entry: Entry, login: &Login) -> Result<Self> {
        empty(folder)?;
        let config = folder.join("config.toml");
        fs::write(&config, configuration(folder))?;
        write_login(folder, login)?;
        let log = fs::File::create(folder.join("log"))?;
        let mut command = entry.command("containerd");
        command.arg("--config").arg(config);
        let daemon = Service::start(command.stdout(log.try_clone()?).stderr(log))?;
        let containerd = Self {
            folder: folder.to_path_buf(),
            entry,
            _daemon: daemon,
        };
        wait_for(&containerd.ctr("ctr", &["version"]), "containerd")?;
        Ok(containerd)
    }

    /// A command of one of its clients.
    pub(super) fn ctr(&self, client: &str, words: &[&str]) -> Command {
        let mut command = self.entry.command(client);
        command.arg("--address").arg(self.folder.join("socket"));
        command.args(words);
        command
    }

    /// Has one of its clients carry an image from or to the registry.
    pub(super) fn transfer(&self, client: &str, words: &[&str], image: &str) -> Result<()> {
        let mut command = self.ctr(client, words);
        command.arg("--hosts-dir").arg(self.folder.join("hosts"));
        process::capture(command.arg(image)).map(drop)
    }
}

/// Pulls everything into overlayfs and runs.
pub(super) fn pull_and_run(lab: &Lab, turn: Turn<'_>, image: &str, task: Task) -> Result<Measured> {
    let containerd = Containerd::start(&lab.folder("containerd"), turn.entry(), &lab.login)?;
    let running = turn.begin(PageCache::Dropped)?;
    let pull = ["images", "pull", "--snapshotter", "overlayfs"];
    containerd.transfer("ctr", &pull, image)?;
    let mut run = containerd.ctr("ctr", &["run", "--rm", "--net-host"]);
    run.args(["--snapshotter", "overlayfs", image, "bench"])
        .args(task.command);
    running.finish(&mut run, task.expected)
}

/// Removes what an earlier turn left in a folder of this bench.
pub(super) fn empty(folder: &Path) -> Result<()> {
    process::run(process::command("rm", &["-rf", "--one-file-system"]).arg(folder))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Asks again until a command succeeds.
fn wait_for(question: &Command, what: &str) -> Result<()> {
    let begin = Instant::now();
    loop {
        let mut again = Command::new(question.get_program());
        again
            .args(question.get_args())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if again.status()?.success() {
            return Ok(());
        }
        if begin.elapsed() > STARTING {
            bail!("{what} does not answer");
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "version = 2\n\
         root = \"{folder}/root\"\n\
         state = \"{folder}/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\n\
         address = \"{folder}/socket\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\n\
         path = \"{folder}/opt\"\n\
         [proxy_plugins.stargz]\n\
         type = \"snapshot\"\n\
         address = \"{folder}/stargz.socket\"\n"
    )
}

fn write_login(folder: &Path, login: &Login) -> Result<()> {
    let host = Network::registry_socket();
    let hosts = folder.join("hosts").join(host.to_string());
    fs::create_dir_all(&hosts)?;
    let text = format!(
        "server = \"http://{host}\"\n\
         [host.\"http://{host}\"]\n\
         capabilities = [\"pull\", \"resolve\", \"push\"]\n\
         [host.\"http://{host}\".header]\n\
         authorization = \"Basic {}\"\n",
        login.basic
    );
    write_private(&hosts.join("hosts.toml"), &text)
}

/// Writes a file that only root reads.
pub(super) fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
