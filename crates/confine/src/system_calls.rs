//! The system calls that are left, by seccomp.
//!
//! What is not listed fails with EPERM, as containers' lists do it, so that a C library which
//! tries something newer first goes on with what it has. `clone3` alone says ENOSYS: its flags
//! cannot be looked at, and the C library then takes `clone`, whose flags can.

use std::collections::BTreeMap;
use std::error::Error;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::ConfineError;

/// Which list a process gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemCalls {
    /// Threads, memory, and reading and writing what is open.
    Compute,
    /// The same; opening files for reading; and being the client of network services.
    NetworkClient,
}

/// Calls that are allowed whatever their arguments are.
const COMPUTE: &[c_long] = &[
    // What is open.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_close,
    libc::SYS_ppoll,
    // Memory; mapping and protecting have rules of their own.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
];

const NETWORK_CLIENT: &[c_long] = &[
    // Files that Landlock and permissions leave: name service and certificates.
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    // Connections, from our side.
    libc::SYS_connect,
    libc::SYS_socketpair,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    // The event loop.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    // What the C library asks about the process itself.
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
];

/// Older calls that newer architectures never had.
#[cfg(target_arch = "x86_64")]
const NETWORK_CLIENT_BEFORE: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
];
#[cfg(not(target_arch = "x86_64"))]
const NETWORK_CLIENT_BEFORE: &[c_long] = &[];

#[cfg(target_arch = "x86_64")]
const COMPUTE_BEFORE: &[c_long] = &[libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const COMPUTE_BEFORE: &[c_long] = &[];

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Puts the list in force for this thread and those that it starts.
pub(crate) fn restrict(list: SystemCalls) -> Result<(), ConfineError> {
    let install = || -> Result<(), Box<dyn Error + Send + Sync>> {
        // The list lets it pass, and the stricter of two filters wins.
        let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
        apply(clone3, refused(libc::ENOSYS), SeccompAction::Allow)?;
        // Last, since it leaves no way to install another.
        apply(rules(list)?, SeccompAction::Allow, refused(libc::EPERM))
    };
    install().map_err(ConfineError::SystemCalls)
}

fn apply(
    rules: Rules,
    listed: SeccompAction,
    others: SeccompAction,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, others, listed, architecture)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

fn refused(error: i32) -> SeccompAction {
    SeccompAction::Errno(error.unsigned_abs())
}

fn rules(list: SystemCalls) -> Result<Rules, seccompiler::BackendError> {
    let plain = |calls: &[c_long]| {
        calls
            .iter()
            .map(|call| (*call, Vec::new()))
            .collect::<Vec<_>>()
    };
    let mut rules = Rules::from_iter([plain(COMPUTE), plain(COMPUTE_BEFORE)].concat());
    rules.insert(libc::SYS_clone, vec![a_thread()?]);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![not_executable()?]);
    }
    rules.insert(libc::SYS_prctl, vec![only(0, libc::PR_SET_NAME)?]);
    // Limits can be read, and are set already.
    let no_new_limit = SeccompCondition::new(2, QWORD, SeccompCmpOp::Eq, 0)?;
    rules.insert(
        libc::SYS_prlimit64,
        vec![SeccompRule::new(vec![no_new_limit])?],
    );
    // Refused by the filter before this one.
    rules.insert(libc::SYS_clone3, Vec::new());
    if list == SystemCalls::NetworkClient {
        rules.extend([plain(NETWORK_CLIENT), plain(NETWORK_CLIENT_BEFORE)].concat());
        let families = [libc::AF_INET, libc::AF_INET6].map(|family| only(0, family));
        rules.insert(
            libc::SYS_socket,
            families.into_iter().collect::<Result<_, _>>()?,
        );
        let requests = [FIONBIO, FIONREAD].map(|request| only(1, request));
        rules.insert(
            libc::SYS_ioctl,
            requests.into_iter().collect::<Result<_, _>>()?,
        );
    }
    Ok(rules)
}

const QWORD: SeccompCmpArgLen = SeccompCmpArgLen::Qword;

/// Requests that the runtime makes of its sockets.
const FIONBIO: i32 = 0x5421;
const FIONREAD: i32 = 0x541b;

fn only(argument: u8, value: i32) -> Result<SeccompRule, seccompiler::BackendError> {
    let value = u64::from(value.unsigned_abs());
    let condition =
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?;
    SeccompRule::new(vec![condition])
}

/// A new thread of this process: no new process and no new namespace.
fn a_thread() -> Result<SeccompRule, seccompiler::BackendError> {
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let looked_at = u64::from(namespaces.unsigned_abs()) | thread;
    let flags = SeccompCondition::new(0, QWORD, SeccompCmpOp::MaskedEq(looked_at), thread)?;
    SeccompRule::new(vec![flags])
}

/// Memory that code cannot be written to and run from.
fn not_executable() -> Result<SeccompRule, seccompiler::BackendError> {
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    let protection = SeccompCondition::new(2, QWORD, SeccompCmpOp::MaskedEq(executable), 0)?;
    SeccompRule::new(vec![protection])
}
