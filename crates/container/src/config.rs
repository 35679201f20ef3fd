//! The OCI runtime configuration of a container, as one pure function of its parts.
//!
//! Isolation is docker's default: the same namespaces, mounts, hidden paths, capabilities and
//! system calls, and beyond it no new privileges and a user namespace.

use std::path::Path;

use serde_json::{Value, json};

use crate::capabilities;
use crate::cgroup::Cgroups;
use crate::id_range::{IDS_PER_RANGE, IdRange};
use crate::process::variable;
use crate::seccomp;
use crate::spec::{ContainerSpec, NetworkMode};
use crate::user::ResolvedUser;

/// The oldest specification that has what is used here; older runtimes refuse a newer number.
const OCI_VERSION: &str = "1.0.2";

/// Open files at once: programs that loop over all descriptors choke on more.
const OPEN_FILES_SOFT: u64 = 65_536;

/// What a program may raise that to: the kernel's default ceiling.
const OPEN_FILES_HARD: u64 = 1 << 20;

/// Microseconds over which processor time is shared out, the kernel's own default.
const CPU_PERIOD_US: u32 = 100_000;

/// Shortest share of a period that the kernel takes.
const CPU_QUOTA_MIN_US: u64 = 1_000;

/// The kernel's measure of who gets how much of the processors: a processor's worth by convention,
/// and its bounds.
const SHARES_OF_ONE: f64 = 1024.0;
const LEAST_SHARES: u64 = 2;
const MOST_SHARES: u64 = 262_144;

/// Files of `/proc` and `/sys` that tell about or reach the machine, hidden.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Files of `/proc` that would change the machine, made read-only.
const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What the configuration is made from.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) spec: &'a ContainerSpec,
    pub(crate) user: &'a ResolvedUser,
    /// A user namespace that exists already, and the ids that are its own.
    pub(crate) users: Option<(&'a Path, IdRange)>,
    /// The mounted root.
    pub(crate) root: &'a Path,
    pub(crate) cgroups: &'a Cgroups,
    /// A network namespace that exists already.
    pub(crate) network_namespace: Option<&'a Path>,
    /// Generated files: name in the container, path on the host.
    pub(crate) files: &'a [(&'static str, String)],
    /// How many open files this process may allow anybody; raising that takes a right of its own.
    pub(crate) open_files_ceiling: u64,
    /// Rows and columns of the terminal, when known.
    pub(crate) console: Option<(u16, u16)>,
}

/// The runtime's configuration of a container.
pub(crate) fn config(parts: &Parts<'_>) -> Value {
    json!({
        "ociVersion": OCI_VERSION,
        "process": process(parts),
        "root": { "path": parts.root, "readonly": false },
        "hostname": parts.spec.hostname,
        "mounts": mounts(parts),
        "linux": {
            "cgroupsPath": Cgroups::path_of(&parts.spec.id),
            "namespaces": namespaces(parts),
            "uidMappings": mappings(parts),
            "gidMappings": mappings(parts),
            "resources": resources(parts),
            "maskedPaths": MASKED_PATHS,
            "readonlyPaths": READONLY_PATHS,
            "rootfsPropagation": "rprivate",
            "seccomp": seccomp::policy(),
        },
    })
}

fn process(parts: &Parts<'_>) -> Value {
    let process = &parts.spec.process;
    let mut env = process.env.clone();
    if variable(&env, "HOME").is_none() {
        env.push(format!("HOME={}", parts.user.home));
    }
    let open_files = parts.open_files_ceiling.min(OPEN_FILES_HARD);
    let open_files_soft = open_files.min(OPEN_FILES_SOFT);
    // Execution by anyone but root would drop these in any case; not giving them first leaves no
    // moment in which they could be used.
    let effective: &[&str] = if parts.user.uid == 0 {
        &capabilities::DEFAULT
    } else {
        &[]
    };
    let mut value = json!({
        "terminal": process.terminal,
        "user": {
            "uid": parts.user.uid,
            "gid": parts.user.gid,
            "additionalGids": parts.user.additional_gids,
        },
        "args": process.args,
        "env": env,
        "cwd": process.cwd,
        "capabilities": {
            "bounding": capabilities::DEFAULT,
            "effective": effective,
            "permitted": effective,
        },
        "rlimits": [
            { "type": "RLIMIT_NOFILE", "hard": open_files, "soft": open_files_soft },
            { "type": "RLIMIT_CORE", "hard": 0, "soft": 0 },
        ],
        "noNewPrivileges": true,
    });
    if let (true, Some((height, width))) = (process.terminal, parts.console) {
        value["consoleSize"] = json!({ "height": height, "width": width });
    }
    value
}

fn namespaces(parts: &Parts<'_>) -> Value {
    let mut list = vec![
        json!({ "type": "pid" }),
        json!({ "type": "mount" }),
        json!({ "type": "ipc" }),
        json!({ "type": "uts" }),
        json!({ "type": "cgroup" }),
    ];
    match (parts.spec.network, parts.network_namespace) {
        (NetworkMode::Host, _) => {}
        (_, Some(path)) => list.push(json!({ "type": "network", "path": path })),
        (_, None) => list.push(json!({ "type": "network" })),
    }
    if let Some((path, _)) = parts.users {
        list.push(json!({ "type": "user", "path": path }));
    }
    Value::Array(list)
}

/// What the user namespace maps already; the runtime wants to know it too.
fn mappings(parts: &Parts<'_>) -> Value {
    let mapping = parts.users.map(
        |(_, range)| json!({ "containerID": 0, "hostID": range.first(), "size": IDS_PER_RANGE }),
    );
    mapping.into_iter().collect()
}

fn mounts(parts: &Parts<'_>) -> Value {
    let shm = format!("size={}", parts.spec.shm_bytes);
    let mut list = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["ro", "nosuid", "noexec", "nodev"],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm],
        ),
    ];
    for (target, source) in parts.files {
        list.push(mount(target, "bind", source, &["bind", "rprivate"]));
    }
    for volume in &parts.spec.volumes {
        // `rro` reaches what is mounted below the source too, which `ro` would leave writable.
        let access = if volume.read_only { "rro" } else { "rw" };
        let source = volume.source.to_string_lossy();
        let target = volume.target.to_string_lossy();
        list.push(mount(
            &target,
            "bind",
            &source,
            &["rbind", "rprivate", access],
        ));
    }
    Value::Array(list)
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": kind, "source": source, "options": options })
}

fn resources(parts: &Parts<'_>) -> Value {
    let limits = &parts.spec.resources;
    let mut value = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    if let Some(bytes) = limits.memory_bytes {
        value["memory"] = json!({ "limit": bytes });
        if parts.cgroups.counts_swap() {
            value["memory"]["swap"] = json!(bytes);
        }
    }
    if let Some(cpus) = limits.cpus {
        value["cpu"] = json!({ "quota": quota_us(cpus), "period": CPU_PERIOD_US });
    }
    if let Some(cpus) = limits.reserved_cpus {
        value["cpu"]["shares"] = json!(shares(cpus));
    }
    if let Some(pids) = limits.pids
        && parts.cgroups.has_controller("pids")
    {
        value["pids"] = json!({ "limit": pids });
    }
    value
}

/// Microseconds of processor time in each period.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and nonsense was refused before"
)]
fn quota_us(cpus: f64) -> u64 {
    ((cpus * f64::from(CPU_PERIOD_US)) as u64).max(CPU_QUOTA_MIN_US)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and nonsense was refused before"
)]
fn shares(cpus: f64) -> u64 {
    ((cpus * SHARES_OF_ONE) as u64).clamp(LEAST_SHARES, MOST_SHARES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;
    use crate::spec::Resources;
    use crate::user::UserSpec;
    use crate::volume::Volume;
    use ids::ContainerId;
    use std::path::PathBuf;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            id: ContainerId::new(),
            lower: PathBuf::from("/lower"),
            process: Process {
                args: vec![String::from("sh")],
                env: vec![String::from("A=1")],
                cwd: String::from("/w"),
                user: UserSpec::default(),
                terminal: false,
                stdin: false,
            },
            volumes: Vec::new(),
            network: NetworkMode::None,
            ports: Vec::new(),
            shm_bytes: 4096,
            resources: Resources {
                pids: None,
                ..Resources::default()
            },
            hostname: String::from("box"),
        }
    }

    fn user(uid: u32) -> ResolvedUser {
        ResolvedUser {
            uid,
            gid: 7,
            additional_gids: vec![7, 8],
            home: String::from("/home/u"),
        }
    }

    /// The configuration on a machine whose cgroups are as the fixture says.
    fn built(spec: &ContainerSpec, uid: u32, namespace: Option<&str>) -> Value {
        let cgroups = Cgroups::fixture(&["memory", "cpu", "pids"], true);
        config(&Parts {
            spec,
            user: &user(uid),
            users: None,
            root: Path::new("/run/x/root"),
            cgroups: &cgroups,
            network_namespace: namespace.map(Path::new),
            files: &[("/etc/hosts", String::from("/run/x/etc/hosts"))],
            open_files_ceiling: 4096,
            console: Some((24, 80)),
        })
    }

    #[test]
    fn the_process() {
        let spec = spec();
        let process = &built(&spec, 1000, None)["process"];
        let expected = json!({ "uid": 1000, "gid": 7, "additionalGids": [7, 8] });
        assert_eq!(process["user"], expected);
        assert_eq!(process["env"], json!(["A=1", "HOME=/home/u"]));
        assert_eq!(
            (&process["cwd"], &process["args"]),
            (&json!("/w"), &json!(["sh"]))
        );
        assert_eq!(process["noNewPrivileges"], true);
        assert_eq!(process["capabilities"]["effective"], json!([]));
        assert_eq!(
            process["capabilities"]["bounding"],
            json!(capabilities::DEFAULT)
        );
        assert_eq!(
            process["rlimits"][0]["hard"], 4096,
            "no more than we may give"
        );
        assert!(process.get("consoleSize").is_none(), "there is no terminal");
        let root = &built(&spec, 0, None)["process"];
        assert_eq!(
            root["capabilities"]["effective"],
            json!(capabilities::DEFAULT)
        );
    }

    #[test]
    fn a_home_that_was_typed_stays_and_a_terminal_has_its_size() {
        let mut spec = spec();
        spec.process.env = vec![String::from("HOME=/typed")];
        spec.process.terminal = true;
        let process = &built(&spec, 0, None)["process"];
        assert_eq!(process["env"], json!(["HOME=/typed"]));
        assert_eq!(process["consoleSize"], json!({ "height": 24, "width": 80 }));
    }

    #[test]
    fn namespaces_by_network() {
        let table = [
            (NetworkMode::None, None, Some(json!({ "type": "network" }))),
            (
                NetworkMode::Nat,
                Some("/run/x/network"),
                Some(json!({ "type": "network", "path": "/run/x/network" })),
            ),
            (NetworkMode::Host, None, None),
        ];
        for (network, namespace, expected) in table {
            let spec = ContainerSpec { network, ..spec() };
            let config = built(&spec, 0, namespace);
            let list = config["linux"]["namespaces"].as_array().expect("a list");
            let kinds: Vec<_> = list.iter().map(|entry| &entry["type"]).collect();
            assert_eq!(kinds[..5], ["pid", "mount", "ipc", "uts", "cgroup"]);
            assert_eq!(list.get(5), expected.as_ref(), "{network:?}");
        }
    }

    #[test]
    fn a_user_namespace_is_joined_with_the_ids_that_it_maps() {
        let spec = spec();
        let plain = &built(&spec, 0, None)["linux"];
        assert_eq!(plain["uidMappings"], json!([]));
        let cgroups = Cgroups::fixture(&[], false);
        let linux = &config(&Parts {
            spec: &spec,
            user: &user(0),
            users: Some((Path::new("/run/x/users"), IdRange::starting_at(1 << 20))),
            root: Path::new("/run/x/root"),
            cgroups: &cgroups,
            network_namespace: None,
            files: &[],
            open_files_ceiling: 4096,
            console: None,
        })["linux"];
        let mapping = json!([{ "containerID": 0, "hostID": 1 << 20, "size": 65_536 }]);
        assert_eq!(
            (&linux["uidMappings"], &linux["gidMappings"]),
            (&mapping, &mapping)
        );
        let users = json!({ "type": "user", "path": "/run/x/users" });
        let list = linux["namespaces"].as_array().expect("a list");
        assert!(list.contains(&users), "{list:?}");
    }

    #[test]
    fn mounts_come_before_files_and_volumes_last() {
        let mut spec = spec();
        for text in ["/a:/b", "/c:/d:ro"] {
            spec.volumes.push(Volume::parse(text).expect("a volume"));
        }
        let config = built(&spec, 0, None);
        let list = config["mounts"].as_array().expect("a list");
        let targets: Vec<_> = list.iter().map(|entry| &entry["destination"]).collect();
        let expected = [
            "/proc",
            "/dev",
            "/dev/pts",
            "/sys",
            "/sys/fs/cgroup",
            "/dev/mqueue",
            "/dev/shm",
            "/etc/hosts",
            "/b",
            "/d",
        ];
        assert_eq!(targets, expected);
        assert_eq!(list[6]["options"][4], "size=4096");
        assert_eq!(list[8]["options"], json!(["rbind", "rprivate", "rw"]));
        assert_eq!(list[9]["options"], json!(["rbind", "rprivate", "rro"]));
    }

    #[test]
    fn limits() {
        let mut spec = spec();
        let devices = json!([{ "allow": false, "access": "rwm" }]);
        assert_eq!(
            built(&spec, 0, None)["linux"]["resources"],
            json!({ "devices": devices })
        );
        spec.resources = Resources {
            memory_bytes: Some(1 << 20),
            cpus: Some(0.5),
            reserved_cpus: Some(0.25),
            pids: Some(9),
        };
        let expected = json!({
            "devices": devices,
            "memory": { "limit": 1 << 20, "swap": 1 << 20 },
            "cpu": { "quota": 50_000, "period": 100_000, "shares": 256 },
            "pids": { "limit": 9 },
        });
        assert_eq!(built(&spec, 0, None)["linux"]["resources"], expected);
        for (cpus, quota) in [(0.000_001, 1000), (1.5, 150_000), (f64::MAX, u64::MAX)] {
            assert_eq!(quota_us(cpus), quota);
        }
        for (cpus, expected) in [(0.000_001, 2), (1.5, 1536), (f64::MAX, 262_144)] {
            assert_eq!(shares(cpus), expected);
        }
    }

    #[test]
    fn what_is_hidden() {
        let spec = spec();
        let linux = &built(&spec, 0, None)["linux"];
        assert_eq!(linux["maskedPaths"], json!(MASKED_PATHS));
        assert_eq!(linux["readonlyPaths"], json!(READONLY_PATHS));
        assert_eq!(linux["cgroupsPath"], format!("/holdfast/{}", spec.id));
        assert_eq!(linux["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    }
}
