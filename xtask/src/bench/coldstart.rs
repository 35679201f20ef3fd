//! `cargo xtask bench coldstart`: from nothing to a command's first output over a long and narrow
//! link, beside pulling and unpacking everything and beside a lazy peer.
//!
//! Parts are links. Each turn has a lane of its own, empty stores and, except for a warm start, no
//! page cache; contenders take turns. A turn on which the shaper or the machine was not fit to
//! measure is void: it counts in no median, unless all turns of a contender are, and then its rows
//! say so. *First* is: nothing is there but the credential. *Cold* is: the indexes are there, the
//! cache is empty. *Traced* is cold where the command has run before. *Warm* is: it has, and the
//! cache has what it read.

mod calibration;
mod containerd;
mod janitor;
mod lane;
mod network;
mod plot;
mod rows;
mod shaper;
mod stargz;
mod turn;

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::calibration::Calibrated;
use self::janitor::Janitor;
use self::lane::Lane;
use self::network::Network;
use self::plot::Phase;
use self::rows::Contender;
use self::shaper::Shape;
use self::stargz::Stargz;
use self::turn::{Measured, PageCache, Turn};
use super::ours::Ours;
use super::peer::Peer;
use super::report::Row;
use super::{Options, Part};
use crate::lab::{self, Login, PackedImage, Registry, Scratch};
use crate::tree;

pub(super) const PARTS: &[Part<Lab>] = &[
    ("200mbit", |lab| measure(lab, "200mbit", shape(200, 20))),
    ("zstd", zstd),
    ("one-layer", one_layer),
    ("many-layers", many_layers),
    ("24mbit", |lab| measure(lab, "24mbit", shape(24, 50))),
    ("800mbit", |lab| measure(lab, "800mbit", shape(800, 10))),
    ("1gbit", |lab| measure(lab, "1gbit", shape(1000, 1))),
    ("capped", |lab| {
        measure(lab, "capped", capped(shape(200, 20)))
    }),
    ("whole", whole),
];

/// What is measured when nobody says which link.
pub(super) const DEFAULT_PART: &str = "200mbit";

/// What a contender runs in the image, and the line that it prints.
#[derive(Debug, Clone, Copy)]
struct Task {
    command: &'static [&'static str],
    expected: &'static str,
}

const IMPORT: Task = Task {
    command: &["python3", "-c", "import numpy; print(numpy.__version__)"],
    expected: "1.26.4",
};

/// Every byte of every file of the image, in the order in which they are found.
const READ_ALL: Task = Task {
    command: &[
        "sh",
        "-c",
        "find / -xdev -type f -exec cat {} + > /dev/null && echo read",
    ],
    expected: "read",
};

/// For those who have everything before they start anything.
const NOTHING: Task = Task {
    command: &["echo", "there"],
    expected: "there",
};

const WAITING: Duration = Duration::from_secs(30);
const LOOK_PAUSE: Duration = Duration::from_millis(20);

const fn shape(megabits_per_second: u64, round_trip_ms: u64) -> Shape {
    Shape {
        bytes_per_second: megabits_per_second * 1_000_000 / 8,
        round_trip: Duration::from_millis(round_trip_ms),
        flow_bytes_per_second: None,
    }
}

/// A link of which one connection gets a fifth, as some blob stores serve.
const fn capped(shape: Shape) -> Shape {
    Shape {
        flow_bytes_per_second: Some(shape.bytes_per_second / 5),
        ..shape
    }
}

/// What all links share. Fields drop in order: the janitor goes last.
pub(super) struct Lab {
    runs: usize,
    login: Login,
    ours: Ours,
    peer: Peer,
    stargz: Stargz,
    plots: Option<PathBuf>,
    lanes: RefCell<usize>,
    scratch: Scratch,
    _janitor: Janitor,
}

/// A link and the registry behind it.
struct Scene {
    network: Network,
    registry: Registry,
}

impl Lab {
    pub(super) fn new(options: Options) -> Result<Self> {
        let scratch = Scratch::new(&tree::target().join("holdfast-coldstart"), "bench")?;
        let janitor = Janitor::start(&cgroups(), scratch.path())?;
        let folder = |name: &str| scratch.path().join(name);
        std::fs::create_dir(folder("ours"))?;
        Ok(Self {
            runs: options.runs,
            login: Login::generate("alice")?,
            ours: Ours::new(options.binary, &folder("ours"))?,
            peer: Peer::new(&folder("skopeo"))?,
            stargz: Stargz::build(),
            plots: options.plot.then(|| tree::root().join("docs/benchmarks")),
            lanes: RefCell::new(0),
            scratch,
            _janitor: janitor,
        })
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A name for a lane's cgroups that no other has.
    fn cgroup(&self, what: &str) -> String {
        let mut lanes = self.lanes.borrow_mut();
        *lanes += 1;
        format!("{}{lanes}-{what}", cgroups())
    }
}

/// How the cgroups of this run's lanes begin.
fn cgroups() -> String {
    format!("holdfast-bench-{}-", std::process::id())
}

fn measure(lab: &Lab, link: &str, shape: Shape) -> Result<Vec<Row>> {
    let image = lab::packed_science_image(&packed())?;
    measure_image(lab, link, shape, &image)
}

/// The first link again, for an image whose layers are of zstd.
fn zstd(lab: &Lab) -> Result<Vec<Row>> {
    let image = lab::packed_zstd_image(&packed())?;
    measure_image(lab, "200mbit-zstd", shape(200, 20), &image)
}

/// And for one that is a single layer of 1 GiB.
fn one_layer(lab: &Lab) -> Result<Vec<Row>> {
    let image = lab::packed_one_layer_image(&packed())?;
    measure_image(lab, "200mbit-one-layer", shape(200, 20), &image)
}

/// And for one of sixty layers.
fn many_layers(lab: &Lab) -> Result<Vec<Row>> {
    let image = lab::packed_many_layers_image(&packed())?;
    measure_image(lab, "200mbit-many-layers", shape(200, 20), &image)
}

/// All of the image through the lazy mount, beside downloading and unpacking it.
fn whole(lab: &Lab) -> Result<Vec<Row>> {
    let image = lab::packed_science_image(&packed())?;
    let contenders = vec![
        Contender::new(Kind::Whole, "holdfast, all files read lazily", READ_ALL),
        Contender::new(Kind::Containerd, "containerd pull + ctr run", NOTHING),
        Contender::new(Kind::Skopeo, "skopeo copy + umoci unpack + runc", NOTHING),
    ];
    measure_contenders(lab, "200mbit-whole", shape(200, 20), &image, contenders)
}

fn measure_image(lab: &Lab, link: &str, shape: Shape, image: &PackedImage) -> Result<Vec<Row>> {
    measure_contenders(lab, link, shape, image, contenders(lab, image))
}

fn measure_contenders(
    lab: &Lab,
    link: &str,
    shape: Shape,
    image: &PackedImage,
    mut contenders: Vec<Contender>,
) -> Result<Vec<Row>> {
    let scene = Scene::start(lab, shape)?;
    let calibrated = Calibrated::measure(&scene.network)?;
    let void = calibrated.void(shape);
    println!(
        "link {link}: round trip {:.1} ms, {:.0} Mbit/s by one connection: {}",
        calibrated.round_trip_ms,
        calibrated.megabits_per_second,
        void.as_deref().unwrap_or("as it should be"),
    );
    let name = scene.registry.push(image, &lab.login)?;
    let is_there = |kind| contenders.iter().any(|one| one.kind == kind);
    let converted = match &lab.stargz {
        _ if !is_there(Kind::Stargz) => String::new(),
        // Of what is in the layers: how they were compressed before does not matter to it.
        Stargz::Built(_) if image.name == lab::ZSTD_NAME => {
            stargz::convert(lab, &scene, &lab::packed_science_image(&packed())?)?
        }
        Stargz::Built(_) => stargz::convert(lab, &scene, image)?,
        Stargz::Missing(_) => String::new(),
    };
    for number in 1..=lab.runs {
        let taking_part = |one: &&mut Contender| one.missing.is_none();
        for contender in contenders.iter_mut().filter(taking_part) {
            let measured = one_turn(lab, &scene, contender, &name, &converted)?;
            let Some(measured) = measured else { continue };
            println!(
                "  turn {number} of {}: {}",
                contender.name,
                rows::line(&measured)
            );
            contender.turns.push(measured);
        }
    }
    if let Some(void) = void {
        contenders
            .iter_mut()
            .for_each(|contender| contender.void_all(&void));
    }
    rows::print(&contenders);
    if let Some(folder) = &lab.plots {
        let layers = image.layers()?;
        let megabytes = layers.iter().map(|layer| layer.bytes).sum::<u64>() / 1_000_000;
        let title = format!("{link}, {megabytes} MB in {} layers", layers.len());
        rows::plot(
            &contenders,
            &title,
            &folder.join(format!("coldstart-{link}.svg")),
        )?;
    }
    Ok(rows::compare(&contenders, link))
}

/// Where packed images are kept.
fn packed() -> PathBuf {
    tree::target().join("holdfast-demo")
}

/// What takes turns, in this order: a warm start follows the cold one that warmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    First,
    Cold,
    Traced,
    Warm,
    /// Cold, and everything is read.
    Whole,
    Containerd,
    Skopeo,
    Stargz,
}

fn contenders(lab: &Lab, image: &PackedImage) -> Vec<Contender> {
    let contender = |kind, name| Contender::new(kind, name, IMPORT);
    let mut all = vec![
        contender(Kind::First, "holdfast, first use ever"),
        contender(Kind::Cold, "holdfast, cold"),
        contender(Kind::Traced, "holdfast, cold and traced"),
        contender(Kind::Warm, "holdfast, warm"),
        contender(Kind::Containerd, "containerd pull + ctr run"),
        contender(Kind::Skopeo, "skopeo copy + umoci unpack + runc"),
        contender(Kind::Stargz, "eStargz by stargz-snapshotter"),
    ];
    if let (Some(last), Stargz::Missing(why)) = (all.last_mut(), &lab.stargz) {
        last.missing = Some(why.clone());
    }
    if image.name == lab::ZSTD_NAME {
        let skopeo = all.iter_mut().filter(|one| one.kind == Kind::Skopeo);
        skopeo.for_each(|one| one.missing = Some("umoci reads no zstd".to_owned()));
    }
    all
}

fn one_turn(
    lab: &Lab,
    scene: &Scene,
    contender: &Contender,
    image: &str,
    converted: &str,
) -> Result<Option<Measured>> {
    let lane = Lane::open(&lab.cgroup("turn"), &scene.network.client)?;
    let task = contender.task;
    let turn = Turn {
        lane: &lane,
        network: &scene.network,
        registry: &scene.registry,
    };
    let measured = match (contender.kind, &lab.stargz) {
        (Kind::First, _) => {
            let ours = lab.ours.within(turn.entry());
            ours.forget()?;
            ours.login(&scene.registry.address(), &lab.login)?;
            ours_run(&ours, turn, image, task, PageCache::Dropped)
        }
        (Kind::Cold, _) => {
            let ours = lab.ours.within(turn.entry());
            ours.empty_cache()?;
            ours.forget_traces()?;
            ours_run(&ours, turn, image, task, PageCache::Dropped)
        }
        (Kind::Traced, _) => {
            let ours = lab.ours.within(turn.entry());
            ours.empty_cache()?;
            ours_run(&ours, turn, image, task, PageCache::Dropped)
        }
        (Kind::Warm, _) => {
            let ours = lab.ours.within(turn.entry());
            ours_run(&ours, turn, image, task, PageCache::Kept)
        }
        (Kind::Whole, _) => {
            let ours = lab.ours.within(turn.entry());
            ours.login(&scene.registry.address(), &lab.login)?;
            ours.output(&["image", "index", image])?;
            ours.empty_cache()?;
            ours.forget_traces()?;
            ours_run(&ours, turn, image, task, PageCache::Dropped)
        }
        (Kind::Containerd, _) => containerd::pull_and_run(lab, turn, image, task),
        (Kind::Skopeo, _) => skopeo(lab, scene, turn, image, task),
        (Kind::Stargz, Stargz::Built(program)) => stargz::run(lab, turn, program, converted),
        (Kind::Stargz, Stargz::Missing(_)) => return Ok(None),
    };
    measured.map(Some).with_context(|| contender.name)
}

fn ours_run(
    ours: &Ours,
    turn: Turn<'_>,
    image: &str,
    task: Task,
    cache: PageCache,
) -> Result<Measured> {
    let running = turn.begin(cache)?;
    let mut command = ours.start_command(image, task.command);
    let mut measured = running.finish(&mut command, task.expected)?;
    let timing = ours.timing()?;
    measured.phases = Phase::all_of(&timing);
    measured.stall_p99_ms = timing["stall_p99_ms"].as_f64();
    Ok(measured)
}

fn skopeo(lab: &Lab, scene: &Scene, turn: Turn<'_>, image: &str, task: Task) -> Result<Measured> {
    let peer = lab.peer.within(turn.entry());
    peer.forget()?;
    let host = scene.registry.address();
    let auth_file = scene.registry.auth_file(&host, &lab.login)?;
    let running = turn.begin(PageCache::Dropped)?;
    peer.pull(image, &auth_file)?;
    peer.unpack()?;
    peer.prepare(task.command)?;
    running.finish(&mut peer.start_command(), task.expected)
}

impl Scene {
    fn start(lab: &Lab, shape: Shape) -> Result<Self> {
        let network = Network::start(shape)?;
        let registry = Registry::start_at(
            &lab.folder("registry"),
            &lab.login,
            Network::registry_socket(),
            network.server.entry(),
        )?;
        Ok(Self { network, registry })
    }
}

fn wait_until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !holds() {
        if begin.elapsed() > WAITING {
            bail!("waited in vain until {what}");
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    Ok(())
}
