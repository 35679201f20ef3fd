//! Copying bytes between a socket outside and one inside a container's network.
//!
//! One listener forwards to one address. What it holds is bounded; it ends, with every connection,
//! when it is dropped. The container sees the machine as the client.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::port::{PortMap, Protocol};

/// Connections, or senders of datagrams, of one port at once; more have to wait or are not heard.
const MAX_CONNECTIONS: usize = 1024;

/// How long a program inside may take to accept; its machine is this one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long after a failed accept, which means that descriptors ran out, to try again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a sender of datagrams is remembered after the last answer.
const DATAGRAM_IDLE: Duration = Duration::from_mins(1);

/// Datagrams of one sender that wait to be passed on.
const DATAGRAM_QUEUE: usize = 64;

/// The largest datagram.
const DATAGRAM_BYTES: usize = 65_536;

/// One listener that forwards until it is dropped.
#[derive(Debug)]
pub(super) struct Forwarder {
    port: Option<PortMap>,
    task: JoinHandle<()>,
}

impl Forwarder {
    /// Listens outside for a container's port.
    pub(super) async fn publish(mut port: PortMap, target: SocketAddr) -> io::Result<Self> {
        let task = match port.protocol {
            Protocol::Tcp => {
                let listener = listen(port, TcpListener::bind).await?;
                port.host_port = listener.local_addr()?.port();
                tokio::spawn(forward_streams(listener, target))
            }
            Protocol::Udp => {
                let socket = listen(port, UdpSocket::bind).await?;
                port.host_port = socket.local_addr()?.port();
                tokio::spawn(forward_datagrams(socket, target))
            }
        };
        Ok(Self {
            port: Some(port),
            task,
        })
    }

    /// Forwards from sockets that listen inside to a server outside.
    pub(super) fn relay(
        (stream, datagram): (std::net::TcpListener, std::net::UdpSocket),
        target: SocketAddr,
    ) -> io::Result<[Self; 2]> {
        stream.set_nonblocking(true)?;
        datagram.set_nonblocking(true)?;
        let streams = forward_streams(TcpListener::from_std(stream)?, target);
        let datagrams = forward_datagrams(UdpSocket::from_std(datagram)?, target);
        Ok([tokio::spawn(streams), tokio::spawn(datagrams)].map(|task| Self { port: None, task }))
    }

    /// The published port, the host's filled in.
    pub(super) fn port(&self) -> Option<PortMap> {
        self.port
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Binds where the port says; without an address to every one, IPv6 included where there is any.
async fn listen<T, F>(port: PortMap, bind: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let on = |address: IpAddr| SocketAddr::new(address, port.host_port);
    if let Some(address) = port.host_address {
        return bind(on(address)).await;
    }
    match bind(on(Ipv6Addr::UNSPECIFIED.into())).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            bind(on(Ipv4Addr::UNSPECIFIED.into())).await
        }
        other => other,
    }
}

async fn forward_streams(listener: TcpListener, target: SocketAddr) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        let slot = slot.expect("the semaphore is never closed");
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        connections.spawn(async move {
            let ended = forward_stream(client, target).await;
            if let Err(error) = ended {
                tracing::debug!(%target, %error, "a forwarded connection ended");
            }
            drop(slot);
        });
    }
}

async fn forward_stream(mut client: TcpStream, target: SocketAddr) -> io::Result<()> {
    let connect = TcpStream::connect(target);
    let mut server = tokio::time::timeout(CONNECT_TIMEOUT, connect).await??;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn forward_datagrams(socket: UdpSocket, target: SocketAddr) {
    let socket = Arc::new(socket);
    let mut senders: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        // Errors are answers to what was sent before, such as an unreachable port.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        while tasks.try_join_next().is_some() {}
        senders.retain(|_, queue| !queue.is_closed());
        if senders.len() >= MAX_CONNECTIONS && !senders.contains_key(&client) {
            continue;
        }
        let queue = senders.entry(client).or_insert_with(|| {
            let (queue, waiting) = mpsc::channel(DATAGRAM_QUEUE);
            tasks.spawn(forward_sender(Arc::clone(&socket), client, target, waiting));
            queue
        });
        // A full queue drops, as networks do.
        let _ = queue.try_send(buffer[..length].to_vec());
    }
}

/// Passes on what one sender sends and what comes back, until both are idle.
async fn forward_sender(
    outside: Arc<UdpSocket>,
    client: SocketAddr,
    target: SocketAddr,
    mut waiting: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let inside = UdpSocket::bind((any, 0)).await?;
    inside.connect(target).await?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let next = async {
            tokio::select! {
                message = waiting.recv() => match message {
                    Some(message) => inside.send(&message).await.map(|_| true),
                    None => Ok(false),
                },
                received = inside.recv(&mut buffer) => {
                    outside.send_to(&buffer[..received?], client).await.map(|_| true)
                }
            }
        };
        match tokio::time::timeout(DATAGRAM_IDLE, next).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn port(protocol: Protocol) -> PortMap {
        PortMap {
            host_address: Some(Ipv4Addr::LOCALHOST.into()),
            host_port: 0,
            container_port: 1,
            protocol,
        }
    }

    #[tokio::test]
    async fn streams_are_forwarded_both_ways_and_half_closed() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let target = server.local_addr().expect("an address");
        let forwarder = Forwarder::publish(port(Protocol::Tcp), target)
            .await
            .expect("published");
        let outside = forwarder.port().expect("a port").host_port;
        let echo = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.expect("a client");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.expect("a request");
            stream.write_all(&all).await.expect("an answer");
        });
        let client = TcpStream::connect(("127.0.0.1", outside)).await;
        let mut client = client.expect("a connection");
        client.write_all(b"hello").await.expect("a request");
        client.shutdown().await.expect("half closed");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        assert_eq!(answer, "hello");
        echo.await.expect("the server");
    }

    #[tokio::test]
    async fn datagrams_find_their_way_back() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let target = server.local_addr().expect("an address");
        let forwarder = Forwarder::publish(port(Protocol::Udp), target)
            .await
            .expect("published");
        let outside = forwarder.port().expect("a port").host_port;
        let mut buffer = [0; 16];
        for text in ["one", "two"] {
            let client = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            client
                .connect(("127.0.0.1", outside))
                .await
                .expect("connected");
            client.send(text.as_bytes()).await.expect("sent");
            let (length, from) = server.recv_from(&mut buffer).await.expect("a request");
            assert_eq!(&buffer[..length], text.as_bytes());
            server.send_to(b"back", from).await.expect("answered");
            let length = client.recv(&mut buffer).await.expect("an answer");
            assert_eq!(&buffer[..length], b"back");
        }
    }

    #[tokio::test]
    async fn a_dropped_forwarder_listens_no_more() {
        let target = "127.0.0.1:9".parse().expect("an address");
        let forwarder = Forwarder::publish(port(Protocol::Tcp), target)
            .await
            .expect("published");
        let outside = forwarder.port().expect("a port").host_port;
        drop(forwarder);
        // The task ends when it is next looked at; then the port is free again.
        while TcpListener::bind(("127.0.0.1", outside)).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
