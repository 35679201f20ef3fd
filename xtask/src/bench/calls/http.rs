//! As much of HTTP/1.1 as calling takes: one connection that is kept, one request at a time.
//!
//! It exists so that what is measured is the gateway and not a client library. Answers with a
//! length are read, and nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The gateway answers within its own limit of a minute.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// Of an answer: a call that does nothing has a few hundred bytes, a list some thousands.
const ANSWER_LIMIT_BYTES: usize = 1 << 20;

/// No arguments: `{"args":[],"kwargs":{}}` in base64.
const NO_ARGUMENTS: &str = "eyJhcmdzIjpbXSwia3dhcmdzIjp7fX0=";

/// Where a gateway listens, and who asks.
#[derive(Clone, Copy)]
pub(super) struct Address<'a> {
    pub(super) socket: SocketAddr,
    pub(super) token: &'a str,
}

pub(super) struct Connection<'a> {
    stream: BufReader<TcpStream>,
    address: Address<'a>,
}

impl<'a> Connection<'a> {
    pub(super) fn open(address: Address<'a>) -> Result<Self> {
        let stream = TcpStream::connect(address.socket)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            stream: BufReader::new(stream),
            address,
        })
    }

    pub(super) fn get(&mut self, path: &str) -> Result<Value> {
        self.ask("GET", path, "")
    }

    /// An answer that is text.
    pub(super) fn text(&mut self, path: &str) -> Result<String> {
        Ok(String::from_utf8(self.exchange("GET", path, "")?)?)
    }

    pub(super) fn post(&mut self, path: &str) -> Result<Value> {
        self.ask("POST", path, "")
    }

    /// Calls a function, as durably as any other client, and gives the task when it has returned.
    ///
    /// `key` is 32 hexadecimal digits that no other call has.
    pub(super) fn call(&mut self, function: &str, key: u128) -> Result<Value> {
        let body = format!(
            r#"{{"idempotency_key":"{key:032x}","format":"json","payload":"{NO_ARGUMENTS}"}}"#
        );
        let path = format!("/v1/stubs/{function}/tasks?wait_ms=60000");
        let task = self.ask("POST", &path, &body)?;
        if task["end"]["outcome"] != "returned" {
            bail!("a call did not return: {task}");
        }
        Ok(task)
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Value> {
        let answer = self.exchange(method, path, body)?;
        serde_json::from_slice(&answer).context("an answer that is not JSON")
    }

    fn exchange(&mut self, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
        let Address { socket, token } = self.address;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {socket}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let head = self.head()?;
        let mut answer = vec![0; head.length_bytes];
        self.stream.read_exact(&mut answer)?;
        if !matches!(head.status, 200..=299) {
            let text = String::from_utf8_lossy(&answer);
            bail!("{method} {path} was answered with {}: {text}", head.status);
        }
        Ok(answer)
    }

    fn head(&mut self) -> Result<Head> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).unwrap_or_default().parse();
        let mut head = Head {
            status: status.context("an answer without a status")?,
            length_bytes: 0,
        };
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                head.length_bytes = value.trim().parse()?;
            }
        }
        if head.length_bytes == 0 || head.length_bytes > ANSWER_LIMIT_BYTES {
            bail!("an answer of a length that is not expected");
        }
        Ok(head)
    }

    /// A line of the head without its end.
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let limit = ANSWER_LIMIT_BYTES as u64;
        (&mut self.stream).take(limit).read_line(&mut line)?;
        if line.is_empty() {
            bail!("the gateway closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }
}

struct Head {
    status: u16,
    length_bytes: usize,
}
