//! Workers on other machines, over their own port: who gets in, and what they are answered.

mod traces;
mod warming;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway::BoundWorkers;
use peer_identity::{ConnectedStream, Connector, Fingerprint, HandshakeError, JoinToken, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Status};
use worker_protocol::{
    AuthQuestion, CodeQuestion, Delivery, FromWorker, Hello, IndexQuestion, JoinQuestion,
    LocationQuestion, ReadQuestion, SharedQuestion, Stamp, Start, auth_answer, from_worker,
    location_answer, read_piece,
};

use crate::beta9::{Returning, Scene};
use vault::ExposureOf;

use crate::support::Stage;
use crate::worker::{FakeWorker, Requests};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);
/// As many as have a place that are not attached.
const PLACES: usize = 64;

/// The port of a stage's gateway.
struct Port {
    address: SocketAddr,
    gateway: Fingerprint,
}

/// A machine with a key.
struct Machine {
    key: KeyPair,
    address: SocketAddr,
    gateway: Fingerprint,
}

impl Port {
    async fn open(stage: &Stage) -> Self {
        let key = KeyPair::make().unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let bound = BoundWorkers::bind(stage.gateway.clone(), address, &key).await;
        let bound = bound.unwrap();
        let address = bound.address();
        tokio::spawn(bound.run(stage.shutdown.clone()));
        Self {
            address,
            gateway: key.fingerprint(),
        }
    }

    fn machine(&self) -> Machine {
        Machine {
            key: KeyPair::make().unwrap(),
            address: self.address,
            gateway: self.gateway,
        }
    }

    async fn token(&self, stage: &Stage) -> JoinToken {
        let life = Duration::from_mins(1);
        stage
            .gateway
            .make_join_token(self.gateway, life, "a test")
            .await
            .unwrap()
    }

    /// A machine that has joined.
    async fn worker(&self, stage: &Stage, name: &str) -> Machine {
        let machine = self.machine();
        let token = self.token(stage).await;
        machine.join(&token, name).await.unwrap();
        machine
    }
}

impl Machine {
    async fn connect(&self) -> Result<ConnectedStream<TcpStream>, HandshakeError> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        Connector::new(&self.key, self.gateway)
            .connect(stream)
            .await
    }

    async fn join(&self, token: &JoinToken, name: &str) -> Result<String, Status> {
        let text = credential::ExposeSecret::expose_secret(token.text()).to_owned();
        self.ask_to_join(text, name).await
    }

    async fn ask_to_join(&self, token: String, name: &str) -> Result<String, Status> {
        let requests = Requests::over(self.connect().await.unwrap()).await;
        let question = JoinQuestion {
            token,
            name: name.to_owned(),
            cpu_millicores: 8000,
            memory_bytes: 8 << 30,
        };
        let answer = requests.joining().join(question).await?;
        Ok(answer.into_inner().worker)
    }

    async fn attach(&self) -> Result<FakeWorker, Status> {
        FakeWorker::over(self.connect().await.unwrap()).await
    }
}

/// Rows of the audit log, newest first: who did what to what.
async fn audit(stage: &Stage, action: &str) -> Vec<(String, String, String)> {
    let rows = stage.broker.vault().audit_tail(200).await.unwrap();
    let own = rows.into_iter().filter(|row| row.action == action);
    own.map(|row| (row.actor, row.subject, row.detail))
        .collect()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

async fn last_reply(scene: &Scene, words: &str) -> String {
    let mut replies = scene.invoke(words, Returning::Never).await;
    let mut last = Vec::new();
    while let Some(reply) = within(replies.message()).await.unwrap() {
        last = reply.result.to_vec();
    }
    String::from_utf8(last).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_joins_by_a_token_once_and_runs_calls() {
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let (first, second) = (port.machine(), port.machine());
    let token = port.token(&stage).await;
    let id = first.join(&token, "node-1").await.unwrap();
    assert_eq!(
        first.join(&token, "node-1").await.unwrap(),
        id,
        "asked again"
    );
    let [(actor, subject, detail)] = &audit(&stage, "invite").await[..] else {
        panic!("one token was made");
    };
    assert_eq!((actor.as_str(), subject.as_str()), ("a test", "join token"));
    assert!(detail.starts_with("until 2"), "{detail}");
    let [(actor, subject, detail)] = &audit(&stage, "join").await[..] else {
        panic!("one join");
    };
    assert_eq!((actor.as_str(), subject), ("gateway", &id));
    let key = first.key.fingerprint().to_string();
    assert!(
        detail.contains("node-1") && detail.contains(&key),
        "{detail}"
    );

    let used = second.join(&token, "node-2").await.unwrap_err();
    assert_eq!(used.code(), Code::PermissionDenied);
    let over = JoinToken::make(port.gateway).unwrap();
    let past = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(1);
    let store = stage.broker.store();
    store.add_join_token(&over.hash(), past).await.unwrap();
    for refused in [over, JoinToken::make(port.gateway).unwrap()] {
        let refused = second.join(&refused, "node-2").await.unwrap_err();
        assert_eq!(refused.message(), used.message(), "nothing is told of why");
    }
    let none = second.ask_to_join("hfj_".to_owned(), "node-2").await;
    assert_eq!(none.unwrap_err().message(), used.message());
    let token = port.token(&stage).await;
    let taken = second.join(&token, "node-1").await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
    let unusable = second.join(&token, "a b").await.unwrap_err();
    assert_eq!(unusable.code(), Code::InvalidArgument);
    let denied = audit(&stage, "deny").await;
    assert_eq!(denied.len(), 6, "{denied:?}");
    let key = second.key.fingerprint().to_string();
    assert!(denied.iter().all(|(_, subject, _)| subject.contains(&key)));
    assert_ne!(second.join(&token, "node-2").await.unwrap(), id);

    let worker = first.attach().await.unwrap();
    let scene = Scene::on(stage, worker).await;
    assert_eq!(last_reply(&scene, "return 42").await, "42");
    assert_eq!(scene.worker.starts(), 1);
    let known = scene.stage.broker.store().workers().await.unwrap();
    assert_eq!(known.len(), 2);
    assert_eq!(known[0].id.to_string(), id);
    assert_eq!(known[0].memory_bytes, 8 << 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_worker_may_ask_to_join_once_and_nothing_else() {
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let stranger = port.machine();
    let refused = stranger
        .attach()
        .await
        .err()
        .expect("a stranger is refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let requests = Requests::over(stranger.connect().await.unwrap()).await;
    let question = CodeQuestion { delivery: None };
    let refused = requests.clone().worker().code(question).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    check_not_known(&stage, &stranger, 2).await;
    let mut joining = requests.joining();
    let long = JoinQuestion {
        token: "x".repeat(worker_protocol::MAX_JOIN_BYTES),
        ..Default::default()
    };
    let refused = joining.join(long).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    let question = JoinQuestion::default();
    let refused = joining.join(question.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = joining.join(question).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);

    let impostor = Machine {
        gateway: KeyPair::make().unwrap().fingerprint(),
        ..stranger
    };
    let refused = impostor.connect().await;
    assert!(matches!(refused, Err(HandshakeError::OtherKey)));
}

/// So many times, and not more, the audit log says that a machine is no worker.
async fn check_not_known(stage: &Stage, machine: &Machine, count: usize) {
    let subject = format!("attach of key {}", machine.key.fingerprint());
    let denied = audit(stage, "deny").await;
    let own = denied.iter().filter(|row| row.1 == subject);
    let reason = "this machine is no worker here: it joins with a token";
    let own = own.inspect(|row| assert_eq!((&*row.0, &*row.2), ("gateway", reason)));
    assert_eq!(own.count(), count, "{denied:?}");
}

/// Of a question that one holder asks.
fn fresh() -> Stamp {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let number = ASKED.fetch_add(1, Ordering::Relaxed) + 1;
    stamp(number, 1)
}

fn stamp(number: u64, byte: u8) -> Stamp {
    Stamp {
        number,
        nonce: vec![byte; 16].into(),
    }
}

/// What a worker is answered about this container.
async fn ask_all(worker: &FakeWorker, start: &Start) -> [Code; 5] {
    let (image, delivery) = (start.image.clone().unwrap(), start.delivery.clone());
    assert!(
        !image.has_shared_cache,
        "no mount asks for what there is not"
    );
    let mut client = worker.client.clone();
    let question = AuthQuestion {
        delivery: delivery.clone(),
        registry: image.registry,
        repository: image.repository,
        rejected: None,
        stamp: Some(fresh()),
    };
    let digest = image.layers[0].digest.clone();
    let auth = client.auth(question.clone()).await;
    let location = client.location(locating(&question, &digest)).await;
    let shared = client.shared(sharing(&question, &digest)).await;
    let code = client
        .code(CodeQuestion {
            delivery: delivery.clone(),
        })
        .await;
    let index = client.index(IndexQuestion { delivery, digest }).await;
    let code_of = |status: Option<Status>| status.map_or(Code::Ok, |status| status.code());
    [
        code_of(auth.err()),
        code_of(location.err()),
        code_of(shared.err()),
        code_of(code.err()),
        code_of(index.err()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_answered_about_its_own_containers_alone() {
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let first = port.worker(&stage, "node-1").await.attach().await.unwrap();
    let scene = Scene::on(stage, first).await;
    let (stage, first) = (&scene.stage, &scene.worker);
    assert_eq!(last_reply(&scene, "return 1").await, "1");
    let second = port.worker(stage, "node-2").await.attach().await.unwrap();
    let start = first.started().await;
    let denied_so_far = audit(stage, "deny").await.len();

    // What the first has, replayed by the second; and a guess.
    assert_eq!(ask_all(&second, &start).await, [Code::NotFound; 5]);
    let guessed = Start {
        delivery: Some(Delivery {
            container: "ctr-1\u{1b}[31m".to_owned(),
            number: 1,
        }),
        ..start.clone()
    };
    assert_eq!(ask_all(&second, &guessed).await, [Code::NotFound; 5]);
    let denied = audit(stage, "deny").await;
    assert_eq!(denied.len(), denied_so_far + 10, "each has a row");
    let workers = stage.broker.store().workers().await.unwrap();
    for (actor, subject, _) in &denied[..10] {
        assert_eq!(actor, &workers[1].id.to_string());
        assert!(!subject.contains('\u{1b}'), "{subject:?}");
    }
    let container = &start.delivery.as_ref().unwrap().container;
    let about: Vec<_> = denied[5..10].iter().map(|row| row.1.clone()).collect();
    let expected = ["index", "code", "shared layer", "location", "auth"]
        .map(|asked| format!("{asked} of {container}, delivery 1"));
    assert_eq!(about, expected);

    assert_eq!(ask_all(first, &start).await, [Code::Ok; 5]);
    check_forbidden(first, &start).await;
    assert_eq!(audit(stage, "deny").await.len(), denied_so_far + 16);
    check_answers(stage, first, &start).await;
}

/// The same about a layer.
fn locating(question: &AuthQuestion, digest: &str) -> LocationQuestion {
    LocationQuestion {
        delivery: question.delivery.clone(),
        registry: question.registry.clone(),
        repository: question.repository.clone(),
        digest: digest.to_owned(),
        refused: None,
        stamp: Some(fresh()),
    }
}

/// The same about where the layer is shared.
fn sharing(question: &AuthQuestion, digest: &str) -> SharedQuestion {
    SharedQuestion {
        delivery: question.delivery.clone(),
        registry: question.registry.clone(),
        repository: question.repository.clone(),
        digest: digest.to_owned(),
        stamp: Some(fresh()),
    }
}

/// What the container's own worker is not answered either.
async fn check_forbidden(worker: &FakeWorker, start: &Start) {
    let mut client = worker.client.clone();
    let (image, delivery) = (start.image.clone().unwrap(), start.delivery.clone());
    let other = AuthQuestion {
        delivery: delivery.clone(),
        registry: image.registry.clone(),
        repository: "other/app".to_owned(),
        rejected: None,
        stamp: Some(fresh()),
    };
    let refused = client.auth(other.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let layer = &image.layers[0].digest;
    let refused = client.location(locating(&other, layer)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = client.shared(sharing(&other, layer)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let digest = format!("sha256:{}", "0".repeat(64));
    let own = AuthQuestion {
        repository: image.repository,
        ..other
    };
    let refused = client.location(locating(&own, &digest)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = client.shared(sharing(&own, &digest)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let other = IndexQuestion { delivery, digest };
    let refused = client.index(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

async fn check_answers(stage: &Stage, worker: &FakeWorker, start: &Start) {
    let mut client = worker.client.clone();
    let (image, delivery) = (start.image.clone().unwrap(), start.delivery.clone());
    let question = AuthQuestion {
        delivery: delivery.clone(),
        registry: image.registry.clone(),
        repository: image.repository.clone(),
        rejected: None,
        stamp: Some(fresh()),
    };
    let auth = client.auth(question).await.unwrap().into_inner().answer;
    assert!(
        matches!(auth, Some(auth_answer::Answer::Auth(_))),
        "{auth:?}"
    );
    let store = image_store::ImageStore::open(stage.directory.path().join("data")).unwrap();
    for layer in image.layers {
        let key = image_store::IndexKey {
            origin: &image.origin,
            layer: &layer.digest,
        };
        let kept = std::fs::read(store.index_path(key).unwrap()).unwrap();
        let question = IndexQuestion {
            delivery: delivery.clone(),
            digest: layer.digest.clone(),
        };
        let mut pieces = client.index(question).await.unwrap().into_inner();
        let mut given = Vec::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            given.extend_from_slice(&piece.data);
        }
        assert!(!given.is_empty() && given == kept);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_removed_is_cut_off_and_must_join_again() {
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let machine = port.worker(&stage, "node-1").await;
    let scene = Scene::on(stage, machine.attach().await.unwrap()).await;
    let mut waiting = scene.invoke("wait", Returning::Never).await;
    let start = scene.worker.started().await;
    let worker = scene.stage.broker.store().workers().await.unwrap()[0].id;
    let gateway = &scene.stage.gateway;
    gateway.remove_worker(worker, "a test").await.unwrap();
    within(scene.worker.cut_off()).await;
    let mut is_done = false;
    while let Some(reply) = within(waiting.message()).await.unwrap() {
        is_done = reply.done;
    }
    assert!(is_done, "its call has ended");
    let codes = ask_all(&scene.worker, &start).await;
    assert!(!codes.contains(&Code::Ok), "{codes:?}");
    let refused = machine
        .attach()
        .await
        .err()
        .expect("it is a worker no more");
    assert_eq!(refused.code(), Code::Unauthenticated);
    check_not_known(&scene.stage, &machine, 1).await;
    let again = gateway.remove_worker(worker, "a test").await;
    assert_eq!(again.unwrap_err().kind, gateway::Kind::NotFound);
    let left = audit(&scene.stage, "leave").await;
    let row = ("a test".to_owned(), worker.to_string(), "worker".to_owned());
    assert_eq!(left, [row]);

    let token = port.token(&scene.stage).await;
    let other = machine.join(&token, "node-1").await.unwrap();
    assert_ne!(other, worker.to_string());
    machine.attach().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_takes_its_own_place() {
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let machine = port.worker(&stage, "node-1").await;
    let first = machine.attach().await.unwrap();
    let second = machine.attach().await.unwrap();
    within(first.cut_off()).await;
    let scene = Scene::on(stage, second).await;
    assert_eq!(last_reply(&scene, "return 1").await, "1");
    assert_eq!(first.starts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_gets_nothing_new() {
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let draining = port.worker(&stage, "node-1").await;
    let worker = stage.broker.store().workers().await.unwrap()[0].id;
    let store = stage.broker.store();
    assert!(store.set_worker_draining(worker, true).await.unwrap());
    let draining = draining.attach().await.unwrap();
    let other = port.worker(&stage, "node-2").await.attach().await.unwrap();
    let scene = Scene::on(stage, other).await;
    assert_eq!(last_reply(&scene, "return 1").await, "1");
    assert_eq!((draining.starts(), scene.worker.starts()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_speaks_no_tls_is_hung_up_on_and_keeps_nobody_out() {
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let machine = port.worker(&stage, "node-1").await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 4096],
    ] {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // Reset, or closed with or without an alert.
        let _ = within(stream.read_to_end(&mut answer)).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    // All places are taken by those who say nothing, until they have had their time.
    let mut silent = Vec::new();
    for _ in 0..PLACES {
        silent.push(TcpStream::connect(port.address).await.unwrap());
    }
    let coming = async {
        loop {
            let stream = TcpStream::connect(port.address).await.unwrap();
            let connector = Connector::new(&machine.key, machine.gateway);
            if let Ok(stream) = connector.connect(stream).await {
                return FakeWorker::over(stream).await.unwrap();
            }
        }
    };
    within(Box::pin(coming)).await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_another_version_is_told_so_and_gets_nothing() {
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let machine = port.worker(&stage, "node-1").await;
    for version in [
        0,
        worker_protocol::VERSION - 1,
        worker_protocol::VERSION + 1,
    ] {
        let mut client = Requests::over(machine.connect().await.unwrap())
            .await
            .worker();
        let hello = Hello {
            version,
            name: "old".to_owned(),
            cpu_millicores: 8000,
            memory_bytes: 8 << 30,
        };
        let first = FromWorker {
            message: Some(from_worker::Message::Hello(hello)),
        };
        let refused = client.attach(futures::stream::iter([first])).await;
        let refused = refused.expect_err("it speaks another version");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let words = "install the same holdfast on both";
        assert!(refused.message().contains(words), "{refused}");
    }
}

/// Somebody has all that the worker has: the second that asks under one number is noticed, and
/// neither is answered any more, since the first may be the copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_lease_two_use_reads_no_more() {
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let worker = port.worker(&stage, "node-1").await.attach().await.unwrap();
    let scene = Scene::on(stage, worker).await;
    assert_eq!(last_reply(&scene, "return 1").await, "1");
    let start = scene.worker.started().await;
    let mut client = scene.worker.client.clone();
    let image = start.image.clone().unwrap();
    let question = |stamp| AuthQuestion {
        delivery: start.delivery.clone(),
        registry: image.registry.clone(),
        repository: image.repository.clone(),
        rejected: None,
        stamp,
    };
    let mut ask = async |stamp| {
        client.auth(question(stamp)).await.map(|answer| {
            let answer = answer.into_inner().answer.unwrap();
            matches!(answer, auth_answer::Answer::Auth(_))
        })
    };
    for wrong in [
        None,
        Some(Stamp {
            number: 1,
            nonce: vec![1; 15].into(),
        }),
    ] {
        let refused = ask(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    for own in [stamp(1, 1), stamp(3, 1), stamp(2, 1), stamp(2, 1)] {
        assert!(ask(Some(own)).await.unwrap());
    }
    assert_eq!(audit(&scene.stage, "lease-alarm").await, []);
    for late in [stamp(3, 9), stamp(4, 1)] {
        assert!(!ask(Some(late)).await.unwrap());
    }
    let alarms = audit(&scene.stage, "lease-alarm").await;
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!(alarms[0].0, start.delivery.as_ref().unwrap().container);
    assert_eq!(scene.stage.broker.lease_alarms(), 1);
}

/// What a container has is on record as its worker's, so that it is known after the worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_of_one_worker_and_container_and_ends_with_them() {
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let worker = port.worker(&stage, "node-1").await.attach().await.unwrap();
    let scene = Scene::lent(stage, worker).await;
    assert_eq!(last_reply(&scene, "return 1").await, "1");
    let start = scene.worker.started().await;
    assert_eq!(ask_all(&scene.worker, &start).await[0], Code::Ok);
    let vault = scene.stage.broker.vault();
    let id = scene.stage.broker.store().workers().await.unwrap()[0].id;
    let container = start.delivery.unwrap().container;
    let given = vault.exposures(ExposureOf::Worker(id), None).await.unwrap();
    let rungs: Vec<_> = given.iter().map(|row| row.rung.as_str()).collect();
    assert_eq!(rungs, ["basic (whole identity)"]);
    for row in &given {
        assert_eq!(
            (&row.container, &row.worker),
            (&container, &Some(id.to_string()))
        );
    }
    let removing = scene.stage.gateway.remove_worker(id, "a test");
    let blast = removing.await.unwrap();
    assert_eq!(blast.rotate, [given[0].scope.clone().unwrap()]);
    assert!(blast.exposed[0].is_alive && blast.exposed[0].not_after.is_none());
    within(scene.worker.cut_off()).await;
    let workspace = given[0].workspace.parse().unwrap();
    let live = vault.live_leases(workspace).await.unwrap();
    assert_eq!(live, []);
}

/// The question for the first bytes of the first layer.
fn reading(start: &Start, length_bytes: u64) -> ReadQuestion {
    let image = start.image.clone().unwrap();
    ReadQuestion {
        delivery: start.delivery.clone(),
        registry: image.registry,
        repository: image.repository,
        digest: image.layers[0].digest.clone(),
        size_bytes: layer().len() as u64,
        offset: 0,
        length_bytes,
        stamp: Some(fresh()),
    }
}

fn layer() -> bytes::Bytes {
    crate::builds::image().layers[0].bytes.clone()
}

/// What is read, or why it is not: of the question, or within the answer.
async fn read(worker: &FakeWorker, question: ReadQuestion) -> Result<Vec<u8>, String> {
    let refused = |status: Status| status.code().to_string();
    let pieces = worker.client.clone().read(question).await;
    let mut pieces = pieces.map_err(refused)?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await.map_err(refused)? {
        match piece.piece.unwrap() {
            read_piece::Piece::Data(data) => bytes.extend_from_slice(&data),
            read_piece::Piece::Denial(denial) => return Err(denial.message),
            read_piece::Piece::NotFound(_) => return Err("not found".to_owned()),
            read_piece::Piece::Corrupt(message) => return Err(message),
        }
    }
    Ok(bytes)
}

/// A registry that takes nothing less than a password: it stays with the gateway, which reads.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_through_the_gateway_is_of_its_own_image() {
    let stage = Stage::new().await;
    let port = Port::open(&stage).await;
    let worker = port.worker(&stage, "node-1").await.attach().await.unwrap();
    let scene = Scene::private(stage, worker).await;
    assert_eq!(last_reply(&scene, "return 1").await, "1");
    let second = port.worker(&scene.stage, "node-2").await;
    let second = second.attach().await.unwrap();
    let (worker, stage) = (&scene.worker, &scene.stage);
    let start = worker.started().await;
    let size = layer().len() as u64;
    let own = reading(&start, size);
    let question = AuthQuestion {
        delivery: own.delivery.clone(),
        registry: own.registry.clone(),
        repository: own.repository.clone(),
        rejected: None,
        stamp: Some(fresh()),
    };
    let mut client = worker.client.clone();
    let found = client.location(locating(&question, &own.digest)).await;
    let found = found.unwrap().into_inner().answer;
    let is_read = matches!(found, Some(location_answer::Answer::ReadHere(_)));
    assert!(is_read, "{found:?}");
    let asked = client.auth(question).await.unwrap().into_inner().answer;
    let Some(auth_answer::Answer::Denial(denial)) = asked else {
        panic!("an auth was given");
    };
    assert!(denial.message.contains("through the broker"), "{denial:?}");
    assert_eq!(read(worker, own.clone()).await, Ok(layer().to_vec()));
    let middle = ReadQuestion {
        offset: 3,
        ..reading(&start, 5)
    };
    assert_eq!(read(worker, middle).await, Ok(layer()[3..8].to_vec()));

    let denied_so_far = audit(stage, "deny").await.len();
    let fresh_of = |change: fn(&mut ReadQuestion)| {
        let mut question = reading(&start, size);
        change(&mut question);
        question
    };
    for wrong in [
        fresh_of(|question| question.digest = format!("sha256:{}", "0".repeat(64))),
        fresh_of(|question| question.repository = "other/app".to_owned()),
        fresh_of(|question| question.registry = "registry.example".to_owned()),
        fresh_of(|question| question.offset = 1),
        fresh_of(|question| question.offset = u64::MAX),
        fresh_of(|question| question.length_bytes = 0),
        fresh_of(|question| (question.size_bytes, question.length_bytes) = (1 << 40, 1 << 30)),
        fresh_of(|question| question.stamp = None),
    ] {
        let refused = read(worker, wrong.clone()).await;
        let expected = Code::PermissionDenied.to_string();
        assert_eq!(refused, Err(expected), "{wrong:?}");
    }
    let anothers = read(&second, reading(&start, size)).await;
    assert_eq!(anothers, Err(Code::NotFound.to_string()));
    // What is refused for what it says has spent no number.
    let wrong = fresh_of(|question| question.length_bytes = 0);
    let mended = ReadQuestion {
        stamp: wrong.stamp.clone(),
        ..reading(&start, size)
    };
    assert!(read(worker, wrong).await.is_err());
    assert_eq!(read(worker, mended).await, Ok(layer().to_vec()));
    assert_eq!(audit(stage, "deny").await.len(), denied_so_far + 10);

    check_reads_end(stage, worker, &start, own).await;
}

/// What was read is on record, and a removal and a copy end it.
async fn check_reads_end(stage: &Stage, worker: &FakeWorker, start: &Start, own: ReadQuestion) {
    let size = layer().len() as u64;
    let id = stage.broker.store().workers().await.unwrap()[0].id;
    let vault = stage.broker.vault();
    let given = vault.exposures(ExposureOf::Worker(id), None).await.unwrap();
    let rungs: Vec<_> = given.iter().map(|row| row.rung.as_str()).collect();
    assert_eq!(rungs, ["read through the broker"]);
    let scope = given[0].scope.clone().unwrap().parse().unwrap();
    let workspace = given[0].workspace.parse().unwrap();
    stage.broker.logout(workspace, &scope).await.unwrap();
    let removed = read(worker, reading(start, size)).await.unwrap_err();
    assert!(removed.contains("removed"), "{removed}");
    // By the same number with other bytes the lease has ended for both.
    let copy = ReadQuestion {
        stamp: Some(stamp(own.stamp.unwrap().number, 9)),
        ..reading(start, size)
    };
    let refused = read(worker, copy).await.unwrap_err();
    assert!(refused.contains("two have used"), "{refused}");
}
