//! Secrets that must not be found anywhere, in any form.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use credential::ExposeSecret;

use crate::support::{Stage, contains, files, name};

const CANARIES: [&str; 4] = [
    "canary-4f1c8e2b7a-password",
    "canary \"quoted\\escaped\" 9d3e",
    "canary-\u{fc}ml\u{e4}ut-77aa01",
    "{\"private_key\":\"canary-c0ffee11\"}",
];

#[tokio::test]
async fn canaries_are_in_no_file_and_no_text() {
    let stage = Stage::new().await;
    let mut texts = Vec::new();
    for (number, canary) in CANARIES.iter().enumerate() {
        let secret = format!("secret-{number}");
        let sealed = stage.put(&secret, canary).await;
        let again = stage.put(&secret, canary).await;
        let opened = stage.open(&secret, None).await.unwrap();
        assert_eq!(opened.plaintext.expose_secret(), *canary);
        texts.push(format!("{opened:?} {sealed:?} {again:?}"));
    }
    stage.vault.rotate_root_key(None, "t").await.unwrap();
    let backup = stage.directory.path().join("backup.db");
    stage.vault.backup(&backup, "t").await.unwrap();
    stage
        .sql("UPDATE secret_version SET sealed = zeroblob(200) WHERE sealed IS NOT NULL")
        .await;
    for number in 0..CANARIES.len() {
        let error = stage
            .open(&format!("secret-{number}"), None)
            .await
            .unwrap_err();
        texts.push(format!("{error} {error:?} {:?}", error.hint()));
    }
    stage
        .vault
        .remove(stage.workspace, &name("secret-0"), "t")
        .await
        .unwrap();
    texts.push(format!("{:?}", stage.vault));
    texts.push(format!("{:?}", stage.vault.verify(None).await.unwrap()));
    texts.push(format!(
        "{:?}",
        stage.vault.list(stage.workspace).await.unwrap()
    ));
    texts.push(format!("{:?}", stage.vault.audit_tail(100).await.unwrap()));

    let mut places = files(stage.directory.path());
    assert!(places.len() >= 5, "{}", places.len());
    places.extend(
        texts
            .into_iter()
            .map(|text| ("a text".into(), text.into_bytes())),
    );
    for canary in CANARIES {
        for form in forms(canary) {
            for (place, bytes) in &places {
                assert!(!contains(bytes, &form), "{canary} in {}", place.display());
            }
        }
    }
}

/// The root key is in its own file and nowhere else.
#[tokio::test]
async fn the_root_key_is_in_its_file_alone() {
    let stage = Stage::new().await;
    stage.put("a", "one").await;
    let key = std::fs::read_to_string(stage.key_file()).unwrap();
    let digits = key
        .lines()
        .nth(2)
        .unwrap()
        .strip_prefix("key ")
        .unwrap()
        .to_owned();
    let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
    let raw: Vec<u8> = pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect();
    let base64 = BASE64_STANDARD_NO_PAD.encode(&raw);
    for (path, bytes) in files(&stage.directory.path().join("data")) {
        for form in [raw.as_slice(), digits.as_bytes(), base64.as_bytes()] {
            assert!(!contains(&bytes, form), "{}", path.display());
        }
    }
    assert!(!format!("{:?}", stage.vault).contains(&digits));
}

/// Raw, and base64 at each of the three ways in which it can stand in a longer text.
fn forms(canary: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![canary.as_bytes().to_vec()];
    for before in 0..3 {
        let padded = [vec![0; before], canary.as_bytes().to_vec()].concat();
        let encoded = BASE64_STANDARD_NO_PAD.encode(padded);
        // The first and last characters mix with what stands around.
        let (start, end) = (before * 2, encoded.len() - 2);
        forms.push(encoded.as_bytes()[start..end].to_vec());
    }
    forms
}
