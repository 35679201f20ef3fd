//! A gateway of the real binary.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use e2e::Home;
use registry_sim::Authority;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What starts a gateway without a worker of its own, on ports that are free.
pub(crate) const WITHOUT_WORKER: [&str; 5] = [
    "gateway",
    "--workers",
    "127.0.0.1:0",
    "--listen",
    "127.0.0.1:0",
];

/// A free address to which every client speaks without TLS: beta9 0.1.245 speaks it to all ports
/// that end in 443.
fn plain_address() -> String {
    loop {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("bound").to_string();
        if !address.ends_with("443") {
            return address;
        }
    }
}

/// A gateway that answers, until it is dropped.
pub(crate) struct Serving {
    child: Child,
    pub(crate) listening: Value,
}

impl Serving {
    pub(crate) fn start(home: &Home) -> Self {
        Self::start_at(home, &plain_address())
    }

    pub(crate) fn start_at(home: &Home, address: &str) -> Self {
        Self::start_as(home, &["serve", "--listen", address])
    }

    /// One that workers come to, and that has none of its own.
    pub(crate) fn start_without_worker(home: &Home) -> Self {
        Self::start_as(home, &WITHOUT_WORKER)
    }

    /// The same, where other machines reach it.
    pub(crate) fn start_with_workers_at(home: &Home, address: &str) -> Self {
        let words = ["gateway", "--listen", "127.0.0.1:0", "--workers", address];
        Self::start_as(home, &words)
    }

    /// One that shows callers a certificate of this authority, which is written to `ca.pem`.
    pub(crate) fn start_in_tls(home: &Home, authority: &Authority, address: &str) -> Self {
        Self::start_shown(home, authority, &["serve", "--listen", address])
    }

    /// One without a worker that issues identity tokens as this issuer, and publishes its keys.
    pub(crate) fn start_as_issuer(home: &Home, authority: &Authority, url: &str) -> Self {
        let words = [&WITHOUT_WORKER[..], &["--issuer-url", url]].concat();
        Self::start_shown(home, authority, &words)
    }

    fn start_shown(home: &Home, authority: &Authority, words: &[&str]) -> Self {
        let pem = authority.server_pem();
        let file = |name: &str, text: &str| {
            let path = home.path().join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
            path.to_str().expect("UTF-8").to_owned()
        };
        file("ca.pem", authority.pem());
        let certificate = file("chain.pem", &pem.certificate);
        let key = file("key.pem", &pem.key);
        let tls = ["--tls-cert", &certificate, "--tls-key", &key];
        Self::start_as(home, &[words, &tls].concat())
    }

    fn start_as(home: &Home, words: &[&str]) -> Self {
        let words = [&["--json"], words].concat();
        let mut child = home
            .command(&words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut text = String::new();
        for line in output.lines() {
            let line = line.expect("UTF-8");
            text.push_str(&line);
            if line == "}" {
                break;
            }
        }
        let listening = serde_json::from_str(&text).expect("one object");
        Self { child, listening }
    }

    /// What the gateway answers to this token.
    pub(crate) fn get(&self, path: &str, token: &str) -> (u16, Value) {
        let address = self.address();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Connection: close\r\n\r\n"
        );
        self.answer_to(&request)
    }

    fn answer_to(&self, request: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address()).expect("it listens");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status");
        let value = serde_json::from_str(body).unwrap_or(Value::Null);
        (status.parse().expect("a number"), value)
    }

    /// The same for what asks for an image.
    pub(crate) fn post(&self, path: &str, token: &str, image: &str) -> (u16, Value) {
        let address = self.address();
        let body = serde_json::json!({ "image": image }).to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        self.answer_to(&request)
    }

    /// The token that the first start made.
    pub(crate) fn first_token(&self) -> String {
        let file = self.listening["token_file"].as_str().expect("a file");
        let token = std::fs::read_to_string(file).expect("reads");
        token.trim().to_owned()
    }

    pub(crate) fn gateway(&self) -> &str {
        self.listening["gateway"].as_str().expect("a URL")
    }

    pub(crate) fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        self.listening["address"].as_str().expect("an address")
    }

    /// Where workers come to.
    pub(crate) fn workers(&self) -> &str {
        self.listening["workers"].as_str().expect("an address")
    }

    /// Ends it as a machine that fails does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Ends it as an operator does.
    pub(crate) fn end(mut self) {
        kill_process(self.process(), Signal::TERM).expect("it runs");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
