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

/// What may be found nowhere, and where to look besides the files.
struct Hunt {
    stage: Stage,
    secrets: Vec<String>,
    texts: Vec<String>,
}

#[tokio::test]
async fn canaries_are_in_no_file_and_no_text() {
    let mut hunt = Hunt {
        stage: Stage::new().await,
        secrets: [GOOD, NEXT, WRONG].map(str::to_owned).to_vec(),
        texts: Vec::new(),
    };
    for login in [Login::Basic, Login::Bearer(Realm::SameHost)] {
        hunt.walk(login).await;
    }
    let broker = &hunt.stage.broker;
    let audit = broker.vault().audit_tail(1000).await.unwrap();
    hunt.texts.push(format!("{broker:?} {audit:?}"));

    let count = hunt.secrets.len();
    assert!(count >= 5, "tokens are among the canaries: {count}");
    let mut places = files(hunt.stage.directory.path());
    assert!(places.len() >= 5, "{}", places.len());
    let texts = hunt.texts.into_iter();
    places.extend(texts.map(|text| ("a text".into(), text.into_bytes())));
    for secret in &hunt.secrets {
        for form in forms(secret) {
            for (place, bytes) in &places {
                let found = bytes.windows(form.len()).any(|window| window == form);
                assert!(!found, "{secret} in {}", place.display());
            }
        }
    }
}

impl Hunt {
    /// A refused login, a good one, a refusal of what was given, a rotation, and all that tells.
    async fn walk(&mut self, login: Login) {
        let sim = sim_with(Options {
            login,
            password: GOOD.to_owned(),
            ..Options::default()
        })
        .await;
        sim.faults(|faults| faults.echo_authorization = true);
        let (broker, workspace) = (self.stage.broker.clone(), self.stage.workspace);
        let image = image_at(sim.host());
        let error = self.stage.login(sim.host(), WRONG).await.unwrap_err();
        self.tell(format!("{error} {error:?} {:?}", error.hint()));
        let asked = request(sim.host(), GOOD);
        self.tell(format!("{asked:?}"));
        self.tell(format!(
            "{:?}",
            broker.login(workspace, asked).await.unwrap()
        ));
        let lease = self.stage.lease(&image).await;
        let first = ask(&lease).await.unwrap();
        self.secrets.extend(token(&first));
        sim.set_password(NEXT);
        match ask_after(&lease, Some(refusal(&first, BASIC))).await {
            Err(error) => self.tell(format!("{error} {error:?}")),
            Ok(auth) => self.secrets.extend(token(&auth)),
        }
        let report = self.stage.login(sim.host(), NEXT).await.unwrap();
        let second = ask(&lease).await.unwrap();
        self.secrets.extend(token(&second));
        self.tell(format!("{report:?} {first:?} {second:?} {lease:?}"));
        self.tell(format!("{:?}", broker.check(workspace, None).await));
        self.tell(format!("{:?}", broker.explain(workspace, &image).await));
        self.tell(format!("{:?}", broker.list(workspace).await));
        let host = scope(sim.host());
        self.tell(format!("{:?}", broker.history(workspace, &host).await));
    }

    fn tell(&mut self, text: String) {
        self.texts.push(text);
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
