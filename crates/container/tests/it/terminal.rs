//! Containers with a terminal of their own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::fixture::Place;

/// A terminal with a session of its own in front of a container.
struct Screen {
    master: File,
    slave: OwnedFd,
    child: Child,
    /// Readable when the child has ended.
    ended: OwnedFd,
    seen: String,
}

impl Screen {
    fn start(place: &Place, options: &[&str], command: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let slave = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
        set_size(&master, 24, 80);
        let driver = place.driver(options, command);
        let mut session = Command::new("setsid");
        session
            .arg("--ctty")
            .arg("--wait")
            .arg(driver.get_program())
            .args(driver.get_args());
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = session.stdin(end()).stdout(end()).stderr(end()).spawn();
        let child = child.expect("setsid: apt-get install util-linux");
        let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        Self {
            master: File::from(master),
            child,
            ended,
            slave,
            seen: String::new(),
        }
    }

    /// Reads until something is shown.
    fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        while !self.seen.contains(text) {
            let mut ready = [
                PollFd::new(&self.master, PollFlags::IN),
                PollFd::new(&self.ended, PollFlags::IN),
            ];
            poll(&mut ready, None).unwrap();
            assert!(
                !ready[0].revents().is_empty(),
                "only {:?} was shown",
                self.seen
            );
            let length = self.master.read(&mut buffer).unwrap();
            self.seen
                .push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        self.seen.clear();
    }

    fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    fn is_canonical(&self) -> bool {
        tcgetattr(&self.slave)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON)
    }

    fn wait(mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        assert!(self.is_canonical(), "the terminal was not given back");
        code
    }
}

fn set_size(terminal: impl AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

#[test]
fn a_shell_on_a_terminal() {
    let place = Place::new();
    let script = "test -t 0 && test -t 1 && test -t 2 && echo term $TERM; stty size; \
                  trap 'echo size $(stty size)' WINCH; echo rea''dy; until read line; do :; done; \
                  echo got $line; \
                  exit 5";
    let options = ["terminal=1", "stdin=1"];
    let mut screen = Screen::start(&place, &options, &["sh", "-c", script]);
    screen.wait_for("term xterm\r\n24 80\r\nready\r\n");
    assert!(
        !screen.is_canonical(),
        "our terminal passes keys on as they are"
    );
    set_size(&screen.master, 40, 100);
    screen.wait_for("size 40 100");
    screen.write("hello\r");
    screen.wait_for("got hello");
    assert_eq!(screen.wait(), Some(5));
}

#[test]
fn keys_that_interrupt_reach_the_program() {
    let place = Place::new();
    let script = "trap 'exit 9' INT; echo rea''dy; while :; do sleep 1000 & wait; done";
    let options = ["terminal=1", "stdin=1"];
    let mut screen = Screen::start(&place, &options, &["sh", "-c", script]);
    screen.wait_for("ready");
    screen.write("\x03");
    assert_eq!(screen.wait(), Some(9));
}

#[test]
fn the_terminal_is_given_back_after_a_kill_inside() {
    let place = Place::new();
    let options = ["terminal=1", "stdin=1", "user=app"];
    let script = "echo rea''dy; read x; exec 0<&- 1>&- 2>&-; exit 0";
    let mut screen = Screen::start(&place, &options, &["sh", "-c", script]);
    screen.wait_for("ready");
    screen.write("x\r");
    assert_eq!(screen.wait(), Some(0));
}

#[test]
fn a_terminal_without_input() {
    let place = Place::new();
    let mut screen = Screen::start(
        &place,
        &["terminal=1"],
        &["sh", "-c", "test -t 1 && echo ok"],
    );
    screen.wait_for("ok");
    assert_eq!(screen.wait(), Some(0));
}

#[test]
fn input_from_no_terminal_is_refused() {
    let place = Place::new();
    let ran = place.run(&["terminal=1", "stdin=1"], &["true"]);
    let expected = "a terminal was asked for, but standard input is not one";
    assert_eq!((ran.code, ran.message()), (Some(125), expected));
}

#[test]
fn a_failure_to_start_gives_the_terminal_back() {
    let place = Place::new();
    let screen = Screen::start(&place, &["terminal=1", "stdin=1"], &["nothing"]);
    assert_eq!(screen.wait(), Some(127));
}
