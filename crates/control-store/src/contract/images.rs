//! Images and grants.

use ids::{SecretId, WorkspaceId};
use jiff::Timestamp;
use reference::Digest;

use crate::images::{
    GrantOutcome, GrantProof, Image, ImageLayer, NewGrant, ProvenVersion, Publication, Python,
};
use crate::store::ControlStore;

fn digest(byte: u8) -> Digest {
    Digest::sha256([byte; 32])
}

fn publication(id: u8, manifest: u8, proof: GrantProof) -> Publication {
    let layer = |byte| ImageLayer {
        digest: digest(byte),
        size_bytes: u64::from(byte) << 40,
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
        diff_id: digest(byte + 1),
        index_root: [byte; 32],
    };
    Publication {
        image: Image {
            id: digest(id),
            typed: "r.example/app".to_owned(),
            canonical: "r.example/app:latest".to_owned(),
            origin: "r.example/app".to_owned(),
            manifest_digest: digest(manifest),
            config_digest: digest(3),
            layers: vec![layer(10), layer(20)],
            environment: vec![("MODE".to_owned(), "test".to_owned())],
            python: Some(Python {
                program: "python3".to_owned(),
                version: "3.11.2".to_owned(),
            }),
            config: Some(b"{}".to_vec()),
            created_at: Timestamp::from_millisecond(1_700_000_000_000 + i64::from(id)).unwrap(),
        },
        proof,
    }
}

pub(super) async fn publications_are_seen_by_their_workspace(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let published = publication(1, 2, GrantProof::Anonymous);
    let image = &published.image;
    let outcome = store.publish(ours, &published).await.unwrap();
    let grant = store
        .grant(ours, &image.id, &image.origin)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(outcome, GrantOutcome::Recorded(grant.id));
    assert_eq!(grant.proof, GrantProof::Anonymous);
    assert_eq!(
        store.image(ours, &image.id).await.unwrap().as_ref(),
        Some(image)
    );
    let listed = Image {
        config: None,
        ..image.clone()
    };
    assert_eq!(store.images(ours).await.unwrap(), [listed]);
    let alias = store.alias(ours, &image.canonical).await.unwrap().unwrap();
    assert_eq!(
        (alias.image_id, alias.manifest_digest),
        (digest(1), digest(2))
    );

    assert_eq!(store.image(theirs, &image.id).await.unwrap(), None);
    assert_eq!(store.images(theirs).await.unwrap(), []);
    assert_eq!(store.alias(theirs, &image.canonical).await.unwrap(), None);
    assert_eq!(
        store.grant(theirs, &image.id, &image.origin).await.unwrap(),
        None
    );
    assert_eq!(
        store
            .grant(ours, &image.id, "other.example/app")
            .await
            .unwrap(),
        None
    );
}

pub(super) async fn names_move_and_images_stay(store: &dyn ControlStore, ours: WorkspaceId) {
    let moved = publication(4, 5, GrantProof::Anonymous);
    store.publish(ours, &moved).await.unwrap();
    let alias = store
        .alias(ours, &moved.image.canonical)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (alias.image_id, alias.manifest_digest),
        (digest(4), digest(5))
    );
    let ids: Vec<_> = store
        .images(ours)
        .await
        .unwrap()
        .into_iter()
        .map(|image| image.id)
        .collect();
    assert_eq!(ids, [digest(4), digest(1)], "newest first");
}

pub(super) async fn an_image_is_read_from_where_it_was_proven_last(
    store: &dyn ControlStore,
    ours: WorkspaceId,
) {
    let first = publication(1, 2, GrantProof::Anonymous);
    let again = Publication {
        image: Image {
            typed: "other.example/app".to_owned(),
            canonical: "other.example/app:latest".to_owned(),
            origin: "other.example/app".to_owned(),
            python: None,
            config: None,
            created_at: Timestamp::now(),
            ..first.image.clone()
        },
        proof: GrantProof::Anonymous,
    };
    store.publish(ours, &again).await.unwrap();
    let expected = Image {
        python: first.image.python,
        config: first.image.config,
        created_at: first.image.created_at,
        ..again.image
    };
    let found = store.image(ours, &digest(1)).await.unwrap();
    assert_eq!(found, Some(expected));
}

pub(super) async fn images_are_bounded(store: &dyn ControlStore, ours: WorkspaceId) {
    let mut long = publication(11, 12, GrantProof::Anonymous);
    long.image.config = Some(vec![0; (4 << 20) + 1]);
    store.publish(ours, &long).await.unwrap_err();
    long.image.config = None;
    long.image.environment = vec![("LONG".to_owned(), "x".repeat(2 << 20))];
    store.publish(ours, &long).await.unwrap_err();
    assert_eq!(store.image(ours, &digest(11)).await.unwrap(), None);
}

pub(super) async fn older_proofs_do_not_replace_newer(store: &dyn ControlStore, ours: WorkspaceId) {
    let (one, other) = (SecretId::new(), SecretId::new());
    let with = |secret_id, version| GrantProof::Credential(ProvenVersion { secret_id, version });
    let table = [
        (with(one, 2), true),
        (with(one, 2), true),
        (with(one, 1), false),
        (with(one, 3), true),
        (with(other, 1), true),
        (GrantProof::Anonymous, true),
        (with(one, 1), true),
    ];
    let mut stands = None;
    for (proof, recorded) in table {
        let grant = NewGrant {
            image_id: digest(7),
            origin: "r.example/seven".to_owned(),
            proof,
        };
        let outcome = store.record_grant(ours, &grant).await.unwrap();
        assert_eq!(outcome != GrantOutcome::Superseded, recorded, "{proof:?}");
        stands = if recorded { Some(proof) } else { stands };
        let found = store
            .grant(ours, &grant.image_id, &grant.origin)
            .await
            .unwrap();
        assert_eq!(found.map(|grant| grant.proof), stands, "{proof:?}");
    }
}

pub(super) async fn a_refusal_stands_until_the_next_proof(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let (one, other) = (
        publication(31, 30, GrantProof::Anonymous),
        publication(32, 30, GrantProof::Anonymous),
    );
    let manifest = digest(30);
    let origin = one.image.origin.as_str();
    let last = async |of| store.last_proof(of, &manifest, origin).await.unwrap();
    assert_eq!(last(ours).await, None);
    for published in [&one, &other] {
        store.publish(ours, published).await.unwrap();
    }
    store.publish(theirs, &one).await.unwrap();
    assert_eq!(last(ours).await.unwrap().refused_at, None);
    let refuse = async |origin| store.note_refusal(ours, &manifest, origin).await.unwrap();
    assert_eq!(refuse("other.example/app").await, 0);
    assert_eq!(refuse(origin).await, 2);
    let before = Timestamp::now();
    assert!(last(ours).await.unwrap().refused_at.unwrap() <= before);
    assert_eq!(last(theirs).await.unwrap().refused_at, None);
    // Of the other image nothing has been proven anew, and what was last is.
    store.publish(ours, &other).await.unwrap();
    let newest = last(ours).await.unwrap();
    assert_eq!((newest.image_id, newest.refused_at), (digest(32), None));
    let first = store.grant(ours, &digest(31), origin).await.unwrap();
    assert!(first.unwrap().refused_at.is_some());
    // A credential is refused for all that it proved.
    let secret_id = SecretId::new();
    let proof = GrantProof::Credential(ProvenVersion {
        secret_id,
        version: 1,
    });
    let sealed = publication(31, 30, proof);
    store.publish(ours, &sealed).await.unwrap();
    let refuse = async |of| store.note_refused_credential(of, secret_id).await.unwrap();
    assert_eq!((refuse(theirs).await, refuse(ours).await), (0, 1));
    let first = store.grant(ours, &digest(31), origin).await.unwrap();
    assert!(first.unwrap().refused_at.is_some());
}

pub(super) async fn grants_go_with_their_secret(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let secret_id = SecretId::new();
    let proof = GrantProof::Credential(ProvenVersion {
        secret_id,
        version: 1,
    });
    for byte in [8, 9] {
        let grant = NewGrant {
            image_id: digest(byte),
            origin: "r.example/app".to_owned(),
            proof,
        };
        store.record_grant(ours, &grant).await.unwrap();
    }
    assert_eq!(store.revoke_grants_of(theirs, secret_id).await.unwrap(), 0);
    assert_eq!(store.revoke_grants_of(ours, secret_id).await.unwrap(), 2);
    assert_eq!(
        store
            .grant(ours, &digest(8), "r.example/app")
            .await
            .unwrap(),
        None
    );
    assert!(
        store
            .grant(ours, &digest(1), "r.example/app")
            .await
            .unwrap()
            .is_some()
    );
}
