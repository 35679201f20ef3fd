//! Layers that a gateway shares among its workers, in a bucket of `moto`.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Child;

use e2e::{Home, memory};
use registry_sim::debian::DebianRegistry;
use registry_sim::{Bucket, Moto};
use rustix::process::Pid;
use serde_json::Value;

use crate::functions::{Stage, assert_nothing_is_left, files_of};
use crate::machines::{CONTROL, Machines};
use crate::serving::Serving;
use crate::support::{PASSWORD, USER, until};
use crate::workers::join;

const SECRET_KEY: &str = "canary-bucket-1d9f3c0a7be24b6f";
/// What stands in each URL of the bucket's that was signed.
const SIGNATURE: &str = "X-Amz-Signature=";
const CLAIM: &str = "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/s3/aws4_request, \
                     SignedHeaders=host, Signature=0";
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A gateway with a bucket, a registry that only it reaches, and room for machines.
struct Scene {
    machines: Machines,
    moto: Moto,
    bucket: Bucket,
    stage: Stage,
}

impl Scene {
    fn open() -> Self {
        let machines = Machines::enter();
        let moto = Moto::start(CONTROL.into());
        let bucket = moto.bucket("layers");
        let registry = DebianRegistry::htpasswd(USER, PASSWORD);
        let stage = Stage::of(registry, |home| {
            let keys = home.path().join("bucket.keys");
            let text = format!("aws_access_key_id=AKID\naws_secret_access_key={SECRET_KEY}\n");
            std::fs::write(&keys, text).expect("written");
            std::fs::set_permissions(&keys, Permissions::from_mode(0o600)).expect("it is ours");
            let (endpoint, keys) = (&bucket.endpoint, keys.display());
            home.configure(&format!(
                "[shared_cache]\nbucket = \"layers\"\nregion = \"eu-west-1\"\n\
                 endpoint = \"{endpoint}\"\ncredentials = \"{keys}\"\nprefix = \"test\"\n"
            ));
            Serving::start_with_workers_at(home, "10.77.0.1:0")
        });
        Self {
            machines,
            moto,
            bucket,
            stage,
        }
    }

    /// A worker on the other machine, whose cache is empty.
    fn join(&self) -> (Home, Child) {
        let node = Home::new().with_own_program();
        let made = self.stage.home.run(&["worker", "token", "--json"]);
        let made = made.ok().json();
        let token = made["token"].as_str().expect("a token");
        let gateway = self.stage.serving().workers();
        let worker = self.machines.on_node(|| join(&node, gateway, token));
        until("the worker is there", || {
            let listed = self.stage.home.run(&["worker", "list", "--json"]);
            let listed = listed.ok().json();
            listed.as_array().is_some_and(|rows| !rows.is_empty())
        });
        (node, worker)
    }

    fn remove(&self, node: &Home, mut worker: Child) {
        self.stage.home.run(&["worker", "remove", "node-1"]).ok();
        worker.wait().expect("it ends");
        assert_nothing_is_left(node);
    }

    /// What the store answers to this. `moto` believes who says that it has signed.
    fn asked(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let host = self.moto.host();
        let mut stream = TcpStream::connect(host).expect("it listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\
             Authorization: {CLAIM}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        let end = answer.windows(4).position(|at| at == b"\r\n\r\n");
        answer.split_off(end.expect("a head") + 4)
    }

    /// The names of all objects.
    fn objects(&self) -> Vec<String> {
        let listed = self.asked("GET", &format!("/{}?list-type=2", self.bucket.name), b"");
        let listed = String::from_utf8(listed).expect("text");
        let names = listed.split("<Key>").skip(1);
        let names = names.map(|rest| rest.split_once('<').expect("an end").0.to_owned());
        names.collect()
    }

    /// The digests of the image's layers, as they are in the registry.
    fn layers(&self) -> Vec<String> {
        let listed = self
            .stage
            .home
            .run(&["image", "list", "--json"])
            .ok()
            .json();
        let id = listed[0]["image"].as_str().expect("a name").to_owned();
        let inspected = self.stage.home.run(&["image", "inspect", &id, "--json"]);
        digests(&inspected.ok().json()["layers"])
    }
}

fn digests(layers: &Value) -> Vec<String> {
    let layers = layers.as_array().expect("layers").iter();
    let digests = layers.map(|layer| layer["digest"].as_str().expect("a digest").to_owned());
    digests.collect()
}

fn holds(process: Pid, wanted: &[String]) -> bool {
    memory::holds(process.as_raw_nonzero().get().unsigned_abs(), wanted)
}

/// No blob of the registry is right any more, so that all that is read is from the bucket; and
/// then the bucket's are not, so that all is from the registry.
#[test]
fn a_second_worker_reads_from_the_shared_cache_and_else_from_the_registry() {
    let scene = Scene::open();
    let (first, worker) = scene.join();
    let said = scene.stage.python(&["greet", "world"]).ok();
    assert_eq!(said.stdout, "greeting world\nHello, world!\n");
    let layers = scene.layers();
    until("all layers are in the bucket", || {
        scene.objects().len() == layers.len()
    });
    scene.remove(&first, worker);
    check_objects(&scene, &layers);

    for layer in &layers {
        let change = |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
        scene.stage.registry.tamper(layer, change);
    }
    let (second, worker) = scene.join();
    let read = scene.stage.python(&["reads_later", "0"]).ok();
    assert!(read.stdout.starts_with("waiting\n"), "{}", read.stdout);
    scene.stage.python(&["submit", "600"]).ok();
    check_second(&scene, &second);
    scene.remove(&second, worker);

    for layer in &layers {
        let change = |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
        scene.stage.registry.tamper(layer, change);
    }
    for name in scene.objects() {
        let path = format!("/{}/{name}", scene.bucket.name);
        let mut object = scene.asked("GET", &path, b"");
        object.iter_mut().for_each(|byte| *byte ^= 0x55);
        scene.asked("PUT", &path, &object);
    }
    let (third, worker) = scene.join();
    let read = scene.stage.python(&["reads_later", "0"]).ok();
    assert!(read.stdout.starts_with("waiting\n"), "{}", read.stdout);
    scene.remove(&third, worker);
    scene.stage.end();
}

/// They tell neither what they are nor what is in them.
fn check_objects(scene: &Scene, layers: &[String]) {
    for name in scene.objects() {
        assert!(name.starts_with("test/v1/"), "{name}");
        for layer in layers {
            let hex = layer.strip_prefix("sha256:").expect("a digest");
            assert!(!name.contains(hex), "{name}");
        }
        let object = scene.asked("GET", &format!("/{}/{name}", scene.bucket.name), b"");
        let is_told = object.is_empty() || object.starts_with(b"<?xml");
        let is_sealed = !is_told && !object.starts_with(&MAGIC);
        assert!(is_sealed, "{:?}", object.get(..64).unwrap_or(&object));
    }
}

/// It holds URLs, and no key of the bucket: neither in memory nor on its disk.
fn check_second(scene: &Scene, node: &Home) {
    let secret = [SECRET_KEY.to_owned()];
    until("a mount has read", || {
        let processes = node.processes();
        let mut mounts = processes.iter().filter(|(_, role)| role == "mount-server");
        mounts.any(|(process, _)| holds(*process, &[SIGNATURE.to_owned()]))
    });
    for (process, role) in node.processes() {
        assert!(!holds(process, &secret), "{role} holds the bucket's key");
    }
    for path in files_of(node) {
        let bytes = std::fs::read(&path).unwrap_or_default();
        for secret in [SECRET_KEY, SIGNATURE] {
            let mut places = bytes.windows(secret.len());
            let is_there = places.any(|at| at == secret.as_bytes());
            assert!(!is_there, "a secret is in {}", path.display());
        }
    }
    let asked = ["audit", "blast", "--worker", "node-1", "--json"];
    let given = scene.stage.home.run(&asked).ok().json();
    let rows = given["exposed"].as_array().expect("rows").iter();
    let mut signed = rows.filter(|row| row["rung"] == "signed location");
    assert!(
        signed.next().is_some(),
        "what it was given is on record: {given}"
    );
}
