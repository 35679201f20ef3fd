//! The files of a program, under the hash by which the client knows them.

use beta9_protocol::gateway::{HeadObjectRequest, HeadObjectResponse, PutObjectRequest};
use bytes::Bytes;
use control_store::TokenScope;
use futures::stream;

use super::client::{Beta9, refusal};
use crate::support::Stage;

/// What the client's uploads come in.
const PIECE_BYTES: usize = 4 << 20;
const LIMIT_BYTES: usize = 64 << 20;

/// A hash as clients have one; nothing has to do with the bytes.
pub(crate) fn hash(digit: char) -> String {
    String::from(digit).repeat(64)
}

impl Beta9 {
    pub(crate) async fn head(&self, hash: &str) -> HeadObjectResponse {
        let request = self.ask(HeadObjectRequest {
            hash: hash.to_owned(),
            supports_put_headers: true,
        });
        let reply = self.gateway().head_object(request).await;
        reply.unwrap().into_inner()
    }

    /// The id, or why not.
    pub(crate) async fn put(&self, pieces: Vec<(&str, Bytes)>) -> Result<String, String> {
        let pieces: Vec<_> = pieces
            .into_iter()
            .map(|(hash, object_content)| PutObjectRequest {
                object_content,
                hash: hash.to_owned(),
                ..Default::default()
            })
            .collect();
        let request = self.ask(stream::iter(pieces));
        match self.gateway().put_object_stream(request).await {
            Ok(reply) => {
                let reply = reply.into_inner();
                assert!(reply.ok, "{reply:?}");
                Ok(reply.object_id)
            }
            refused => Err(refusal(refused)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_sent_once_and_found_by_the_clients_hash() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    let hash = hash('a');
    let before = beta9.head(&hash).await;
    assert!(before.ok && !before.exists && !before.use_workspace_storage);
    let piece = Bytes::from(vec![7; PIECE_BYTES]);
    let pieces = vec![
        (&*hash, piece.clone()),
        (&hash, piece),
        (&hash, Bytes::from("end")),
    ];
    let id = beta9.put(pieces).await.unwrap();
    let after = beta9.head(&hash).await;
    assert!(after.ok && after.exists);
    assert_eq!(after.object_id, id);
    let size = after.object_metadata.unwrap().size;
    assert_eq!(usize::try_from(size).unwrap(), 2 * PIECE_BYTES + 3);
    let theirs = stage.caller("theirs", &TokenScope::ALL).await;
    let theirs = Beta9::of(&stage, &theirs);
    assert!(
        !theirs.head(&hash).await.exists,
        "a hash alone finds nothing"
    );
    let other = beta9
        .put(vec![(&*hash, Bytes::from("other"))])
        .await
        .unwrap();
    assert_ne!(other, id);
    assert_eq!(
        beta9.head(&hash).await.object_id,
        other,
        "what came last counts"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_none_is_refused_in_words() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    let (one, other, short) = (hash('a'), hash('b'), "ab".repeat(31));
    let byte = || Bytes::from("a");
    let large = Bytes::from(vec![0; PIECE_BYTES]);
    let mut too_much = vec![(&*one, large); LIMIT_BYTES / PIECE_BYTES];
    too_much.push((&one, byte()));
    for (pieces, text) in [
        (vec![], "the upload has no pieces"),
        (vec![(&*short, byte())], "a hash has 64 hexadecimal digits"),
        (
            vec![("../../etc", byte())],
            "a hash has 64 hexadecimal digits",
        ),
        (
            vec![(&one, byte()), (&other, byte())],
            "the pieces of an upload have several hashes",
        ),
        (too_much, "object is larger than 67108864 bytes"),
    ] {
        let refused = beta9.put(pieces).await.unwrap_err();
        assert!(refused.starts_with(text), "{refused}");
    }
    assert!(!beta9.head(&one).await.exists);
    let request = beta9.ask(HeadObjectRequest::default());
    let text = refusal(beta9.gateway().head_object(request).await);
    assert_eq!(text, "a hash has 64 hexadecimal digits");
    let reader = stage.caller("team", &[TokenScope::Read]).await;
    let text = Beta9::of(&stage, &reader).put(vec![(&one, byte())]).await;
    assert!(
        text.unwrap_err()
            .starts_with("token has no scope \"call\"\n")
    );
}
