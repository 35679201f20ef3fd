//! SIGKILL of the command, of each of its children and of its process group, at any moment of each
//! stage. Afterwards everything is as if the command had not been given, or had been given whole.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::scene::{Scene, remove};
use crate::support::{PASSWORD, Random, USER, has_ended, until};

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Command,
    Group,
    Child(&'static str),
}

use Victim::{Child as ChildOf, Command, Group};

const INDEXER: Victim = ChildOf("layer-indexer");
const SERVER: Victim = ChildOf("mount-server");

/// Kills `victim` at a random moment; of children, after there is one. False when the command had
/// ended before.
fn kill(scene: &Scene, child: &mut Child, victim: Victim, moment: Duration) -> bool {
    let command = Pid::from_child(child);
    let begun = Instant::now();
    let is_over = |child: &mut Child| child.try_wait().expect("it is ours").is_some();
    let role = match victim {
        Command | Group => None,
        ChildOf(role) => Some(role),
    };
    let find = || -> Vec<Pid> {
        let all = scene.home().processes().into_iter();
        all.filter(|(_, found)| role == Some(found.as_str()))
            .map(|(pid, _)| pid)
            .collect()
    };
    while role.is_some() && find().is_empty() && !is_over(child) {
        std::thread::yield_now();
    }
    let from = if role.is_some() {
        Instant::now()
    } else {
        begun
    };
    while from.elapsed() < moment && !is_over(child) {
        std::thread::sleep(Duration::from_micros(200));
    }
    if is_over(child) {
        return false;
    }
    match victim {
        Command => kill_process(command, Signal::KILL).is_ok(),
        Group => kill_process_group(command, Signal::KILL).is_ok(),
        ChildOf(_) => {
            let killed = find()
                .into_iter()
                .map(|pid| kill_process(pid, Signal::KILL).is_ok());
            killed.fold(false, |any, this| any | this)
        }
    }
}

/// One stage of a user's work.
struct Case<'a> {
    name: &'a str,
    words: Vec<&'a str>,
    input: &'a str,
    victims: &'a [Victim],
    /// Of each victim.
    kills: u32,
    /// Brings about what the stage begins with.
    before: &'a dyn Fn(),
    /// The next command, and what it shows.
    after: &'a dyn Fn(&str),
}

/// Runs the stage once in peace, which tells how long it takes, and then kills it.
fn check(scene: &Scene, random: &mut Random, case: &Case<'_>) {
    let begun = Instant::now();
    (case.before)();
    let calm = Instant::now();
    let status = scene
        .start(&case.words, case.input)
        .wait()
        .expect("it is ours");
    assert!(status.success(), "{} in peace: {status}", case.name);
    let takes = calm.elapsed();
    for victim in case.victims {
        let mut killed = 0;
        for number in 0..case.kills {
            (case.before)();
            let moment = random.moment(takes);
            let what = format!("{} {victim:?} killed after {moment:?}", case.name);
            let mut child = scene.start(&case.words, case.input);
            // The first of each is sure to meet its victim alive.
            let moment = if number == 0 { Duration::ZERO } else { moment };
            killed += u32::from(kill(scene, &mut child, *victim, moment));
            until(&format!("{what}: the command"), || has_ended(&child));
            child.wait().expect("it is ours");
            scene.nothing_runs(&what);
            (case.after)(&what);
        }
        assert!(killed > 0, "{}: no {victim:?} was killed", case.name);
    }
    println!(
        "{}: {takes:?} in peace, all {:?}",
        case.name,
        begun.elapsed()
    );
}

#[test]
fn credentials_survive_being_killed() {
    let scene = Scene::new();
    let (home, scope) = (scene.home(), scene.stage.scope());
    let random = &mut Random::new();
    let fresh = || {
        remove(&home.data_dir());
        remove(&home.root_key());
    };
    let logs_in = |_: &str| {
        scene.log_in();
        home.run(&["vault", "verify"]).ok();
        let listed = home.run(&["credentials", "list", "--json"]).ok().json();
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
        assert!(super::scene::half_made(home).is_empty());
    };
    let is_sound = |_: &str| {
        home.run(&["vault", "verify"]).ok();
        home.run(&["image", "inspect", scene.image()]).ok();
    };
    let login = vec!["login", &scope, "--username", USER, "--password-stdin"];
    let case = |name, words, before, after| Case {
        name,
        words,
        input: PASSWORD,
        victims: &[Command, Group],
        kills: 6,
        before,
        after,
    };
    let nothing = || {};
    check(
        &scene,
        random,
        &case("first login", login.clone(), &fresh, &logs_in),
    );
    logs_in("");
    check(
        &scene,
        random,
        &case("login again", login, &nothing, &is_sound),
    );
    let rotate = vec!["credentials", "rotate", &scope, "--password-stdin"];
    check(&scene, random, &case("rotate", rotate, &nothing, &is_sound));
    let rotate_key = vec!["vault", "rotate-key"];
    check(
        &scene,
        random,
        &case("rotate the root key", rotate_key, &nothing, &is_sound),
    );
}

#[test]
fn images_survive_being_killed() {
    let scene = Scene::logged_in();
    let random = &mut Random::new();
    let digests = scene.digests();
    let run: Vec<&str> = digests.iter().map(String::as_str).collect();
    let mended = |what: &str| scene.is_mended(what);
    let case = |name, words, victims, before| Case {
        name,
        words,
        input: "",
        victims,
        kills: 3,
        before,
        after: &mended,
    };
    let forget_image = || scene.forget_image();
    let forget_cache = || scene.forget_cache();
    let nothing = || {};
    let index = vec!["image", "index", scene.image()];
    check(
        &scene,
        random,
        &case("index", index, &[Command, INDEXER, Group], &forget_image),
    );
    let victims = &[Command, SERVER, Group];
    check(
        &scene,
        random,
        &case("fetch", run.clone(), victims, &forget_cache),
    );
    check(&scene, random, &case("run", run, victims, &nothing));
    let warm = || drop(scene.home().run(&["image", "warm", scene.image()]).ok());
    let prune = vec!["cache", "prune", "--all"];
    check(&scene, random, &case("evict", prune, &[Command], &warm));
}
