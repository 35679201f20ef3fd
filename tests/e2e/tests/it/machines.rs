//! Two machines that reach each other and nothing else: network namespaces.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where the first machine is, seen from the second one.
pub(crate) const CONTROL: [u8; 4] = [10, 77, 0, 1];

/// The thread that made them is on the first one until they are dropped, and so is what it starts.
pub(crate) struct Machines {
    control: Machine,
    node: Machine,
    before: File,
}

impl Machines {
    pub(crate) fn enter() -> Self {
        let control = Machine::start();
        let node = Machine::start();
        let before = File::open("/proc/thread-self/ns/net").expect("a namespace");
        let machines = Self {
            control,
            node,
            before,
        };
        let peer = machines.node.child.id().to_string();
        machines.node.enter();
        ip(&["link", "set", "lo", "up"]);
        machines.control.enter();
        ip(&["link", "set", "lo", "up"]);
        ip(&[
            "link", "add", "node", "type", "veth", "peer", "control", "netns", &peer,
        ]);
        ip(&["address", "add", "10.77.0.1/24", "dev", "node"]);
        ip(&["link", "set", "node", "up"]);
        machines.on_node(|| {
            ip(&["address", "add", "10.77.0.2/24", "dev", "control"]);
            ip(&["link", "set", "control", "up"]);
        });
        machines
    }

    /// What this starts is on the second machine.
    pub(crate) fn on_node<T>(&self, act: impl FnOnce() -> T) -> T {
        self.node.enter();
        let result = act();
        self.control.enter();
        result
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        enter(&self.before);
    }
}

/// A namespace, kept by a process in it.
struct Machine {
    child: Child,
    namespace: File,
}

impl Machine {
    fn start() -> Self {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig=KILL", "unshare", "--net"])
            .args(["sh", "-c", "echo there; exec sleep infinity"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut said = String::new();
        output.read_line(&mut said).expect("a line");
        assert_eq!(said, "there\n", "root may make a network namespace");
        let namespace = File::open(format!("/proc/{}/ns/net", child.id())).expect("it runs");
        Self { child, namespace }
    }

    fn enter(&self) {
        enter(&self.namespace);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it ends");
    }
}

fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter a namespace");
}

fn ip(words: &[&str]) {
    let status = Command::new("ip").args(words).status().expect("ip starts");
    assert!(status.success(), "ip {words:?}: {status}");
}
