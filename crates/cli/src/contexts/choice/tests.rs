//! Who is asked, by what was typed and what is there.

use credential::ExposeSecret;

use super::*;

const FILE: &str = r#"
current = "team"
[contexts.team]
gateway = "https://team.example.com"
token = "hf_team"
ca_file = "/team.pem"
[contexts.plain]
gateway = "http://10.0.0.1:7230"
token = "hf_plain"
allow_plain_http = true
[contexts.clear]
gateway = "http://10.0.0.1:7231"
token = "hf_clear"
[contexts.bare]
gateway = "https://bare.example.com"
"#;

fn contexts(text: &str) -> Result<Contexts> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, mode).unwrap();
    Contexts::read(path)
}

fn gateway(url: &str) -> Given {
    Given {
        gateway: Some(url.to_owned()),
        ..Given::default()
    }
}

fn typed(name: &str) -> Given {
    Given {
        context: Some(Named::Typed(name.to_owned())),
        ..Given::default()
    }
}

/// Gateway, token and authority, or `own`, or the refusal.
fn asked(given: Given, own: OwnGateway, text: &str) -> String {
    match given.choose(|| own, || contexts(text)) {
        Ok(Asked::Own) => "own".to_owned(),
        Ok(Asked::Named(connection)) => {
            let token = connection.token.expose_secret();
            let ca_file = connection.ca_file.unwrap_or_default();
            format!("{} {token} {}", connection.gateway, ca_file.display())
        }
        Err(failure) => format!("{} ({})", failure.message, failure.hint.unwrap_or_default()),
    }
}

#[test]
fn the_nearest_is_asked() {
    use OwnGateway::{Answers, DoesNotAnswer, IsMeant};
    let team = "https://team.example.com hf_team /team.pem";
    let plain = "http://10.0.0.1:7230 hf_plain ";
    let by_environment = |name: &str| Given {
        context: Some(Named::ByEnvironment(name.to_owned())),
        ..Given::default()
    };
    let table = [
        (Given::default(), Answers, FILE, "own"),
        (Given::default(), IsMeant, FILE, "own"),
        (Given::default(), DoesNotAnswer, FILE, team),
        (Given::default(), DoesNotAnswer, "", "own"),
        (typed("plain"), Answers, FILE, plain),
        (by_environment("plain"), IsMeant, FILE, plain),
        (gateway("https://team.example.com/"), Answers, FILE, team),
        (typed("nowhere"), Answers, FILE, "has no context"),
        (
            Given::default(),
            DoesNotAnswer,
            "current = \"x\"",
            "has no context",
        ),
        (Given::default(), Answers, "broken", "own"),
    ];
    for (given, own, text, expected) in table {
        let case = format!("{given:?} {own:?}");
        let found = asked(given, own, text);
        assert!(found.contains(expected), "{case}: {found}");
    }
}

#[test]
fn a_token_goes_to_its_own_gateway_only() {
    let elsewhere = "https://elsewhere.example.com";
    let own = OwnGateway::Answers;
    let refused = asked(gateway(elsewhere), own, FILE);
    assert!(
        refused.contains("no token for https://elsewhere"),
        "{refused}"
    );
    assert!(refused.contains("HOLDFAST_TOKEN"), "{refused}");
    let with_token = Given {
        token: Some("hf_mine".into()),
        ..gateway(elsewhere)
    };
    assert_eq!(
        asked(with_token, own, FILE),
        format!("{elsewhere} hf_mine ")
    );
    let contradiction = Given {
        context: Some(Named::Typed("team".to_owned())),
        ..gateway(elsewhere)
    };
    let refused = asked(contradiction, own, FILE);
    assert!(refused.contains("leave out --context"), "{refused}");
    let of_environment = Given {
        context: Some(Named::ByEnvironment("team".to_owned())),
        token: Some("hf_mine".into()),
        ..gateway(elsewhere)
    };
    assert_eq!(
        asked(of_environment, own, FILE),
        format!("{elsewhere} hf_mine ")
    );
    assert!(asked(typed("bare"), own, FILE).contains("no token for https://bare"));
    let other = Given {
        token: Some("hf_mine".into()),
        ca_file: Some("/mine.pem".into()),
        ..typed("team")
    };
    assert_eq!(
        asked(other, own, FILE),
        "https://team.example.com hf_mine /mine.pem"
    );
    let no_token = Given {
        token: Some("secret".into()),
        ..typed("team")
    };
    let refused = asked(no_token, own, FILE);
    assert!(refused.contains("begin with hf_") && !refused.contains("secret"));
}

#[test]
fn a_token_goes_nowhere_in_the_clear() {
    let with_token = |url: &str| Given {
        token: Some("hf_mine".into()),
        ..gateway(url)
    };
    let own = OwnGateway::Answers;
    for url in [
        "https://gateway.example",
        "http://127.0.0.1:7230",
        "http://localhost:7230",
        "http://[::1]:7230",
    ] {
        assert_eq!(asked(with_token(url), own, ""), format!("{url} hf_mine "));
    }
    for url in [
        "http://gateway.example",
        "http://10.0.0.1:7230",
        "http://127.0.0.1.example",
    ] {
        let refused = asked(with_token(url), own, "");
        assert!(refused.contains("everyone on the way"), "{url}: {refused}");
        let allowed = Given {
            allow_plain_http: true,
            ..with_token(url)
        };
        assert_eq!(asked(allowed, own, ""), format!("{url} hf_mine "));
    }
    let refused = asked(typed("clear"), own, FILE);
    assert!(refused.contains("everyone on the way"), "{refused}");
    // The word of one context is no other's.
    let other = with_token("http://10.0.0.1:7231");
    let current = FILE.replace("current = \"team\"", "current = \"plain\"");
    let refused = asked(other, own, &current);
    assert!(refused.contains("everyone on the way"), "{refused}");
}
