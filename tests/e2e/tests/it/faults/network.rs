//! A network of a test's own, in which packets can be lost: a namespace whose loopback device is as
//! narrow as a link, for the thread that enters it and all that this thread starts.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long the kernel may take to make one, on a busy machine.
const MADE_WITHIN: Duration = Duration::from_secs(30);

/// Some packets of the loopback device, which are long, and what waits before one is dropped.
const QUEUE: [&str; 4] = ["burst", "256kb", "latency", "300ms"];

/// Bytes of a connection that wait for the link: least, at first, most. What the kernel holds by
/// default is a whole small image, which would arrive after whoever sent it was killed.
const SENT_AHEAD: &str = "4096 16384 65536";

/// That a thread is in one, which goes with the last process that is in it.
#[derive(Debug)]
pub(crate) struct Network {
    /// Where the thread was before.
    outside: PathBuf,
}

impl Network {
    /// The calling thread goes in, and never comes out.
    pub(crate) fn enter(rate: &str) -> Self {
        let outside = own_namespace();
        let holder = Holder::start();
        let file = File::open(holder.namespace()).expect("the namespace of a child of ours");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root enters a network namespace");
        fs::write("/proc/sys/net/ipv4/tcp_wmem", SENT_AHEAD).expect("the namespace is the test's");
        run("ip", &["link", "set", "lo", "up"]);
        let words = ["qdisc", "add", "dev", "lo", "root", "tbf", "rate", rate];
        run("tc", &[&words[..], &QUEUE].concat());
        Self { outside }
    }

    /// From now on what is sent is lost, and nobody is told.
    pub(crate) fn lose_everything(&self) {
        self.is_of_the_test();
        nft("add table inet loss\n\
             add chain inet loss all_of_it { type filter hook input priority 0; policy drop; }");
    }

    pub(crate) fn carry_again(&self) {
        self.is_of_the_test();
        nft("delete table inet loss");
    }

    /// Nothing is lost in the network of the machine.
    fn is_of_the_test(&self) {
        assert_ne!(own_namespace(), self.outside);
    }
}

fn own_namespace() -> PathBuf {
    fs::read_link("/proc/thread-self/ns/net").expect("a thread has one")
}

/// A process that has a namespace of its own, until there is somebody else in it.
struct Holder(Child);

impl Holder {
    fn start() -> Self {
        let words = ["--pdeathsig=KILL", "unshare", "--net", "sleep", "infinity"];
        let child = Command::new("setpriv")
            .args(words)
            .stdin(Stdio::null())
            .spawn()
            .expect("setpriv starts: run `cargo xtask setup`");
        let holder = Self(child);
        let own = own_namespace();
        let deadline = Instant::now() + MADE_WITHIN;
        while fs::read_link(holder.namespace()).is_ok_and(|its| its == own) {
            assert!(Instant::now() < deadline, "no network namespace was made");
            std::thread::sleep(Duration::from_millis(5));
        }
        holder
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error}: run `cargo xtask setup`"));
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
}

fn nft(rules: &str) {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft starts: run `cargo xtask setup`");
    let mut stdin = child.stdin.take().expect("piped");
    writeln!(stdin, "{rules}").expect("nft reads");
    drop(stdin);
    let status = child.wait().expect("it is ours");
    assert!(status.success(), "nft {rules:?}: {status}");
}
