//! Reads while the registry is away or refuses: they wait, and end in bytes or in one error.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use credential::auth::AuthError;
use image_mount::{MountLog, NoticeKind};
use registry_sim::{Login, Options};
use tokio::sync::mpsc;

use crate::support::{Published, Script, archive, basic, blocking};

/// Longest wait for something that has been set in motion: a test that gets here has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// The next log line of this kind.
async fn heard(logs: &mut mpsc::Receiver<MountLog>, kind: NoticeKind) -> String {
    let listen = async {
        loop {
            let log = logs.recv().await.expect("the mount process lives");
            if log.kind == kind {
                return log.message;
            }
        }
    };
    let heard = tokio::time::timeout(PATIENCE, listen).await;
    heard.unwrap_or_else(|_| panic!("no {kind:?} in the log"))
}

fn one_file() -> Vec<u8> {
    archive("seq 100000 > file")
}

fn content() -> Vec<u8> {
    let lines = (1..=100_000).map(|number| format!("{number}\n"));
    lines.collect::<String>().into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_waits_out_an_outage() {
    let image = Published::new(&[one_file()]).await;
    let mut mounted = image.mount().await;
    let mut logs = mounted.process.take_logs().unwrap();
    image.sim.faults(|faults| faults.outage = true);
    let path = image.path("file");
    let reading = tokio::task::spawn_blocking(move || fs::read(path));
    heard(&mut logs, NoticeKind::Waiting).await;
    // What is known already is not held up.
    let path = image.path("file");
    assert_eq!(
        blocking(move || path.metadata().unwrap().len()).await,
        content().len() as u64
    );
    assert!(!reading.is_finished());
    image.sim.faults(|faults| faults.outage = false);
    assert!(reading.await.unwrap().unwrap() == content());
    heard(&mut logs, NoticeKind::Recovered).await;
    let stats = mounted.stop().await;
    assert!(stats.fs.retries > 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_waits_for_a_new_credential_and_takes_it() {
    let options = Options {
        login: Login::Basic,
        ..Options::default()
    };
    let password = options.password.clone();
    let image = Published::with(options, &[one_file()]).await;
    let auth = Script::answering(Ok(basic(1, &password)));
    let mut mounted = image.mount_with(Arc::clone(&auth)).await.unwrap();
    let mut logs = mounted.process.take_logs().unwrap();
    // The registry's password is changed first, holdfast's copy later.
    image.sim.set_password("another-one-now");
    let path = image.path("file");
    let reading = tokio::task::spawn_blocking(move || fs::read(path));
    let message = heard(&mut logs, NoticeKind::Denied).await;
    assert!(!message.contains(&password), "{message}");
    let message = "the credential is refused".to_owned();
    auth.answer(Err(AuthError::BadCredential { message }));
    let asked = auth.asked.load(SeqCst);
    auth.wait_for_questions(asked + 2).await;
    assert!(!reading.is_finished());
    auth.answer(Ok(basic(2, "another-one-now")));
    assert!(reading.await.unwrap().unwrap() == content());
    heard(&mut logs, NoticeKind::Recovered).await;
    mounted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_stays_away_is_one_error_with_its_reason() {
    let mut image = Published::new(&[one_file()]).await;
    image.request.read_deadline = Duration::from_millis(300);
    let mut mounted = image.mount().await;
    let mut logs = mounted.process.take_logs().unwrap();
    image.sim.faults(|faults| faults.unavailable = u32::MAX);
    let path = image.path("file");
    let error = blocking(move || fs::read(path)).await.unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::IO.raw_os_error())
    );
    let message = heard(&mut logs, NoticeKind::Failed).await;
    assert!(message.contains("503"), "{message}");
    // An error is not kept: the next reader asks again.
    image.sim.faults(|faults| faults.unavailable = 0);
    let path = image.path("file");
    assert!(blocking(move || fs::read(path)).await.unwrap() == content());
    mounted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_credential_ends_a_read_at_once() {
    let image = Published::with(
        Options {
            login: Login::Basic,
            ..Options::default()
        },
        &[one_file()],
    )
    .await;
    let revoked = AuthError::Revoked {
        message: "credential ghcr.io was removed".to_owned(),
    };
    let auth = Script::answering(Err(revoked));
    let mut mounted = image.mount_with(auth).await.unwrap();
    let mut logs = mounted.process.take_logs().unwrap();
    let path = image.path("file");
    let reading = tokio::time::timeout(PATIENCE, blocking(move || fs::read(path)));
    let error = reading
        .await
        .expect("long before the deadline")
        .unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::IO.raw_os_error())
    );
    let message = heard(&mut logs, NoticeKind::Failed).await;
    assert!(message.contains("was removed"), "{message}");
    mounted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_can_be_killed_while_it_waits() {
    let image = Published::new(&[one_file()]).await;
    let mut mounted = image.mount().await;
    let mut logs = mounted.process.take_logs().unwrap();
    image.sim.faults(|faults| faults.outage = true);
    let mut reader = Command::new("cat")
        .arg(image.path("file"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    heard(&mut logs, NoticeKind::Waiting).await;
    reader.kill().unwrap();
    let ended = tokio::time::timeout(PATIENCE, blocking(move || reader.wait())).await;
    assert!(!ended.expect("it ends at once").unwrap().success());
    image.sim.faults(|faults| faults.outage = false);
    let path = image.path("file");
    assert!(blocking(move || fs::read(path)).await.unwrap() == content());
    mounted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_is_asked_for_once_by_many_readers() {
    let options = Options {
        login: Login::Basic,
        ..Options::default()
    };
    let password = options.password.clone();
    let script = "for i in $(seq 20); do head -c 700000 /dev/urandom > $i; done";
    let image = Published::with(options, &[archive(script)]).await;
    let auth = Script::answering(Ok(basic(1, &password)));
    let mounted = image.mount_with(Arc::clone(&auth)).await.unwrap();
    let readers = (1..=20).map(|number| {
        let path = image.path(&number.to_string());
        tokio::task::spawn_blocking(move || fs::read(path).unwrap().len())
    });
    for reader in readers.collect::<Vec<_>>() {
        assert_eq!(reader.await.unwrap(), 700_000);
    }
    assert_eq!(auth.asked.load(SeqCst), 1);
    let stats = mounted.stop().await;
    assert_eq!(stats.auth_requests, 1);
    assert!(
        stats.spans_present > 0 && stats.spans_present <= stats.spans,
        "{stats:?}"
    );
}
