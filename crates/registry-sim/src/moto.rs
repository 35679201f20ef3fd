//! `moto`, the stand-in for AWS that many hold their programs against, in a process of its own.
//! `cargo xtask setup` installs it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use crate::authority::Authority;

/// As `cargo xtask setup` names it.
const ENVIRONMENT: &str = "moto-5.2.5";

/// The running server. Dropping it ends it, and so does the end of the thread that started it.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    url: String,
    /// Reads what it logs, since a pipe that is full would hold it up.
    reader: Option<JoinHandle<()>>,
    /// Where its certificate is, and that of its authority.
    folder: Option<TempDir>,
}

/// Where files are kept by name, as in S3.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// The service's URL.
    pub endpoint: String,
    /// The bucket's name.
    pub name: String,
}

impl Moto {
    /// On this address, without TLS.
    pub fn start(address: IpAddr) -> Self {
        Self::serve(address, None)
    }

    /// On this machine alone, with a certificate of this authority.
    pub fn start_tls(authority: &Authority) -> Self {
        Self::serve(IpAddr::from([127, 0, 0, 1]), Some(authority))
    }

    fn serve(address: IpAddr, authority: Option<&Authority>) -> Self {
        // Told to die with the test's thread, so that a test which is killed leaves none behind.
        let mut command = Command::new("setpriv");
        command
            .arg("--pdeathsig=KILL")
            .args([programs().join("python"), programs().join("moto_server")])
            .args(["-H", &address.to_string(), "-p", "0"]);
        let folder = authority.map(|authority| {
            let folder = TempDir::new().expect("a temporary directory");
            let path = |name: &str| folder.path().join(name);
            let pem = authority.server_pem();
            std::fs::write(path("certificate"), pem.certificate).expect("a file");
            std::fs::write(path("key"), pem.key).expect("a file");
            std::fs::write(path("authority"), authority.pem()).expect("a file");
            let files = ["-c".into(), path("certificate"), "-k".into(), path("key")];
            command.arg("-s").args(files);
            folder
        });
        let mut child = command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("a piped stderr"));
        let url = listening_on(&mut stderr);
        let drain = move || drop(io::copy(&mut stderr, &mut io::sink()));
        Self {
            child,
            url,
            reader: Some(thread::spawn(drain)),
            folder,
        }
    }

    /// Host and port.
    pub fn host(&self) -> &str {
        let (_, host) = self.url.split_once("://").expect("a URL");
        host
    }

    /// Has AWS's own client for Python ask its KMS: `call` is an expression over `kms`, and the
    /// answer what it prints as.
    pub fn kms(&self, call: &str) -> String {
        let script = format!(
            "import boto3, sys\n\
             kms = boto3.client('kms', region_name='eu-west-1', endpoint_url=sys.argv[1],\n\
                 verify=sys.argv[2], aws_access_key_id='AKID', aws_secret_access_key='secret')\n\
             print({call})"
        );
        let folder = self.folder.as_ref().expect("its KMS is asked in TLS");
        let asked = Command::new(programs().join("python"))
            .args(["-c", &script, &self.url])
            .arg(folder.path().join("authority"))
            .env_clear()
            .output()
            .expect("python starts");
        let error = String::from_utf8_lossy(&asked.stderr);
        assert!(asked.status.success(), "{call}: {error}");
        let answer = String::from_utf8(asked.stdout).expect("text");
        answer.trim().to_owned()
    }

    /// A new key of its KMS: its ARN.
    pub fn new_kms_key(&self) -> String {
        self.kms("kms.create_key()['KeyMetadata']['Arn']")
    }

    /// A new, empty bucket.
    pub fn bucket(&self, name: &str) -> Bucket {
        let host = self.host();
        let mut stream = TcpStream::connect(host).expect("it listens");
        let request = format!(
            "PUT /{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Bucket {
            endpoint: self.url.clone(),
            name: name.to_owned(),
        }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn programs() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    let target = own.ancestors().nth(3).expect("target/<profile>/deps");
    let programs = target.join("python").join(ENVIRONMENT).join("bin");
    assert!(programs.exists(), "{ENVIRONMENT}: run `cargo xtask setup`");
    programs
}

/// The URL in its line ` * Running on https://127.0.0.1:5000`.
fn listening_on(stderr: &mut BufReader<ChildStderr>) -> String {
    let mut log = String::new();
    loop {
        let before = log.len();
        let read = stderr.read_line(&mut log).expect("a line");
        assert_ne!(read, 0, "moto did not listen; its log:\n{log}");
        if let Some((_, url)) = log[before..].split_once("Running on ") {
            return url.trim().to_owned();
        }
    }
}
