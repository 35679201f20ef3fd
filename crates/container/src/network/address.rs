//! Which private addresses are in use, on the whole machine.
//!
//! ```text
//! /run/holdfast/network/lock          held while any of this changes
//!                       subnet        the range in use, as long as there is a lease
//!                       last          the address given last, so that none is reused at once
//!                       forwarding    there when the machine did not route before we came
//!                       leases/<id>   one address; its owner holds a lock on it
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ids::ContainerId;
use rustix::fs::{FlockOperation, flock};

use super::NetworkError;

const DIRECTORY: &str = "/run/holdfast/network";
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Ranges to choose from, those first that people use least.
const CANDIDATES: [Subnet; 6] = [
    Subnet::new(Ipv4Addr::new(10, 88, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(10, 89, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(10, 188, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(172, 29, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(172, 30, 0, 0), 16),
    Subnet::new(Ipv4Addr::new(192, 168, 240, 0), 20),
];

/// A range of private addresses. Its first host address is ours in every container's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    base: Ipv4Addr,
    bits: u8,
}

impl Subnet {
    const fn new(base: Ipv4Addr, bits: u8) -> Self {
        Self { base, bits }
    }

    fn mask(self) -> u32 {
        u32::MAX << (32 - u32::from(self.bits))
    }

    /// The address at which containers see their way out.
    pub(super) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + 1)
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.base.to_bits()
    }

    fn overlaps(self, other: Route) -> bool {
        let mask = self.mask() & other.mask;
        self.base.to_bits() & mask == other.destination & mask
    }

    /// The first free address after the one given last.
    fn next_free(self, last: Option<Ipv4Addr>, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let first = self.base.to_bits() + 2;
        let count = !self.mask() - 2;
        let start = last
            .filter(|last| self.contains(*last) && last.to_bits() >= first)
            .map_or(0, |last| last.to_bits() - first + 1);
        (0..count)
            .map(|step| Ipv4Addr::from_bits(first + (start + step) % count))
            .find(|address| !used.contains(address))
    }
}

impl FromStr for Subnet {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError::Subnet(text.to_owned());
        let (base, bits) = text.split_once('/').ok_or_else(error)?;
        let base: Ipv4Addr = base.parse().map_err(|_| error())?;
        let bits: u8 = bits.parse().map_err(|_| error())?;
        if !(8..=28).contains(&bits) {
            return Err(error());
        }
        let subnet = Self { base, bits };
        let masked = Ipv4Addr::from_bits(base.to_bits() & subnet.mask());
        Ok(Self::new(masked, bits))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

/// One container's address; the lock on its file lasts as long as this value.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) id: ContainerId,
    pub(super) address: Ipv4Addr,
    pub(super) subnet: Subnet,
    _file: OwnedFd,
}

/// The right to change any of this.
pub(super) struct NetworkLock {
    directory: PathBuf,
    _file: OwnedFd,
}

/// Whether a container has an address.
pub(super) fn is_leased(id: ContainerId) -> bool {
    lease_path(Path::new(DIRECTORY), &id).exists()
}

fn lease_path(directory: &Path, id: &ContainerId) -> PathBuf {
    directory.join("leases").join(id.to_string())
}

fn failed(error: io::Error) -> NetworkError {
    NetworkError::io(format!("keep track of addresses in {DIRECTORY}"))(error)
}

impl NetworkLock {
    pub(super) fn take() -> Result<Self, NetworkError> {
        Self::take_in(Path::new(DIRECTORY)).map_err(failed)
    }

    fn take_in(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory.join("leases"))?;
        let file = open_for_lock(&directory.join("lock"))?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
        Ok(Self {
            directory: directory.to_owned(),
            _file: file.into(),
        })
    }

    /// Containers whose owner is gone.
    pub(super) fn take_stale(&self) -> Result<Vec<ContainerId>, NetworkError> {
        let mut stale = Vec::new();
        for (id, path) in self.leases().map_err(failed)? {
            let file = open_for_lock(&path).map_err(failed)?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                stale.push(id);
            }
        }
        Ok(stale)
    }

    fn leases(&self) -> io::Result<Vec<(ContainerId, PathBuf)>> {
        let entries = fs::read_dir(self.directory.join("leases"))?;
        let named = entries.flatten().filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            Some((id, entry.path()))
        });
        Ok(named.collect())
    }

    /// Gives a container an address.
    pub(super) fn lease(
        &self,
        id: ContainerId,
        wanted: Option<Subnet>,
    ) -> Result<Lease, NetworkError> {
        let mut used = BTreeSet::new();
        for (_, path) in self.leases().map_err(failed)? {
            used.extend(read_parsed::<Ipv4Addr>(&path));
        }
        let subnet = self.subnet(wanted, used.is_empty())?;
        let last = self.directory.join("last");
        let address = subnet
            .next_free(read_parsed(&last), &used)
            .ok_or(NetworkError::Full(subnet))?;
        fs::write(last, address.to_string()).map_err(failed)?;
        let file = self.write_lease(&id, address).map_err(failed)?;
        Ok(Lease {
            id,
            address,
            subnet,
            _file: file,
        })
    }

    fn write_lease(&self, id: &ContainerId, address: Ipv4Addr) -> io::Result<OwnedFd> {
        let mut file = open_for_lock(&lease_path(&self.directory, id))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        write!(file, "{address}")?;
        Ok(file.into())
    }

    /// The range in use, or a new choice when nobody uses any.
    fn subnet(&self, wanted: Option<Subnet>, unused: bool) -> Result<Subnet, NetworkError> {
        let path = self.directory.join("subnet");
        let current = read_parsed(&path).filter(|_| !unused);
        if let Some(current) = current {
            return Ok(current);
        }
        let routes = fs::read_to_string("/proc/net/route").map_err(failed)?;
        let routes = parse_routes(&routes);
        let chosen = wanted.or_else(|| choose(&CANDIDATES, &routes));
        let chosen = chosen.ok_or(NetworkError::NoSubnet)?;
        fs::write(path, chosen.to_string()).map_err(failed)?;
        Ok(chosen)
    }

    pub(super) fn forget(&self, id: &ContainerId) -> Result<(), NetworkError> {
        match fs::remove_file(lease_path(&self.directory, id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn is_empty(&self) -> Result<bool, NetworkError> {
        Ok(self.leases().map_err(failed)?.is_empty())
    }

    /// Whether the machine routes for others: it did before the first of our containers came.
    pub(super) fn forwards_for_others(&self) -> bool {
        !self.directory.join("forwarding").exists()
    }

    /// Lets the machine route; what it is to route must be decided by `rules` before.
    pub(super) fn enable_forwarding(
        &self,
        rules: impl FnOnce() -> Result<(), NetworkError>,
    ) -> Result<(), NetworkError> {
        let off = fs::read_to_string(IP_FORWARD).map_err(failed)?.trim() == "0";
        let mark = self.directory.join("forwarding");
        if off {
            fs::write(mark, "was off\n").map_err(failed)?;
        } else if mark.exists() && self.leases().map_err(failed)?.len() <= 1 {
            // Left by a crash; since then somebody else has let the machine route.
            fs::remove_file(mark).map_err(failed)?;
        }
        rules()?;
        if off {
            fs::write(IP_FORWARD, "1\n").map_err(NetworkError::io("let this machine route"))?;
        }
        Ok(())
    }

    /// Puts back what was before.
    pub(super) fn restore_forwarding(&self) -> Result<(), NetworkError> {
        if self.forwards_for_others() {
            return Ok(());
        }
        fs::write(IP_FORWARD, "0\n").map_err(NetworkError::io("stop this machine from routing"))?;
        fs::remove_file(self.directory.join("forwarding")).map_err(failed)
    }
}

fn open_for_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
}

fn read_parsed<T: FromStr>(path: &Path) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A range that the machine knows a way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    destination: u32,
    mask: u32,
}

/// Routes of `/proc/net/route`, the default one left out.
fn parse_routes(text: &str) -> Vec<Route> {
    let lines = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let destination = parse_word(fields.nth(1)?)?;
        let mask = parse_word(fields.nth(5)?)?;
        Some(Route { destination, mask })
    });
    lines.filter(|route| route.mask != 0).collect()
}

/// The device of the default route, in the same file.
pub(super) fn default_device(text: &str) -> Option<&str> {
    text.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_default = fields.get(1)? == &"00000000" && fields.get(7)? == &"00000000";
        is_default.then_some(*fields.first()?)
    })
}

/// A word in the kernel's hexadecimal of network byte order.
fn parse_word(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok().map(u32::swap_bytes)
}

fn choose(candidates: &[Subnet], routes: &[Route]) -> Option<Subnet> {
    let free = |subnet: &&Subnet| !routes.iter().any(|route| subnet.overlaps(*route));
    candidates.iter().find(free).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        tun0\t0000580A\t00000000\t0001\t0\t0\t0\t0000FEFF\t0\t0\t0\n\
        short\t1\n";

    #[test]
    fn routes_of_the_machine_are_avoided() {
        let routes = parse_routes(ROUTES);
        assert_eq!(routes.len(), 2);
        // 10.88.0.0/15 covers the first two candidates.
        let chosen = choose(&CANDIDATES, &routes).map(|subnet| subnet.to_string());
        assert_eq!(chosen.as_deref(), Some("10.188.0.0/16"));
        let all = Route {
            destination: 0,
            mask: 0x8000_0000,
        };
        let half = [
            all,
            Route {
                destination: 0x8000_0000,
                ..all
            },
        ];
        assert_eq!(choose(&CANDIDATES, &half), None);
        assert_eq!(default_device(ROUTES), Some("eth0"));
        assert_eq!(default_device("Iface\n"), None);
    }

    #[test]
    fn subnets() {
        let table = [
            ("10.88.0.0/16", Some("10.88.0.0/16")),
            ("10.88.3.4/24", Some("10.88.3.0/24")),
            ("10.0.0.0/7", None),
            ("10.0.0.0/29", None),
            ("10.0.0/16", None),
            ("10.0.0.0", None),
            ("x/16", None),
        ];
        for (text, expected) in table {
            let subnet = text.parse::<Subnet>().ok().map(|subnet| subnet.to_string());
            assert_eq!(subnet.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn addresses_are_reused_late() {
        let subnet: Subnet = "10.1.0.0/28".parse().expect("a subnet");
        let address = |last| Ipv4Addr::new(10, 1, 0, last);
        let used: BTreeSet<_> = [address(2), address(5)].into();
        let next = |last| subnet.next_free(last, &used);
        assert_eq!(next(None), Some(address(3)));
        assert_eq!(next(Some(address(3))), Some(address(4)));
        assert_eq!(next(Some(address(4))), Some(address(6)));
        assert_eq!(next(Some(address(14))), Some(address(3)));
        assert_eq!(next(Some(Ipv4Addr::new(10, 2, 0, 9))), Some(address(3)));
        assert_eq!(next(Some(address(0))), Some(address(3)));
        let all = (2..=14).map(address).collect();
        assert_eq!(subnet.next_free(None, &all), None);
        assert_eq!(subnet.gateway(), address(1));
    }

    #[test]
    fn leases_end_with_their_owner() {
        let top = tempfile::tempdir().expect("a directory");
        let lock = NetworkLock::take_in(top.path()).expect("the lock");
        let (one, two) = (ContainerId::new(), ContainerId::new());
        let wanted = "10.1.0.0/24".parse().ok();
        let first = lock.lease(one, wanted).expect("a lease");
        let second = lock.lease(two, None).expect("a lease");
        assert_eq!(first.address, Ipv4Addr::new(10, 1, 0, 2));
        assert_eq!(second.address, Ipv4Addr::new(10, 1, 0, 3));
        assert_eq!(lock.take_stale().expect("a list"), []);
        drop(first);
        assert_eq!(lock.take_stale().expect("a list"), [one]);
        lock.forget(&one).expect("forgotten");
        lock.forget(&one).expect("once is enough");
        assert!(!lock.is_empty().expect("a list"));
        drop(second);
        lock.forget(&two).expect("forgotten");
        assert!(lock.is_empty().expect("a list"));
    }
}
