//! What `serve`, `gateway` and `worker` take.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::SignedDuration;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    /// Address and port to listen on for workers on other machines too, who prove by their keys
    /// who they are
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) workers: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    /// Address and port to listen on for workers, who prove by their keys who they are
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) workers: SocketAddr,
}

/// Where programs come to.
#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// Address and port to listen on; localhost is 127.0.0.1
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:7230",
        value_parser = parse_address
    )]
    pub(crate) listen: SocketAddr,
    /// Certificate for callers and what leads to its root (PEM): the port then speaks TLS alone
    #[arg(long, value_name = "FILE", env = "HOLDFAST_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of that certificate (PEM), which only its owner may read
    #[arg(long, value_name = "FILE", env = "HOLDFAST_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Listen beyond this machine without TLS, although tokens and secrets then cross the network
    /// in the clear
    #[arg(long)]
    pub(crate) allow_unencrypted: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerServerArgs {
    /// What the control plane calls it
    #[arg(long)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) limits: WorkerLimits,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Make a token by which one worker may join this gateway, once
    Token {
        /// How long it counts, such as 30m or 2h
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_life)]
        life: Duration,
        /// Write it to a new file that only its owner reads, instead of showing it
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Run functions on this machine for a gateway, until interrupted
    Run(WorkerRunArgs),
    /// List the workers that have joined this gateway
    List,
    /// Give a worker no new containers; those that it has go on
    Drain {
        /// Name or id of the worker
        worker: String,
        /// Give it containers again
        #[arg(long)]
        undo: bool,
    },
    /// Remove a worker: its leases end at once and its containers within seconds, it must join
    /// again, and what it was given is listed with what is to be rotated
    Remove {
        /// Name or id of the worker
        worker: String,
    },
}

/// The first time it joins, by a token from `holdfast worker token`, which is read from standard
/// input. Afterwards it is known by its key.
#[derive(Debug, Args)]
pub(crate) struct WorkerRunArgs {
    /// Where the gateway listens for workers
    #[arg(value_name = "HOST:PORT", value_parser = parse_host_and_port)]
    pub(crate) gateway: String,
    /// Read the token from this file instead; once the worker has joined it counts no more
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// What the worker is called when it joins [default: the name of this host]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Bring the rest of an image into the cache while nothing is read of it, from half a minute
    /// after a start on, or never [default: idle]
    #[arg(long, value_name = "idle|never")]
    pub(crate) fill: Option<String>,
    #[command(flatten)]
    pub(crate) limits: WorkerLimits,
}

/// Without limits the worker takes what the machine has.
#[derive(Debug, Args)]
pub(crate) struct WorkerLimits {
    /// Thousandths of a core that its containers may have together
    #[arg(long)]
    pub(crate) cpu_millicores: Option<u32>,
    /// Memory that its containers may have together
    #[arg(long)]
    pub(crate) memory_bytes: Option<u64>,
}

fn parse_life(text: &str) -> Result<Duration, String> {
    let life: SignedDuration = text.parse().map_err(|_| "such as 30m or 2h".to_owned())?;
    Duration::try_from(life).map_err(|_| "a time to come".to_owned())
}

/// An address and a port. Nobody is asked what a name means, but for the one that everybody knows.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:");
    let address = local.map(|port| format!("127.0.0.1:{port}"));
    let address = address.as_deref().unwrap_or(text).parse();
    address.map_err(|_| "an IP address, or localhost, and a port: 127.0.0.1:7230".to_owned())
}

fn parse_host_and_port(text: &str) -> Result<String, String> {
    let is_usable = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if is_usable {
        Ok(text.to_owned())
    } else {
        Err("a host and a port, such as gateway.example:7231".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_gateways_are_read_or_refused() {
        for (text, seconds) in [("1h", 3600), ("30m", 1800), ("90s", 90)] {
            assert_eq!(parse_life(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "1", "-1h", "soon"] {
            assert!(parse_life(text).is_err(), "{text}");
        }
        for text in ["gateway.example:7231", "10.0.0.1:1", "[::1]:7231"] {
            assert!(parse_host_and_port(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "gateway",
            ":7231",
            "gateway:",
            "gateway:0",
            "gateway:70000",
        ] {
            assert!(parse_host_and_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_name_of_this_machine_is_an_address() {
        let parsed = |text| parse_address(text).map(|address| address.to_string());
        for (text, address) in [
            ("localhost:7230", "127.0.0.1:7230"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:7230", "[::1]:7230"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(address));
        }
        for text in [
            "localhost",
            "localhost:",
            "gateway.example:7230",
            "localhost:70000",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
