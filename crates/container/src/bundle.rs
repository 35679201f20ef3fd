//! Everything that the runtime needs on disk before it can start a container: the root, what is
//! mounted into it, and the configuration.
//!
//! All of it blocks, on disk and on the image behind the root, and is called from a thread that
//! may.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::cgroup::{Cgroups, UnsupportedLimit};
use crate::config::{Parts, config};
use crate::executable::{self, ExecutableError};
use crate::id_range::{IDS_PER_RANGE, IdRange};
use crate::inside::{Made, Root};
use crate::network::NetworkFacts;
use crate::process::ProcessError;
use crate::rootfs::{self, RootfsError};
use crate::run_dir::Layout;
use crate::spec::{ContainerSpec, NetworkMode, Resources};
use crate::user::{ResolvedUser, UserError};

/// Larger files of users than this are refused; a real one with a thousand users is 60 KiB.
const MAX_ACCOUNT_FILE_BYTES: u64 = 4 << 20;

/// The longest host name that the kernel takes.
const MAX_HOSTNAME_BYTES: usize = 63;

/// The runtime's own process begins inside the limit, and threads count: Go makes four to ten of
/// them as it pleases. Where they find no room, starts fail now and then and say something else.
const MIN_PIDS: u32 = 16;

/// Why there is nothing to start.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The root cannot be made.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The image does not know the user.
    #[error(transparent)]
    User(#[from] UserError),
    /// The process cannot be described.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The program cannot be started.
    #[error(transparent)]
    Executable(#[from] ExecutableError),
    /// A limit would not hold.
    #[error(transparent)]
    Limit(#[from] UnsupportedLimit),
    /// A number of processors that makes no sense.
    #[error("a limit of {0} processors is not a positive number")]
    Cpus(f64),
    /// Fewer processes than starting one takes.
    #[error("a limit of {0} processes leaves no room to start one: at least {MIN_PIDS}")]
    Pids(u32),
    /// Not one of the container's.
    #[error("user or group id {0} is beyond the {IDS_PER_RANGE} ids of the container")]
    UnmappedId(u32),
    /// Not usable as a host name.
    #[error("host name `{0}` is not letters, digits, dots and dashes, at most 63")]
    Hostname(String),
    /// The disk said no.
    #[error("cannot write the container's bundle")]
    Write(#[source] io::Error),
}

/// Mounts the root and writes the bundle.
pub(crate) fn prepare(
    spec: &ContainerSpec,
    dir: &Layout,
    network: &NetworkFacts,
    console: Option<(u16, u16)>,
) -> Result<(), BundleError> {
    check_hostname(&spec.hostname)?;
    let cgroups = check_limits(&spec.resources)?;
    let root = rootfs::mount_overlay(dir, &spec.lower)?;
    rootfs::check_mountpoints(&root)?;
    let mut spec = spec.clone();
    spec.volumes = rootfs::prepare_volumes(&root, &spec.volumes)?;
    rootfs::show_owners(dir, &mut spec.volumes)?;
    let user = resolve_user(&root, &spec)?;
    check_ids(dir.ids, &user)?;
    rootfs::create_working_dir(&root, &spec.process.cwd, &spec.volumes)?;
    executable::check(&root, &spec.process, &spec.volumes)?;
    let files = write_files(&root, dir, &spec, network)?;
    let users = dir.users();
    let parts = Parts {
        spec: &spec,
        user: &user,
        users: users.as_deref().zip(dir.ids),
        root: &dir.rootfs(),
        cgroups: &cgroups,
        network_namespace: network.namespace.as_deref(),
        files: &files,
        open_files_ceiling: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
        console,
    };
    let text = config(&parts).to_string();
    fs::write(dir.path.join("config.json"), text).map_err(BundleError::Write)
}

/// The runtime would be refused ids that are not mapped, without saying which.
fn check_ids(range: Option<IdRange>, user: &ResolvedUser) -> Result<(), BundleError> {
    if range.is_none() {
        return Ok(());
    }
    let ids = [user.uid, user.gid].into_iter();
    let mut ids = ids.chain(user.additional_gids.iter().copied());
    match ids.find(|id| *id >= IDS_PER_RANGE) {
        Some(id) => Err(BundleError::UnmappedId(id)),
        None => Ok(()),
    }
}

/// Refuses limits that this machine would not hold, before anything is made.
pub fn check_limits(limits: &Resources) -> Result<Cgroups, BundleError> {
    let cgroups = Cgroups::detect().map_err(BundleError::Write)?;
    cgroups.check(limits)?;
    let is_nonsense = |cpus: &f64| !cpus.is_finite() || *cpus <= 0.0;
    let mut asked = [limits.cpus, limits.reserved_cpus].into_iter().flatten();
    if let Some(cpus) = asked.find(is_nonsense) {
        return Err(BundleError::Cpus(cpus));
    }
    match limits.pids {
        Some(pids) if pids < MIN_PIDS => Err(BundleError::Pids(pids)),
        _ => Ok(cgroups),
    }
}

fn check_hostname(name: &str) -> Result<(), BundleError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let good = !name.is_empty() && name.len() <= MAX_HOSTNAME_BYTES && name.bytes().all(plain);
    if good {
        Ok(())
    } else {
        Err(BundleError::Hostname(name.escape_debug().to_string()))
    }
}

fn resolve_user(root: &Root, spec: &ContainerSpec) -> Result<ResolvedUser, BundleError> {
    let read = |path: &'static str| {
        let bytes = root.read(Path::new(path), MAX_ACCOUNT_FILE_BYTES);
        let bytes = bytes.map_err(|source| RootfsError::ImageFile { path, source })?;
        Ok::<_, BundleError>(bytes.unwrap_or_default())
    };
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    Ok(spec.process.user.resolve(&passwd, &group)?)
}

/// Writes the files that name the container and its neighbours, where no volume takes their place.
fn write_files(
    root: &Root,
    dir: &Layout,
    spec: &ContainerSpec,
    network: &NetworkFacts,
) -> Result<Vec<(&'static str, String)>, BundleError> {
    let wanted = [
        ("/etc/hostname", format!("{}\n", spec.hostname)),
        ("/etc/hosts", hosts(spec, network)),
        ("/etc/resolv.conf", network.resolv_conf.clone()),
    ];
    let mut files = Vec::new();
    for (target, text) in wanted {
        if rootfs::is_hidden(Path::new(target), &spec.volumes) {
            continue;
        }
        rootfs::create_target(root, Path::new(target), Made::File)?;
        let path = dir.path.join(target.trim_start_matches('/'));
        fs::write(&path, text).map_err(BundleError::Write)?;
        dir.give(&path).map_err(BundleError::Write)?;
        files.push((target, path.to_string_lossy().into_owned()));
    }
    Ok(files)
}

fn hosts(spec: &ContainerSpec, network: &NetworkFacts) -> String {
    if network.mode == NetworkMode::Host
        && let Ok(text) = fs::read_to_string("/etc/hosts")
    {
        return text;
    }
    let own = match network.address {
        Some(address) => address.to_string(),
        None => String::from("127.0.0.1"),
    };
    format!(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n\
         {own}\t{}\n",
        spec.hostname
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames() {
        for good in ["a", "web-1", "a.b", &"x".repeat(63)] {
            assert!(check_hostname(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\n127.0.0.1 evil", "ä", &"x".repeat(64)] {
            assert!(check_hostname(bad).is_err(), "{bad}");
        }
    }
}
