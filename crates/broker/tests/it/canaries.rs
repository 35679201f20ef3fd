//! Passwords and tokens that must not be found anywhere.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use credential::ExposeSecret;
use credential::auth::{AuthScheme, RegistryAuth};
use registry_sim::{Login, Options, Realm};

use crate::support::{BASIC, Stage, ask, ask_after, image_at, refusal, request, scope, sim_with};

const GOOD: &str = "canary-good-5b1d9c";
const NEXT: &str = "canary-next-8e77f0";
const WRONG: &str = "canary-wrong-21aa4e";

#[tokio::test]
async fn canaries_are_in_no_file_and_no_text() {
    let mut secrets = vec![GOOD.to_owned(), NEXT.to_owned(), WRONG.to_owned()];
    let mut texts = Vec::new();
    let stage = Stage::new().await;
    for login in [Login::Basic, Login::Bearer(Realm::SameHost)] {
        let sim = sim_with(Options {
            login,
            password: GOOD.to_owned(),
            ..Options::default()
        })
        .await;
        sim.faults(|faults| faults.echo_authorization = true);
        let image = image_at(sim.host());
        let error = stage.login(sim.host(), WRONG).await.unwrap_err();
        texts.push(format!("{error} {error:?} {:?}", error.hint()));
        let asked = request(sim.host(), GOOD);
        texts.push(format!("{asked:?}"));
        texts.push(format!(
            "{:?}",
            stage.broker.login(stage.workspace, asked).await.unwrap()
        ));
        let lease = stage.lease(&image).await;
        let first = ask(&lease).await.unwrap();
        secrets.extend(token(&first));
        sim.set_password(NEXT);
        match ask_after(&lease, Some(refusal(&first, BASIC))).await {
            Err(error) => texts.push(format!("{error} {error:?}")),
            Ok(auth) => secrets.extend(token(&auth)),
        }
        texts.push(format!(
            "{:?}",
            stage.login(sim.host(), NEXT).await.unwrap()
        ));
        let second = ask(&lease).await.unwrap();
        secrets.extend(token(&second));
        texts.push(format!("{first:?} {second:?} {lease:?}"));
        texts.push(format!(
            "{:?}",
            stage.broker.check(stage.workspace, None).await
        ));
        texts.push(format!(
            "{:?}",
            stage.broker.explain(stage.workspace, &image).await
        ));
        texts.push(format!("{:?}", stage.broker.list(stage.workspace).await));
        let host = scope(sim.host());
        texts.push(format!(
            "{:?}",
            stage.broker.history(stage.workspace, &host).await
        ));
    }
    texts.push(format!("{:?}", stage.broker));
    texts.push(format!(
        "{:?}",
        stage.broker.vault().audit_tail(1000).await.unwrap()
    ));

    assert!(
        secrets.len() >= 5,
        "tokens are among the canaries: {}",
        secrets.len()
    );
    let mut places = files(stage.directory.path());
    assert!(places.len() >= 5, "{}", places.len());
    places.extend(
        texts
            .into_iter()
            .map(|text| ("a text".into(), text.into_bytes())),
    );
    for secret in &secrets {
        for form in forms(secret) {
            for (place, bytes) in &places {
                let found = bytes.windows(form.len()).any(|window| window == form);
                assert!(!found, "{secret} in {}", place.display());
            }
        }
    }
}

fn token(auth: &RegistryAuth) -> Option<String> {
    match &auth.scheme {
        AuthScheme::Bearer(token) => Some(token.expose_secret().to_owned()),
        _ => None,
    }
}

fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

/// Raw, and base64 at each of the three ways in which it can stand in a longer text.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.as_bytes().to_vec()];
    for before in 0..3 {
        let padded = [vec![0; before], secret.as_bytes().to_vec()].concat();
        let encoded = BASE64_STANDARD_NO_PAD.encode(padded);
        forms.push(encoded.as_bytes()[before * 2..encoded.len() - 2].to_vec());
    }
    forms
}
