//! A proxy that connects the names of hosts in the world to hosts of this process.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Heads of requests are read up to this.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// `host:port` as it is asked for, and the `host:port` that answers.
type Lines = Arc<HashMap<String, String>>;

/// The running proxy. Dropping it ends it.
#[derive(Debug)]
pub struct Switchboard {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Switchboard {
    /// Connects each name, at the port of https, to a host of this process.
    pub async fn start(lines: &[(&str, &str)]) -> Self {
        let lines = lines.iter();
        let lines = lines.map(|(name, host)| (format!("{name}:443"), (*host).to_owned()));
        let lines: Lines = Arc::new(lines.collect());
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .expect("a free loopback port");
        let address = listener.local_addr().expect("a bound address");
        let task = tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                tokio::spawn(connect(caller, Arc::clone(&lines)));
            }
        });
        Self { address, task }
    }

    /// As it stands in `HTTPS_PROXY`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Switchboard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(mut caller: TcpStream, lines: Lines) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD_BYTES {
        head.push(caller.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let asked = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next());
    let Some(host) = asked.and_then(|name| lines.get(name)) else {
        return caller
            .write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            .await;
    };
    let mut callee = TcpStream::connect(host).await?;
    caller.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
    copy_bidirectional(&mut caller, &mut callee).await?;
    Ok(())
}
