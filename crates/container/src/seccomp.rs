//! The system calls that a container may make: docker's default policy, as it comes out for the
//! default capabilities.
//!
//! `seccomp.json` holds the policy in the runtime's own form, written for this project after
//! docker's documentation of its default profile. Everything not listed fails with `EPERM`. What
//! is conditional in the policy and cannot be seen in the list:
//!
//! * `clone` may not make namespaces (its flags are compared under a mask), and `clone3`, whose
//!   flags a filter cannot read, fails with `ENOSYS`, so that programs fall back to `clone`;
//! * `personality` may only be asked, or set to plain Linux with or without short inodes
//!   (`UNAME26`) and the 4 GiB layouts' flag;
//! * `socket` may not open `AF_VSOCK` (40), which would reach the hypervisor past every network
//!   namespace;
//! * the calls of x32, which no program uses and kernels of distributions have switched off, end
//!   the program: to list them too would cost each start 7 ms of the processor, as much as the
//!   calls of 32-bit programs, which there are;
//! * calls behind capabilities that a container never gets (`mount`, `bpf`, `setns`, `reboot`,
//!   `open_by_handle_at`, `kexec_load` …), and `io_uring`, `userfaultfd`, `keyctl` and
//!   `perf_event_open`, are absent.

use serde_json::{Value, json};

const POLICY: &str = include_str!("seccomp.json");

/// The policy for the processor that we run on, as the runtime takes it.
pub(crate) fn policy() -> Value {
    let mut policy: Value = serde_json::from_str(POLICY).expect("the data file is valid");
    policy["architectures"] = architectures(std::env::consts::ARCH);
    policy
}

/// The processor's native calls and those of the older modes that it also runs.
fn architectures(processor: &str) -> Value {
    match processor {
        "aarch64" => json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        _ => json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn allowed() -> BTreeSet<String> {
        let policy = policy();
        let rules = policy["syscalls"].as_array().expect("rules");
        let open = rules
            .iter()
            .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW" && rule.get("args").is_none());
        let names = open.flat_map(|rule| rule["names"].as_array().expect("names"));
        names
            .map(|name| name.as_str().expect("a name").to_owned())
            .collect()
    }

    #[test]
    fn the_default_denies() {
        assert_eq!(policy()["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(policy()["defaultErrnoRet"], 1);
    }

    #[test]
    fn what_programs_need_is_allowed_and_what_escapes_is_not() {
        let allowed = allowed();
        for name in [
            "read", "execve", "openat2", "futex", "statx", "rseq", "chroot", "ptrace",
        ] {
            assert!(allowed.contains(name), "{name}");
        }
        let denied = [
            "mount",
            "umount2",
            "move_mount",
            "fsopen",
            "fsmount",
            "open_tree",
            "pivot_root",
            "setns",
            "unshare",
            "clone",
            "clone3",
            "bpf",
            "perf_event_open",
            "keyctl",
            "add_key",
            "request_key",
            "kexec_load",
            "kexec_file_load",
            "init_module",
            "finit_module",
            "delete_module",
            "reboot",
            "swapon",
            "open_by_handle_at",
            "userfaultfd",
            "io_uring_setup",
            "iopl",
            "ioperm",
            "settimeofday",
            "clock_settime",
            "quotactl",
            "acct",
            "syslog",
            "vhangup",
            "personality",
            "socket",
            "lookup_dcookie",
            "nfsservctl",
            "fanotify_init",
            "pidfd_getfd",
            "process_madvise",
            "kcmp",
            "setdomainname",
            "sethostname",
            "mount_setattr",
            "uselib",
            "ustat",
            "sysfs",
            "vm86",
            "vm86old",
        ];
        for name in denied {
            assert!(!allowed.contains(name), "{name}");
        }
    }

    #[test]
    fn processors() {
        assert_eq!(architectures("aarch64")[0], "SCMP_ARCH_AARCH64");
        let both = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
        assert_eq!(architectures("x86_64"), both, "not x32");
    }
}
