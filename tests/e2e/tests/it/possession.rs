//! What one workspace brought here is nobody else's by naming it. A registry that lists another's
//! private layer gets no byte of it and learns nothing: all that it sees, and all that its customer
//! sees, is what an empty installation would show. An honest second tenant gets the cache.

use e2e::image::busybox_with;
use e2e::{Finished, Home};
use registry_sim::{Authority, Blob, Entry, Image, Login, Options, RegistrySim};
use tokio::runtime::Runtime;

use crate::support::{files_below, noise};

const USER: &str = "puller";
const PASSWORD: &str = "correct-horse-battery";
const OTHER_PASSWORD: &str = "another-word-for-another-registry";

/// What the private layer says, and nobody else may.
const MARK: &str = "what only the owner may read";

/// An image that runs and has the private layer only: several are indexed side by side, and which
/// of them is told and asked for first is chance.
fn private_image() -> Image {
    let secret = Entry::file("secret", format!("{MARK}\n"));
    let more = Entry::file("more", noise(11, 300 << 10));
    busybox_with(&[secret, more]).build()
}

fn private_layer(image: &Image) -> &Blob {
    image.layers.first().expect("the private layer")
}

/// An installation in which workspaces live side by side.
struct Installation(Home);

impl Installation {
    fn new() -> Self {
        Self(Home::new())
    }

    fn run(&self, workspace: &str, words: &[&str]) -> Finished {
        let words: Vec<&str> = ["--workspace", workspace]
            .iter()
            .chain(words)
            .copied()
            .collect();
        self.0.run(&words)
    }

    /// Runs the image and is shown what only its owner may read.
    #[track_caller]
    fn reads(&self, workspace: &str, image: &str) {
        let read = self.run(workspace, &["run", image, "--", "cat", "/secret"]);
        let read = read.ok();
        assert!(read.stdout.contains(MARK), "{}", read.stdout);
    }

    #[track_caller]
    fn login(&self, workspace: &str, registry: &RegistrySim, password: &str, more: &[&str]) {
        let words = [
            "--workspace",
            workspace,
            "login",
            registry.host(),
            "--username",
            USER,
        ];
        let words: Vec<&str> = words
            .iter()
            .chain(&["--password-stdin"])
            .chain(more)
            .copied()
            .collect();
        self.0.run_with_input(&words, password).ok();
    }
}

fn start(runtime: &Runtime, password: &str) -> RegistrySim {
    runtime.block_on(RegistrySim::start(Options {
        login: Login::Basic,
        password: password.to_owned(),
        ..Options::default()
    }))
}

/// Everything that `workspace` can try with an image, and what came of it: what it was told, and
/// what the registry saw of it.
fn attempts(
    installation: &Installation,
    workspace: &str,
    registry: &RegistrySim,
    image: &str,
) -> (Vec<String>, Vec<String>) {
    let before = registry.registry().paths().len();
    let mountpoint = installation.0.path().join("mnt");
    std::fs::create_dir_all(&mountpoint).expect("creates");
    let mountpoint = "mnt";
    let commands: [&[&str]; 7] = [
        &["image", "index", image],
        &["image", "inspect", image],
        &["image", "verify", image],
        &["image", "warm", image],
        &["image", "mount", image, mountpoint],
        &["run", image, "--", "cat", "/secret"],
        &["image", "list", "--json"],
    ];
    let told = commands.map(|words| {
        let Finished {
            code,
            stdout,
            stderr,
        } = installation.run(workspace, words);
        format!("{words:?}: {code}\n{stdout}\n{stderr}")
    });
    let seen = registry.registry().paths().split_off(before);
    (told.to_vec(), seen)
}

/// How a registry answers for a layer that it never had.
#[derive(Clone, Copy, Debug)]
enum Pretence {
    Nothing,
    Garbage,
    HalfOfIt,
    ItsIndexEntry,
}

impl Pretence {
    fn put(self, registry: &RegistrySim, repository: &str, layer: &Blob) {
        let half = layer.bytes.len() / 2;
        let bytes = match self {
            Self::Nothing => return registry.remove_blob(repository, &layer.digest),
            Self::Garbage => vec![0; layer.bytes.len()],
            Self::HalfOfIt => layer.bytes[..half].to_vec(),
            Self::ItsIndexEntry => layer.digest.clone().into_bytes(),
        };
        registry.put_blob(repository, &layer.digest, bytes);
    }
}

#[test]
fn naming_anothers_layer_gives_nothing_of_it() {
    let runtime = Runtime::new().expect("a runtime");
    let (owners, hostile) = (start(&runtime, PASSWORD), start(&runtime, OTHER_PASSWORD));
    let image = private_image();
    owners.push("acme/private", "v1", &image);
    owners.push("acme/public", "v1", &image);
    hostile.push("acme/private", "v1", &image);
    let (full, empty) = (Installation::new(), Installation::new());
    full.login("owner", &owners, PASSWORD, &[]);
    let owned = format!("{}/acme/private:v1", owners.host());
    full.run("owner", &["image", "warm", &owned]).ok();
    for installation in [&full, &empty] {
        installation.login("stranger", &hostile, OTHER_PASSWORD, &[]);
        installation.login("stranger", &owners, PASSWORD, &[]);
    }
    // The same registry too: whoever may read one repository of it may not read all.
    for (registry, repository) in [(&hostile, "acme/private"), (&owners, "acme/public")] {
        let name = format!("{}/{repository}:v1", registry.host());
        for pretence in [
            Pretence::Nothing,
            Pretence::Garbage,
            Pretence::HalfOfIt,
            Pretence::ItsIndexEntry,
        ] {
            pretence.put(registry, repository, private_layer(&image));
            let here = attempts(&full, "stranger", registry, &name);
            let there = attempts(&empty, "stranger", registry, &name);
            assert_eq!(here, there, "{pretence:?} of {name}");
            let told = here.0.concat();
            assert!(!told.contains(MARK), "{told}");
            assert!(told.contains("\"run\""), "{told}");
            assert!(
                here.0
                    .iter()
                    .all(|told| !told.contains("\"run\"") || told.contains(": 125\n")),
                "{told}"
            );
        }
    }
    // And what was there all the time still is.
    full.reads("owner", &owned);
}

#[test]
fn an_honest_second_tenant_fetches_nothing_again() {
    let runtime = Runtime::new().expect("a runtime");
    let owners = start(&runtime, PASSWORD);
    let image = private_image();
    owners.push("acme/private", "v1", &image);
    let name = format!("{}/acme/private:v1", owners.host());
    let installation = Installation::new();
    installation.login("first", &owners, PASSWORD, &[]);
    installation.run("first", &["image", "index", &name]).ok();
    installation.login("second", &owners, PASSWORD, &[]);
    let before = owners.registry().paths().len();
    installation.reads("second", &name);
    let asked = owners.registry().paths().split_off(before);
    let of_layers = |path: &&String| {
        image
            .layers
            .iter()
            .any(|layer| path.ends_with(&layer.digest))
    };
    assert_eq!(asked.iter().find(of_layers), None, "{asked:?}");
    // It asked for the manifest, though, with its own credential: that is its right to it.
    assert!(
        asked.iter().any(|path| path.contains("/manifests/v1")),
        "{asked:?}"
    );

    // Without a credential there is no right, however much of it is here.
    let third = installation.run("third", &["run", &name, "--", "cat", "/secret"]);
    let third = third.fails(125, owners.host());
    assert!(!third.stdout.contains(MARK), "{}", third.stdout);
}

#[test]
fn a_registry_that_is_trusted_otherwise_is_another_one() {
    let runtime = Runtime::new().expect("a runtime");
    let (authority, other) = (Authority::new(), Authority::new());
    let ca = authority.pem().to_owned();
    let with_tls = runtime.block_on(RegistrySim::start(Options {
        login: Login::Basic,
        tls: Some(authority),
        ..Options::default()
    }));
    let without = start(&runtime, PASSWORD);
    let installation = Installation::new();
    let write = |name: &str, text: &str| {
        let path = installation.0.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path.to_str().expect("utf-8").to_owned()
    };
    let (first, second) = (
        write("one.pem", &ca),
        write("two.pem", &format!("{ca}{}", other.pem())),
    );
    let image = private_image();
    let layer = private_layer(&image);
    let cases: [(&RegistrySim, &[&str], &[&str]); 2] = [
        (&with_tls, &["--ca-file", &first], &["--ca-file", &second]),
        (&without, &[], &["--plain-http"]),
    ];
    for (registry, owners_way, strangers_way) in cases {
        registry.push("acme/private", "v1", &image);
        let name = format!("{}/acme/private:v1", registry.host());
        installation.login("owner", registry, PASSWORD, owners_way);
        installation.run("owner", &["image", "warm", &name]).ok();
        installation.login("stranger", registry, PASSWORD, strangers_way);
        registry.remove_blob("acme/private", &layer.digest);
        let refused = installation.run("stranger", &["image", "index", &name]);
        refused.fails(5, &layer.digest);
        let inspected = installation
            .run("stranger", &["image", "inspect", "--json", &name])
            .ok();
        let layers = inspected.json()["layers"].clone();
        let last = layers.as_array().and_then(|layers| layers.last());
        assert_eq!(
            last.expect("layers")["indexed"],
            false,
            "{}",
            inspected.stdout
        );
        installation.reads("owner", &name);
    }
}

#[test]
fn images_are_a_workspaces_own_and_the_disk_is_the_operators() {
    let runtime = Runtime::new().expect("a runtime");
    let owners = start(&runtime, PASSWORD);
    owners.push("acme/private", "v1", &private_image());
    let name = format!("{}/acme/private:v1", owners.host());
    let installation = Installation::new();
    installation.login("owner", &owners, PASSWORD, &[]);
    installation.run("owner", &["image", "index", &name]).ok();
    let listed = |workspace: &str| {
        installation
            .run(workspace, &["image", "list", "--json"])
            .ok()
    };
    assert_eq!(listed("owner").json()[0]["image"], name);
    assert_eq!(listed("stranger").stdout.trim(), "[]");
    let credentials = installation
        .run("stranger", &["credentials", "list", "--json"])
        .ok();
    assert!(
        !credentials.stdout.contains(owners.host()),
        "{}",
        credentials.stdout
    );
    // What takes the disk is told to whoever runs this machine, in whichever workspace.
    let du = installation
        .run("stranger", &["cache", "du", "--json"])
        .ok();
    let origin = format!("{}/acme/private", owners.host());
    assert_eq!(du.json()["layers"][0]["origin"], origin, "{}", du.stdout);
    assert!(!files_below(&installation.0.data_dir().join("indexes")).is_empty());
}
