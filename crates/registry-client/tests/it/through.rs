//! A source that reads in its client's place.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use credential::auth::{
    AuthError, AuthFuture, AuthRequest, AuthSource, LocationFuture, LocationRequest,
    MAX_READ_BYTES, Pieces, ReadError, ReadFrom, ReadFuture, ReadRequest,
};
use futures::stream;
use reference::Digest;
use registry_client::{RegistryClient, RegistryError};

use crate::support::{QUICK, REPOSITORY, dialer, endpoint};

/// Nobody listens there.
const REGISTRY: &str = "127.0.0.1:1";

type Answer = fn(Bytes) -> Vec<Result<Bytes, ReadError>>;

/// Has bytes, gives no auth, and answers the next questions as it is told.
#[derive(Debug)]
struct Reader {
    blob: Bytes,
    answers: Mutex<Vec<Answer>>,
    asked: Mutex<Vec<Range<u64>>>,
}

impl AuthSource for Reader {
    fn auth<'a>(&'a self, _request: AuthRequest<'a>) -> AuthFuture<'a> {
        panic!("an auth was asked for");
    }

    fn location<'a>(&'a self, _request: LocationRequest<'a>) -> LocationFuture<'a> {
        Box::pin(async { Ok(ReadFrom::Source) })
    }

    fn read<'a>(&'a self, request: ReadRequest<'a>) -> ReadFuture<'a> {
        assert!(request.length().is_some(), "{request:?}");
        let range = request.range;
        self.asked
            .lock()
            .expect("nobody panicked")
            .push(range.clone());
        let bytes = |offset: u64| usize::try_from(offset).expect("it fits");
        let wanted = self.blob.slice(bytes(range.start)..bytes(range.end));
        let answer = self.answers.lock().expect("nobody panicked").pop();
        let pieces = match answer {
            Some(answer) => answer(wanted),
            None => vec![Ok(wanted)],
        };
        Box::pin(async move {
            match <[_; 1]>::try_from(pieces) {
                Ok([Err(error)]) => Err(error),
                Ok([whole]) => Ok(Box::pin(stream::iter([whole])) as Pieces),
                Err(pieces) => Ok(Box::pin(stream::iter(pieces)) as Pieces),
            }
        })
    }
}

fn away() -> ReadError {
    let message = "away".to_owned();
    AuthError::Unreachable { message }.into()
}

/// What is read of a blob through a source that answers so at first, and what was asked of it.
async fn read(
    blob: &Bytes,
    range: Range<u64>,
    answers: &[Answer],
) -> (Result<Bytes, RegistryError>, Vec<Range<u64>>) {
    let source = Arc::new(Reader {
        blob: blob.clone(),
        answers: Mutex::new(answers.iter().rev().copied().collect()),
        asked: Mutex::default(),
    });
    let own = Arc::clone(&source) as _;
    let client =
        RegistryClient::at_locations(&dialer(), endpoint(REGISTRY), own, QUICK).expect("a client");
    let (digest, size) = (Digest::sha256([7; 32]), blob.len() as u64);
    let read = client.blob_range(REPOSITORY, &digest, size, range).await;
    let asked = source.asked.lock().expect("nobody panicked").clone();
    (read, asked)
}

fn blob(length: u64) -> Bytes {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn a_source_that_reads_is_asked_for_no_auth_and_resumed() {
    let blob = blob(200_000);
    let broken: Answer = |wanted| vec![Ok(wanted.slice(..70_000)), Err(away())];
    let short: Answer = |wanted| vec![Ok(wanted.slice(..10)), Ok(wanted.slice(10..80_000))];
    let (whole, asked) = read(&blob, 100..199_000, &[broken, short]).await;
    assert_eq!(whole.unwrap(), blob.slice(100..199_000));
    assert_eq!(
        asked,
        [100..199_000, 70_100..199_000, 150_100..199_000],
        "each goes on where the one before ended"
    );
}

#[tokio::test]
async fn a_long_stretch_is_asked_for_in_parts() {
    let blob = blob(2 * MAX_READ_BYTES + 10);
    let size = blob.len() as u64;
    let (whole, asked) = read(&blob, 1..size, &[]).await;
    assert!(whole.unwrap() == blob.slice(1..));
    let parts = [
        1..MAX_READ_BYTES + 1,
        MAX_READ_BYTES + 1..2 * MAX_READ_BYTES + 1,
        2 * MAX_READ_BYTES + 1..size,
    ];
    assert_eq!(asked, parts);
}

#[tokio::test]
async fn a_source_that_sends_other_than_asked_is_not_believed() {
    let blob = blob(1000);
    let longer: Answer = |wanted| vec![Ok(wanted.clone()), Ok(wanted)];
    let longer_at_once: Answer = |wanted| vec![Ok([&wanted[..], b"more"].concat().into())];
    let corrupt: Answer = |_| {
        let message = "other bytes".to_owned();
        vec![Err(ReadError::Corrupt { message })]
    };
    for (what, answer) in [("longer", longer_at_once), ("corrupt", corrupt)] {
        let (read, asked) = read(&blob, 0..500, &[answer]).await;
        let error = read.unwrap_err();
        assert!(
            matches!(error, RegistryError::Corrupt { .. }),
            "{what}: {error}"
        );
        assert_eq!(asked.len(), 1, "{what} is not asked for again");
    }
    let (read, _) = read(&blob, 0..500, &[longer]).await;
    assert!(matches!(read, Err(RegistryError::Corrupt { .. })));
    let absent: Answer = |_| vec![Err(ReadError::NotFound)];
    let (read, asked) = self::read(&blob, 0..500, &[absent]).await;
    assert!(matches!(read, Err(RegistryError::NotFound { .. })));
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn a_source_says_why_it_does_not_read() {
    let blob = blob(1000);
    let refused: Answer = |_| {
        let message = "the lease has ended".to_owned();
        vec![Err(AuthError::Refused { message }.into())]
    };
    let (answer, asked) = read(&blob, 0..500, &[refused]).await;
    let error = answer.unwrap_err();
    assert_eq!(error.to_string(), "the lease has ended");
    assert_eq!(asked.len(), 1);
    let silent: Answer = |_| vec![Err(away())];
    let (answer, asked) = read(&blob, 0..500, &[silent; 20]).await;
    assert!(answer.unwrap_err().is_transient());
    assert!(asked.len() > 1, "it is asked again, and not for ever");
}

/// Sends its clients to the registry at first, gives them no auth there, and then reads itself.
#[derive(Debug)]
struct Turncoat {
    blob: Bytes,
    asked: AtomicUsize,
}

impl AuthSource for Turncoat {
    fn auth<'a>(&'a self, _request: AuthRequest<'a>) -> AuthFuture<'a> {
        let message = "nobody is given it any more".to_owned();
        Box::pin(async { Err(AuthError::Refused { message }) })
    }

    fn location<'a>(&'a self, _request: LocationRequest<'a>) -> LocationFuture<'a> {
        let is_first = self.asked.fetch_add(1, Ordering::Relaxed) == 0;
        let sent = if is_first {
            ReadFrom::Registry
        } else {
            ReadFrom::Source
        };
        Box::pin(async { Ok(sent) })
    }

    fn read<'a>(&'a self, _request: ReadRequest<'a>) -> ReadFuture<'a> {
        let whole = Ok(self.blob.clone());
        Box::pin(async { Ok(Box::pin(stream::iter([whole])) as Pieces) })
    }
}

#[tokio::test]
async fn a_source_that_gives_no_auth_any_more_is_asked_where_to_read() {
    let source = Arc::new(Turncoat {
        blob: blob(100),
        asked: AtomicUsize::new(0),
    });
    let own = Arc::clone(&source) as _;
    let client =
        RegistryClient::at_locations(&dialer(), endpoint(REGISTRY), own, QUICK).expect("a client");
    let digest = Digest::sha256([7; 32]);
    for _ in 0..2 {
        let read = client.blob_range(REPOSITORY, &digest, 100, 0..100).await;
        assert_eq!(read.unwrap(), source.blob);
    }
    let asked = source.asked.load(Ordering::Relaxed);
    assert_eq!(asked, 2, "the second answer is remembered");
}
