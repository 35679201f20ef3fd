//! Processes on the same files that sign and rotate, and what a verifier of any moment knows.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};

use credential::ExposeSecret;
use dial::{DialPolicy, Dialer};
use registry_sim::signed_claims;
use tempfile::TempDir;
use tokio::task::JoinSet;
use vault::{RootKey, VaultPlace};

use super::*;
use crate::broker::BrokerPaths;

const URL: &str = "https://acme.example";
const AUDIENCE: &str = "sts.amazonaws.com";
const A_DAY_SECONDS: i64 = 24 * 3600;

#[derive(Debug, Default)]
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        let seconds = 1_800_000_000 + self.0.load(Ordering::Relaxed);
        Timestamp::from_second(seconds).unwrap()
    }
}

struct Stage {
    directory: TempDir,
    clock: Arc<HandClock>,
}

impl Stage {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            clock: Arc::default(),
        }
    }

    /// Another process on the same files.
    async fn open(&self) -> Broker {
        let url = IssuerUrl::parse(URL).unwrap();
        self.open_without_url().await.issuing_as(url)
    }

    async fn open_without_url(&self) -> Broker {
        let at = |name: &str| self.directory.path().join(name);
        let paths = BrokerPaths {
            vault: VaultPlace {
                data: at("data"),
                server: None,
                root_key: root_key(&at("etc/root.key")),
            },
            state: database::DatabaseAddress::File(at("data/state.db")),
        };
        let dialer = Dialer::new(DialPolicy::default());
        let broker = Broker::open_with(paths, dialer, Arc::clone(&self.clock) as _).await;
        broker.unwrap()
    }

    fn turn(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what keeps the key is not tested here"
)]
fn root_key(file: &std::path::Path) -> RootKey {
    RootKey::in_this_process(file)
}

async fn token(broker: &Broker, workspace: WorkspaceId) -> String {
    let token = broker
        .inner
        .issuer
        .identity_token(workspace, AUDIENCE)
        .await;
    token.unwrap().expose_secret().to_owned()
}

async fn keys(broker: &Broker) -> Value {
    broker.issuer_documents().await.unwrap().unwrap().keys
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_begin_at_once_have_the_same_first_keys() {
    let stage = Stage::new();
    let (one, other) = (stage.open().await, stage.open().await);
    let workspace = WorkspaceId::new();
    let asking: JoinSet<String> = [&one, &other]
        .into_iter()
        .cycle()
        .take(8)
        .cloned()
        .map(|broker| async move { token(&broker, workspace).await })
        .collect();
    let tokens = asking.join_all().await;
    let published = keys(&other).await;
    assert_eq!(published, keys(&one).await);
    for token in &tokens {
        let claims = signed_claims(&published, token).expect("a key that is published");
        assert_eq!(claims["sub"], format!("workspace:{workspace}"));
        assert_eq!(claims["aud"], AUDIENCE);
    }
    let seals = one.vault().audit_tail(100).await.unwrap();
    let seals = seals.iter().filter(|row| row.action == "seal").count();
    assert_eq!(seals, 1);
}

/// A verifier has the keys that were published up to a day ago.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_refused_while_keys_rotate() {
    let stage = Stage::new();
    let (one, other) = (stage.open().await, stage.open().await);
    let workspace = WorkspaceId::new();
    let mut cached: VecDeque<Value> = [keys(&one).await].into();
    for _ in 0..4 {
        stage.turn(A_DAY_SECONDS);
        let mut work = JoinSet::new();
        for broker in [&one, &other].into_iter().cycle().take(6) {
            let broker = broker.clone();
            work.spawn(async move {
                let mut tokens = Vec::new();
                for _ in 0..8 {
                    tokens.push(token(&broker, workspace).await);
                }
                tokens
            });
        }
        one.rotate_issuer_keys("t").await.unwrap();
        let tokens: Vec<String> = work.join_all().await.into_iter().flatten().collect();
        cached.push_front(keys(&one).await);
        for token in tokens {
            for known in cached.iter().take(2) {
                assert!(signed_claims(known, &token).is_some(), "{known}");
            }
        }
    }
    // What was only ever signed by a key of days ago is dead.
    assert_ne!(cached.front(), cached.back());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rotations_at_once_one_waits_for_its_day() {
    let stage = Stage::new();
    let (one, other) = (stage.open().await, stage.open().await);
    keys(&one).await;
    stage.turn(A_DAY_SECONDS);
    let rotated = tokio::join!(one.rotate_issuer_keys("t"), other.rotate_issuer_keys("t"));
    let outcomes = [rotated.0, rotated.1];
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(done, 1, "{outcomes:?}");
    let too_early =
        |outcome: &&Result<(), BrokerError>| matches!(outcome, Err(BrokerError::IssuerTooEarly(_)));
    assert_eq!(outcomes.iter().filter(too_early).count(), 1, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_signs_on_and_rotates_later() {
    let stage = Stage::new();
    let broker = stage.open().await;
    keys(&broker).await;
    stage.turn(-365 * A_DAY_SECONDS);
    let token = token(&broker, WorkspaceId::new()).await;
    assert!(signed_claims(&keys(&broker).await, &token).is_some());
    // The next key is one of a time to come: another is made.
    broker.rotate_issuer_keys("t").await.unwrap();
    assert!(signed_claims(&keys(&broker).await, &token).is_some());
    let error = broker.rotate_issuer_keys("t").await.unwrap_err();
    assert!(matches!(error, BrokerError::IssuerTooEarly(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_signs_is_opened_with_a_row_that_says_for_whom() {
    let stage = Stage::new();
    let broker = stage.open().await;
    let workspace = WorkspaceId::new();
    token(&broker, workspace).await;
    let rows = broker.vault().audit_tail(10).await.unwrap();
    let purpose = format!("sign for {workspace}");
    let opened = |row: &vault::AuditRow| row.action == "open" && row.actor == purpose;
    assert!(rows.iter().any(opened), "{rows:?}");
    assert_eq!(broker.vault().workspaces().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_wrong_hands_is_believed_no_more() {
    let stage = Stage::new();
    let (one, other) = (stage.open().await, stage.open().await);
    let workspace = WorkspaceId::new();
    let old = token(&one, workspace).await;
    one.replace_issuer_keys("t").await.unwrap();
    let published = keys(&other).await;
    assert_eq!(published, keys(&one).await);
    assert!(signed_claims(&published, &old).is_none());
    let new = token(&other, workspace).await;
    assert!(signed_claims(&published, &new).is_some());
}

/// Whatever was done to them, by who writes the file.
const DAMAGES: [&str; 3] = [
    "UPDATE secret_version SET sealed = x'00'",
    "UPDATE secret SET head_mac = x'00'",
    "UPDATE secret SET name = 'other'",
];

async fn damage(stage: &Stage, statement: &'static str) {
    let file = stage.directory.path().join("data/vault.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let done = sqlx::query(statement).execute(&mut connection).await;
    assert_eq!(done.unwrap().rows_affected(), 1);
}

async fn rows(broker: &Broker) -> usize {
    broker.vault().audit_tail(100).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_keys_are_replaced_and_never_made_in_silence() {
    for statement in DAMAGES {
        let stage = Stage::new();
        let broker = stage.open().await;
        let old = token(&broker, WorkspaceId::new()).await;
        damage(&stage, statement).await;
        let fresh = stage.open().await;
        for error in [
            fresh.issuer_documents().await.unwrap_err(),
            fresh.rotate_issuer_keys("t").await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), "damaged", "{statement}: {error}");
            let hint = error.hint().unwrap();
            assert!(hint.contains("--replace-all"), "{statement}: {hint}");
        }
        fresh.replace_issuer_keys("t").await.unwrap();
        let new = token(&fresh, WorkspaceId::new()).await;
        let published = keys(&fresh).await;
        assert!(signed_claims(&published, &new).is_some(), "{statement}");
        assert!(signed_claims(&published, &old).is_none(), "{statement}");
        // Another process has them too, though the first version may have the number of the old.
        assert_eq!(keys(&stage.open().await).await, published, "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_opened_are_one_row_however_many_ask() {
    let stage = Stage::new();
    keys(&stage.open().await).await;
    damage(&stage, DAMAGES[0]).await;
    let broker = stage.open().await;
    let before = rows(&broker).await;
    for _ in 0..2 {
        let asking: JoinSet<bool> = (0..8)
            .map(|_| broker.clone())
            .map(|broker| async move { broker.issuer_documents().await.is_err() })
            .collect();
        assert_eq!(asking.join_all().await, [true; 8]);
    }
    assert_eq!(rows(&broker).await, before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_and_opened_once_however_many_ask() {
    let stage = Stage::new();
    let broker = stage.open().await;
    let before = rows(&broker).await;
    let asking: JoinSet<Value> = (0..8)
        .map(|_| broker.clone())
        .map(|broker| async move { keys(&broker).await })
        .collect();
    let published = asking.join_all().await;
    assert!(published.iter().all(|keys| *keys == published[0]));
    // A seal and an opening.
    assert_eq!(rows(&broker).await, before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_url_no_keys_are_made() {
    let stage = Stage::new();
    let broker = stage.open_without_url().await;
    let before = rows(&broker).await;
    for refused in [
        broker.rotate_issuer_keys("t").await,
        broker.replace_issuer_keys("t").await,
    ] {
        assert!(matches!(refused, Err(BrokerError::NoIssuer)), "{refused:?}");
    }
    assert_eq!(rows(&broker).await, before);
}

const NINETY_DAYS_SECONDS: i64 = 90 * A_DAY_SECONDS;

async fn replacement(broker: &Broker) -> KeyReplacement {
    broker.replace_old_issuer_key().await.unwrap().replacement
}

async fn signs(broker: &Broker) -> String {
    let report = broker.issuer(WorkspaceId::new()).await.unwrap();
    report.keys[0].id.clone()
}

/// As long as a verifier may keep what it has fetched, tokens of before and after are believed.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_publishes_the_keys_replaces_an_old_one() {
    let stage = Stage::new();
    let (gateway, signer) = (stage.open().await, stage.open().await);
    let workspace = WorkspaceId::new();
    let mut cached = keys(&gateway).await;
    assert_eq!(replacement(&gateway).await, KeyReplacement::NotDue);
    let dead_after = 3601;
    for since_replaced in [0, dead_after, dead_after] {
        stage.turn(NINETY_DAYS_SECONDS - since_replaced - 1);
        assert_eq!(replacement(&gateway).await, KeyReplacement::NotDue);
        let (before, old) = (signs(&gateway).await, token(&signer, workspace).await);
        stage.turn(1);
        assert_eq!(replacement(&gateway).await, KeyReplacement::Replaced);
        assert_ne!(signs(&gateway).await, before);
        assert_eq!(replacement(&gateway).await, KeyReplacement::NotDue);
        let new = token(&signer, workspace).await;
        // By what was fetched before, and by what is published now.
        let published = keys(&gateway).await;
        for known in [&cached, &published] {
            for token in [&old, &new] {
                assert!(signed_claims(known, token).is_some(), "{known}");
            }
        }
        stage.turn(dead_after);
        cached = keys(&gateway).await;
        assert!(
            signed_claims(&cached, &old).is_none(),
            "its tokens are dead"
        );
    }
    let rows = gateway.vault().audit_tail(100).await.unwrap();
    let by_age = |row: &&vault::AuditRow| row.action == "seal" && row.actor.contains("was old");
    assert_eq!(rows.iter().filter(by_age).count(), 3, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_whose_documents_are_hosted_elsewhere_are_left_to_people() {
    let stage = Stage::new();
    let (gateway, person) = (stage.open().await, stage.open().await);
    keys(&person).await;
    stage.turn(NINETY_DAYS_SECONDS);
    let first = signs(&gateway).await;
    let left = |why| KeyReplacement::LeftToPeople(why);
    // A copy may be hosted that nobody said anything of.
    assert_eq!(replacement(&gateway).await, left(WhyLeft::NobodyAsks));
    keys(&gateway).await;
    person.note_issuer_export("t").await.unwrap();
    let look = gateway.replace_old_issuer_key().await.unwrap();
    let KeyReplacement::LeftToPeople(WhyLeft::Exported(_)) = look.replacement else {
        panic!("{look:?}");
    };
    let days = look.age.unwrap().as_secs() / 86400;
    assert_eq!((days, signs(&gateway).await), (90, first));
    // Also where all keys are replaced, which are not read.
    person.replace_issuer_keys("t").await.unwrap();
    stage.turn(NINETY_DAYS_SECONDS);
    let KeyReplacement::LeftToPeople(WhyLeft::Exported(_)) = replacement(&gateway).await else {
        panic!("the record went with the keys");
    };
    assert!(person.withdraw_issuer_export("t").await.unwrap());
    assert!(!person.withdraw_issuer_export("t").await.unwrap());
    assert_eq!(replacement(&gateway).await, KeyReplacement::Replaced);
    let rows = gateway.vault().audit_tail(100).await.unwrap();
    for action in ["seal", "remove"] {
        let is_record =
            |row: &vault::AuditRow| row.action == action && row.subject == "issuer-export";
        assert!(rows.iter().any(is_record), "{action}: {rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_one_replaces_an_old_key() {
    let stage = Stage::new();
    let (one, other) = (stage.open().await, stage.open().await);
    keys(&one).await;
    keys(&other).await;
    stage.turn(NINETY_DAYS_SECONDS);
    let (first, second) = tokio::join!(replacement(&one), replacement(&other));
    let replaced = [first, second]
        .into_iter()
        .filter(|what| *what == KeyReplacement::Replaced);
    assert_eq!(replaced.count(), 1, "{first:?} {second:?}");
    assert_eq!(replacement(&one).await, KeyReplacement::NotDue);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_are_no_keys_none_are_made_for_their_age() {
    let stage = Stage::new();
    for broker in [stage.open().await, stage.open_without_url().await] {
        let before = rows(&broker).await;
        let look = broker.replace_old_issuer_key().await.unwrap();
        assert_eq!((look.age, look.replacement), (None, KeyReplacement::NotDue));
        assert_eq!(rows(&broker).await, before);
    }
}
