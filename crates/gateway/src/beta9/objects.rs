//! The files of a user's program, as an archive that is not looked into here.
//!
//! The client knows an archive by a hash, which 0.1.291 makes of names and contents and 0.1.245 of
//! the archive itself: to us it is a name within the workspace, and says nothing about the bytes.
//! A refusal is a status, since of a reply without `ok` no client shows the reason.

use beta9_protocol::gateway::{
    HeadObjectRequest, HeadObjectResponse, ObjectMetadata, PutObjectRequest, PutObjectResponse,
};
use bytes::Bytes;
use control_store::Object;
use futures::{Stream, StreamExt, stream};
use tonic::{Status, Streaming};

use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::operations::objects::{ObjectNamed, PAUSE_LIMIT};
use crate::problem::{Kind, Problem};

/// Of a SHA-256, in hexadecimal.
const HASH_DIGITS: usize = 64;

/// Whether an archive is here. That it is not, in the words of `ok`, is no failure.
pub(super) async fn head(
    gateway: &Gateway,
    caller: &Caller,
    request: HeadObjectRequest,
) -> Result<HeadObjectResponse, Problem> {
    let name = parse_hash(&request.hash)?;
    let found = match gateway.object(caller, name).await {
        Ok(object) => Some(object),
        Err(problem) if problem.kind == Kind::NotFound => None,
        Err(problem) => return Err(problem),
    };
    Ok(HeadObjectResponse {
        ok: true,
        exists: found.is_some(),
        object_id: found.as_ref().map(object_id).unwrap_or_default(),
        object_metadata: found.as_ref().map(|object| ObjectMetadata {
            name: request.hash.clone(),
            size: i64::try_from(object.size_bytes).unwrap_or(i64::MAX),
        }),
        ..Default::default()
    })
}

/// Takes an archive in pieces, the first of which says what it is called.
pub(super) async fn put(
    gateway: &Gateway,
    caller: &Caller,
    mut pieces: Streaming<PutObjectRequest>,
) -> Result<PutObjectResponse, Problem> {
    let first = tokio::time::timeout(PAUSE_LIMIT, pieces.message()).await;
    let first = first.map_err(|_| Problem::invalid("the upload did not begin"))?;
    let first = first.map_err(|status| broken(&status))?;
    let first = first.ok_or_else(|| Problem::invalid("the upload has no pieces"))?;
    let hash = first.hash;
    let bytes = stream::iter([Ok(first.object_content)]).chain(rest(pieces, hash.clone()));
    let object = gateway
        .put_object(caller, parse_hash(&hash)?, bytes)
        .await?;
    Ok(PutObjectResponse {
        ok: true,
        object_id: object_id(&object),
        ..Default::default()
    })
}

/// The pieces after the first, all of the same archive.
fn rest(
    pieces: Streaming<PutObjectRequest>,
    hash: String,
) -> impl Stream<Item = Result<Bytes, Problem>> + Send + Unpin {
    pieces.map(move |piece| {
        let piece = piece.map_err(|status| broken(&status))?;
        if piece.hash != hash {
            return Err(Problem::invalid(
                "the pieces of an upload have several hashes",
            ));
        }
        Ok(piece.object_content)
    })
}

fn parse_hash(text: &str) -> Result<ObjectNamed<'_>, Problem> {
    if text.len() == HASH_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(ObjectNamed::Name(text));
    }
    Err(Problem::invalid(format!(
        "a hash has {HASH_DIGITS} hexadecimal digits"
    )))
}

fn broken(status: &Status) -> Problem {
    tracing::debug!(%status, "an upload broke off");
    Problem::invalid("the upload broke off")
}

fn object_id(object: &Object) -> String {
    object.id.uuid().to_string()
}
