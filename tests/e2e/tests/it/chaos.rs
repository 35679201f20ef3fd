//! Calls that go on while every kind of process under them is killed at random: each ends once, and
//! what its caller was told is what is on record.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use e2e::Home;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::functions::Stage;
use crate::serving::Serving;
use crate::support::{Random, has_ended, until_within};

const CALLS: usize = 500;
/// Between two kills: from while things still start to when all is calm again.
const LONGEST_PAUSE: Duration = Duration::from_millis(1500);
/// How long it may take until a call ends, after whatever was killed, on a busy machine: a caller
/// would wait as long.
const CALM_WITHIN: Duration = Duration::from_mins(3);
/// So many of each role must have died, or the calls went too fast for this to be a test.
const LEAST_KILLS: u32 = 3;
const RETRIES: u64 = 3;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    Gateway,
    Keeper,
    Worker,
    Mount,
    /// The runner or what it started: all that runs in a container.
    Container,
}

const ROLES: [Role; 5] = [
    Role::Gateway,
    Role::Keeper,
    Role::Worker,
    Role::Mount,
    Role::Container,
];

impl Role {
    fn processes(self, home: &Home) -> Vec<Pid> {
        let name = match self {
            Self::Gateway => unreachable!("it is started again, not only killed"),
            Self::Keeper => "key-keeper",
            Self::Worker => "worker-server",
            Self::Mount => "mount-server",
            Self::Container => return in_containers(home),
        };
        let all = home.processes().into_iter();
        all.filter(|(_, role)| role == name)
            .map(|(pid, _)| pid)
            .collect()
    }
}

/// What our processes have started that is no process of ours.
fn in_containers(home: &Home) -> Vec<Pid> {
    let own: HashSet<Pid> = home.processes().into_iter().map(|(pid, _)| pid).collect();
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let parents: HashMap<Pid, Pid> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((Pid::from_raw(pid)?, parent(pid)?)))
        .collect();
    let is_below = |mut pid: Pid| {
        while let Some(parent) = parents.get(&pid) {
            if own.contains(parent) {
                return true;
            }
            pid = *parent;
        }
        false
    };
    let all = parents.keys().copied();
    all.filter(|pid| !own.contains(pid) && is_below(*pid))
        .collect()
}

fn parent(pid: i32) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    Pid::from_raw(after_name.split(' ').nth(1)?.parse().ok()?)
}

/// Kills one of the role; answers whether there was one.
fn kill_one(stage: &mut Stage, random: &mut Random, role: Role) -> bool {
    if role == Role::Gateway {
        stage.serve_again(Serving::kill);
        return true;
    }
    let found = role.processes(&stage.home);
    let chosen = usize::try_from(random.below(found.len() as u64)).expect("an index");
    found
        .get(chosen)
        .is_some_and(|pid| kill_process(*pid, Signal::KILL).is_ok())
}

/// Kills until the program has ended; answers how often each role was. Every other kill waits for a
/// further call to end, so that there is an end, and the others hit what is still starting.
fn kill_until_it_ends(
    stage: &mut Stage,
    random: &mut Random,
    program: &mut Child,
    stdout: &Path,
) -> HashMap<Role, u32> {
    let mut kills = HashMap::new();
    let mut turn = 0;
    let length = || stdout.metadata().expect("a file").len();
    while !has_ended(program) {
        let seen = length();
        until_within(CALM_WITHIN, "another call", || {
            turn % 2 == 1 || length() > seen || has_ended(program)
        });
        std::thread::sleep(random.moment(LONGEST_PAUSE));
        // Each role in its turn, so that none is left to chance.
        let role = ROLES[turn % ROLES.len()];
        turn += 1;
        if kill_one(stage, random, role) {
            *kills.entry(role).or_default() += 1;
        }
    }
    kills
}

/// All tasks of a function.
fn tasks(stage: &Stage, function: &str) -> Vec<Value> {
    let get = |path: &str| {
        let (status, answer) = stage.serving().get(path, &stage.token);
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let stubs = get("/v1/stubs");
    let mut stubs = stubs["stubs"].as_array().expect("stubs").iter();
    let name = format!("chaos:{function}");
    let stub = stubs.find(|stub| stub["name"] == name.as_str());
    let id = stub.expect("it was called")["id"].as_str().expect("an id");
    let mut all = Vec::new();
    let mut before = String::new();
    loop {
        let page = get(&format!("/v1/tasks?stub={id}&limit=100{before}"));
        all.extend(page["tasks"].as_array().expect("tasks").iter().cloned());
        let Some(next) = page["next"].as_str() else {
            return all;
        };
        before = format!("&before={next}");
    }
}

fn count<'a>(outcomes: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    let mut counts = HashMap::new();
    for outcome in outcomes {
        *counts.entry(outcome).or_default() += 1;
    }
    counts
}

/// What a program said: its calls, and what they printed.
struct Said {
    calls: Vec<Value>,
    /// How often each call was seen to begin: "once 17".
    made: HashMap<String, u32>,
}

impl Said {
    fn read(text: &str) -> Self {
        let mut said = Self {
            calls: Vec::new(),
            made: HashMap::new(),
        };
        for line in text.lines() {
            if let Some(call) = line.strip_prefix("made ") {
                *said.made.entry(call.to_owned()).or_default() += 1;
            } else {
                said.calls.push(serde_json::from_str(line).expect("JSON"));
            }
        }
        said
    }

    /// What callers of a function were told, in the words of the record.
    fn outcomes(&self, function: &str) -> HashMap<&str, usize> {
        let calls = self.calls.iter();
        let own = calls.filter(|call| call["function"] == function);
        count(
            own.map(|call| match call["outcome"].as_str().expect("one") {
                "ContainerDied" => "died",
                "WorkerLost" => "lost",
                "NotStarted" => "not-started",
                other => other,
            }),
        )
    }

    /// What was said of calls that no container came to.
    fn why_not_started(&self) -> HashMap<&str, usize> {
        let calls = self.calls.iter();
        let own = calls.filter(|call| call["outcome"] == "NotStarted");
        count(own.map(|call| call["why"].as_str().expect("a reason")))
    }

    /// How often the call of a function that began most often did.
    fn most_made(&self, function: &str) -> u32 {
        let made = self.made.iter();
        let own = made.filter(|(call, _)| call.starts_with(function));
        own.map(|(_, times)| *times).max().expect("some began")
    }
}

/// Makes calls until the program has ended, and kills meanwhile; answers what it said.
fn call_and_kill(stage: &mut Stage, random: &mut Random) -> (Said, HashMap<Role, u32>) {
    let file = |name: &str| stage.home.path().join(name);
    let (stdout, stderr) = (file("stdout"), file("stderr"));
    let mut program = stage
        .program("chaos.py")
        .arg(CALLS.to_string())
        .stdin(Stdio::null())
        .stdout(File::create(&stdout).expect("a file"))
        .stderr(File::create(&stderr).expect("a file"))
        .spawn()
        .expect("python starts");
    let read = |path: &Path| std::fs::read_to_string(path).expect("text");
    until_within(CALM_WITHIN, "a first call", || !read(&stdout).is_empty());
    let kills = kill_until_it_ends(stage, random, &mut program, &stdout);
    let status = program.wait().expect("it is ours");
    assert!(status.success(), "{}", read(&stderr));
    (Said::read(&read(&stdout)), kills)
}

#[test]
fn each_of_many_calls_ends_once_while_everything_is_killed() {
    let mut stage = Stage::new();
    let (said, kills) = call_and_kill(&mut stage, &mut Random::new());
    println!(
        "killed: {kills:?}, not started: {:?}",
        said.why_not_started()
    );
    // A program that fails because its image was taken from it is not blamed.
    let mut reasons = said.why_not_started().into_keys();
    let blaming = reasons.find(|why| why.contains("ended with") || why.contains("be loaded"));
    assert_eq!(blaming, None);
    let numbers: HashSet<_> = said
        .calls
        .iter()
        .map(|call| call["number"].as_u64())
        .collect();
    assert_eq!((said.calls.len(), numbers.len()), (CALLS, CALLS));
    for (function, retries) in [("once", 0), ("again", RETRIES)] {
        let tasks = tasks(&stage, function);
        assert_eq!(tasks.len(), CALLS / 2, "{function}: a call is one task");
        let on_record = tasks.iter().map(|task| {
            assert_eq!(task["state"], "ended", "{function}: {task}");
            assert!(
                task["attempts"].as_u64() <= Some(1 + retries),
                "{function}: {task}"
            );
            task["end"]["outcome"].as_str().expect("one")
        });
        let (on_record, told) = (count(on_record), said.outcomes(function));
        println!("{function}: {told:?}");
        assert_eq!(on_record, told, "{function}");
        let expected = ["returned", "died", "lost", "not-started"];
        let others = told.keys().find(|outcome| !expected.contains(outcome));
        assert_eq!(others, None, "{function}");
        assert!(
            u64::from(said.most_made(function)) <= 1 + retries,
            "{function}"
        );
    }
    let spared = ROLES
        .iter()
        .find(|role| kills.get(role).copied() < Some(LEAST_KILLS));
    assert_eq!(spared, None, "{kills:?}");
    // What a killed worker had is taken away by the next one, which has to be there for that.
    stage.python(&["greet", "afterwards"]).ok();
    stage.end();
}
