//! API tokens.

use ids::{TokenId, WorkspaceId};
use jiff::Timestamp;

use crate::store::ControlStore;
use crate::tokens::{NewToken, TokenScope};

fn token(name: &str, byte: u8) -> NewToken {
    NewToken {
        id: TokenId::new(),
        name: name.to_owned(),
        hash: [byte; 32],
        scopes: vec![TokenScope::Read, TokenScope::Call],
        expires_at: Some(Timestamp::from_second(2_000_000_000).unwrap()),
    }
}

pub(super) async fn tokens_are_found_by_their_hash_alone(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let (first, second) = (token("ci", 1), token("laptop", 2));
    let added = store.add_token(ours, &first).await.unwrap();
    assert_eq!((added.id, added.workspace), (first.id, ours));
    assert_eq!((&added.scopes, added.is_enabled), (&first.scopes, true));
    store.add_token(ours, &second).await.unwrap();
    let found = store.token_of_hash(&first.hash).await.unwrap();
    assert_eq!(found.as_ref(), Some(&added));
    assert_eq!(store.token_of_hash(&[3; 32]).await.unwrap(), None);
    let twice = NewToken {
        hash: first.hash,
        ..token("twice", 9)
    };
    store.add_token(theirs, &twice).await.unwrap_err();
    let long = token(&"a".repeat(4096), 4);
    store.add_token(ours, &long).await.unwrap_err();
    let listed = store.tokens(ours).await.unwrap();
    let names: Vec<_> = listed.iter().map(|token| token.name.as_str()).collect();
    assert_eq!(names, ["ci", "laptop"]);
    assert_eq!(store.tokens(theirs).await.unwrap(), []);
}

pub(super) async fn tokens_are_switched_off_by_their_workspace(
    store: &dyn ControlStore,
    ours: WorkspaceId,
    theirs: WorkspaceId,
) {
    let token = token("switched", 5);
    store.add_token(ours, &token).await.unwrap();
    let used_at = Timestamp::from_second(1_900_000_000).unwrap();
    store.note_token_use(token.id, used_at).await.unwrap();
    assert!(
        !store
            .set_token_enabled(theirs, token.id, false)
            .await
            .unwrap()
    );
    assert!(
        store
            .set_token_enabled(ours, token.id, false)
            .await
            .unwrap()
    );
    let found = store.token_of_hash(&token.hash).await.unwrap().unwrap();
    assert_eq!((found.is_enabled, found.used_at), (false, Some(used_at)));
    assert!(!store.remove_token(theirs, token.id).await.unwrap());
    assert!(store.remove_token(ours, token.id).await.unwrap());
    assert!(!store.remove_token(ours, token.id).await.unwrap());
    assert_eq!(store.token_of_hash(&token.hash).await.unwrap(), None);
}
