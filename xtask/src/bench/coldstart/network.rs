//! Two network namespaces and the shaped link between them: a client's side and a server's.
//!
//! Each namespace belongs to a process that dies with this one, and with it go its devices: nothing
//! has a name that could stay behind. Programs enter by `nsenter`, never by `ip netns exec`, which
//! mounts another `/sys` and so loses the cgroups.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::shaper::{self, Shape, Shaper};
use crate::entry::Entry;
use crate::process::{self, Service};

/// A subnet of two for the link, of the private ranges.
const CLIENT: &str = "10.83.17.1/30";
const SERVER: &str = "10.83.17.2/30";
const SERVER_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 83, 17, 2));
const PORT: u16 = 5000;

const STARTING: Duration = Duration::from_secs(10);
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// A running link. Fields drop in order: the namespaces go last.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) shape: Shape,
    pub(super) shaper: Shaper,
    pub(super) client: Namespace,
    pub(super) server: Namespace,
}

impl Network {
    pub(super) fn start(shape: Shape) -> Result<Self> {
        let (client, server) = (Namespace::start()?, Namespace::start()?);
        let own = std::process::id();
        let devices = [
            (&client, format!("hfc{own}"), CLIENT),
            (&server, format!("hfs{own}"), SERVER),
        ];
        let mut ends = Vec::new();
        for (namespace, name, address) in devices {
            ends.push(shaper::device(&name)?);
            namespace.take(&name, address)?;
        }
        let (Some(server_end), Some(client_end)) = (ends.pop(), ends.pop()) else {
            bail!("a link has two ends");
        };
        let shaper = Shaper::start(client_end, server_end, shape)?;
        Ok(Self {
            shape,
            shaper,
            client,
            server,
        })
    }

    /// Where the registry listens.
    pub(super) fn registry_socket() -> SocketAddr {
        SocketAddr::new(SERVER_ADDRESS, PORT)
    }
}

/// A network namespace, for as long as this lives.
#[derive(Debug)]
pub(super) struct Namespace {
    holder: Service,
}

impl Namespace {
    fn start() -> Result<Self> {
        let words = ["--pdeathsig=KILL", "unshare", "--net", "sleep", "infinity"];
        let holder = Service::start(&mut process::command("setpriv", &words))?;
        let namespace = Self { holder };
        let own = fs::read_link("/proc/self/ns/net")?;
        let begin = Instant::now();
        while fs::read_link(namespace.path()).is_ok_and(|other| other == own) {
            if begin.elapsed() > STARTING {
                bail!("no network namespace was made");
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        namespace.run("ip", &["link", "set", "lo", "up"])?;
        // What one contender's connections found out must not help or hurt the next one's.
        namespace.run("sysctl", &["-q", "-w", "net.ipv4.tcp_no_metrics_save=1"])?;
        Ok(namespace)
    }

    /// The file that names it.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// How a program enters it.
    pub(super) fn entry(&self) -> Entry {
        Entry::new([
            "nsenter".to_owned(),
            format!("--net={}", self.path()),
            "--".to_owned(),
        ])
    }

    fn take(&self, device: &str, address: &str) -> Result<()> {
        let own = self.holder.id().to_string();
        let words = ["link", "set", "dev", device, "netns", &own];
        process::capture(&mut process::command("ip", &words))?;
        self.run("ip", &["address", "add", address, "dev", device])?;
        let quiet = format!("net.ipv6.conf.{device}.disable_ipv6=1");
        self.run("sysctl", &["-q", "-w", &quiet])?;
        self.run("ip", &["link", "set", device, "mtu", "1500", "up"])
    }

    fn run(&self, program: &str, words: &[&str]) -> Result<()> {
        let mut command = self.entry().command(program);
        process::capture(command.args(words))
            .map(drop)
            .context("cannot set up a network namespace")
    }
}
