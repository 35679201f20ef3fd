//! Debian's docker-registry behind a password that can be changed: on a free loopback port, or in a
//! network namespace at an address of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::image::{PackedImage, TAG};
use crate::entry::Entry;
use crate::process::{self, Service};

/// How often to look for another port when one was taken between looking and using it.
const PORT_TRIES: usize = 5;

/// The file that gets a line for each request.
const REQUESTS: &str = "requests.log";

/// A user name and a password made for this run.
pub(crate) struct Login {
    pub(crate) username: &'static str,
    pub(crate) password: String,
    /// `username:password` in base64, as it stands in a header.
    pub(crate) basic: String,
}

impl Login {
    /// A fresh password from the kernel's randomness.
    pub(crate) fn generate(username: &'static str) -> Result<Self> {
        let mut bytes = [0_u8; 16];
        std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
        let password = format!("{:032x}", u128::from_ne_bytes(bytes));
        let mut encode = process::command("base64", &["--wrap=0"]);
        let pair = format!("{username}:{password}");
        let output = process::output_with_input(&mut encode, pair.as_bytes())?;
        Ok(Self {
            username,
            password,
            basic: String::from_utf8(output.stdout)?,
        })
    }
}

/// A running registry; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    folder: PathBuf,
    socket: SocketAddr,
    entry: Entry,
    service: Option<Service>,
}

impl Registry {
    /// Starts one with its data below `folder`, for one user.
    pub(crate) fn start(folder: &Path, login: &Login) -> Result<Self> {
        let mut last = None;
        for _ in 0..PORT_TRIES {
            let socket = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            match Self::start_at(folder, login, socket, Entry::default()) {
                Ok(registry) => return Ok(registry),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("there was at least one try"))
    }

    /// Starts one at an address that whoever enters there can listen on.
    pub(crate) fn start_at(
        folder: &Path,
        login: &Login,
        socket: SocketAddr,
        entry: Entry,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        write_passwords(folder, login)?;
        let mut registry = Self {
            folder: folder.to_path_buf(),
            socket,
            entry,
            service: None,
        };
        registry.serve()?;
        Ok(registry)
    }

    /// How many requests it has answered, refusals too: a line of its log for each.
    pub(crate) fn requests(&self) -> Result<usize> {
        let log = std::fs::read(self.folder.join(REQUESTS)).context("the registry has no log")?;
        Ok(String::from_utf8_lossy(&log).lines().count())
    }

    /// Its process, while it runs.
    pub(crate) fn process(&self) -> Option<u32> {
        self.service.as_ref().map(Service::id)
    }

    /// Host and port, as it stands in image names.
    pub(crate) fn address(&self) -> String {
        self.socket.to_string()
    }

    /// Replaces the password. The registry is restarted, so that no old answer is remembered.
    pub(crate) fn change_password(&mut self, login: &Login) -> Result<()> {
        self.service = None;
        write_passwords(&self.folder, login)?;
        self.serve()
    }

    /// Pushes the image and returns its name in this registry.
    pub(crate) fn push(&self, image: &PackedImage, login: &Login) -> Result<String> {
        let repository = format!("acme/{}:v1", image.name);
        let name = format!("{}/{repository}", self.address());
        let auth_file = self.auth_file(&self.address(), login)?;
        let mut command = self.entry.command("skopeo");
        command
            .args(["copy", "--quiet"])
            .args(["--dest-tls-verify=false", "--dest-authfile"])
            .arg(auth_file);
        command.arg(format!("oci:{}:{TAG}", image.layout.display()));
        process::capture(command.arg(format!("docker://{name}")))?;
        Ok(name)
    }

    /// A file that tells skopeo the password at `address`, readable by root alone.
    pub(crate) fn auth_file(&self, address: &str, login: &Login) -> Result<PathBuf> {
        let path = self
            .folder
            .join(format!("skopeo-{}.json", address.replace(':', "-")));
        let document = serde_json::json!({"auths": {address: {"auth": login.basic}}});
        write_private(&path, document.to_string().as_bytes())?;
        Ok(path)
    }

    fn serve(&mut self) -> Result<()> {
        let config = self.folder.join("config.yml");
        std::fs::write(&config, self.config())?;
        let mut command = self.entry.command("setpriv");
        command
            .args(["--pdeathsig=KILL", "docker-registry", "serve"])
            .arg(config);
        let requests = self.folder.join(REQUESTS);
        let requests = File::options().create(true).append(true).open(requests)?;
        command.stdout(requests).stderr(Stdio::piped());
        let mut service = Service::start(&mut command)?;
        let errors = service.take_stderr().expect("standard error was asked for");
        wait_until_listening(errors, &self.folder.join("registry.log"))?;
        self.service = Some(service);
        Ok(())
    }

    fn config(&self) -> String {
        let folder = self.folder.display();
        format!(
            "version: 0.1\n\
             log: {{level: info}}\n\
             storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n\
             http: {{addr: '{}', secret: holdfast-lab}}\n\
             auth: {{htpasswd: {{realm: holdfast, path: {folder}/htpasswd}}}}\n",
            self.address()
        )
    }
}

/// Reads the registry's log until it says that it listens; a thread keeps the rest in a file.
fn wait_until_listening(errors: impl std::io::Read + Send + 'static, log: &Path) -> Result<()> {
    let mut file = File::options().create(true).append(true).open(log)?;
    let mut lines = BufReader::new(errors).lines();
    let mut last = String::new();
    for line in lines.by_ref() {
        last = line.context("cannot read the registry's log")?;
        writeln!(file, "{last}")?;
        if last.contains("listening on ") {
            std::thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    if writeln!(file, "{line}").is_err() {
                        break;
                    }
                }
            });
            return Ok(());
        }
    }
    bail!("docker-registry ended at once: {last}")
}

fn write_passwords(folder: &Path, login: &Login) -> Result<()> {
    let mut command = process::command("htpasswd", &["-n", "-i", "-B", login.username]);
    let output = process::output_with_input(&mut command, login.password.as_bytes())?;
    if !output.status.success() {
        bail!(
            "htpasswd failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    write_private(&folder.join("htpasswd"), &output.stdout)
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
        .with_context(|| format!("cannot write {}", path.display()))
}
