//! A server that sends given bytes, whatever it is asked.

use std::time::Duration;

use dial::{AddressPolicy, DialPolicy, Dialer, HttpClient, Limits, Reach, TlsProfile, Url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Sends `reply` to each connection that has asked something, then waits for ever when `hold`.
pub(crate) async fn server(reply: Vec<u8>, hold: bool) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let reply = reply.clone();
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await;
                let _ = stream.write_all(&reply).await;
                let _ = stream.flush().await;
                if hold {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    Url::parse(&format!("http://{address}/")).expect("a URL")
}

/// Sends `start`, then `again` for as long as somebody reads, with a pause before each.
pub(crate) async fn endless(start: &'static str, again: &'static str, pause: Duration) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut asked = [0; 4096];
        let _ = stream.read(&mut asked).await;
        let mut written = stream.write_all(start.as_bytes()).await;
        while written.is_ok() {
            tokio::time::sleep(pause).await;
            written = stream.write_all(again.as_bytes()).await;
        }
    });
    Url::parse(&format!("http://{address}/")).expect("a URL")
}

/// A client that may reach this machine.
pub(crate) fn local() -> HttpClient {
    client(DialPolicy::default(), Reach::Loopback)
}

/// The same with other limits.
pub(crate) fn limited(limits: Limits) -> HttpClient {
    client(
        DialPolicy {
            limits,
            ..DialPolicy::default()
        },
        Reach::Loopback,
    )
}

/// Long enough to be told from no time at all.
pub(crate) const SHORT: Duration = Duration::from_millis(100);

pub(crate) fn client(policy: DialPolicy, reach: Reach) -> HttpClient {
    let tls = TlsProfile {
        plain_http: true,
        ..TlsProfile::default()
    };
    Dialer::new(policy)
        .client(&tls, &AddressPolicy { reach })
        .expect("a client")
}
