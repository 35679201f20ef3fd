//! The file, as people and commands write it.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const TOKEN: &str = "hf_of-the-file";

const FILE: &str = r#"# Mine.
current = "here"  # for now
other = 5

[contexts.here]
gateway = "http://127.0.0.1:7230/" # on this machine
token = "hf_of-the-file"

[contexts.there]
gateway = "https://gateway.example.com"
token = "hf_of-another"
ca_file = "/etc/ssl/own.pem"
[contexts.plain]
gateway = "http://gateway.example.com"
allow_plain_http = true
"#;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(text: &str) -> Self {
        let place = Self::new();
        std::fs::create_dir(place.path().parent().unwrap()).unwrap();
        std::fs::write(place.path(), text).unwrap();
        place.mode(0o600);
        place
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("holdfast/config.toml")
    }

    fn mode(&self, mode: u32) {
        set_permissions(self.path(), Permissions::from_mode(mode)).unwrap();
    }

    fn read(&self) -> Result<Contexts> {
        Contexts::read(self.path())
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }

    fn add(&self, name: &str, gateway: &str) -> Result<()> {
        let context = Context {
            name: name.to_owned(),
            gateway: GatewayUrl::parse(gateway)?,
            token: Some(TOKEN.into()),
            ca_file: None,
            allow_plain_http: false,
        };
        change(self.path(), |contexts| contexts.set(&context))
    }
}

fn refused<T>(result: Result<T>, words: &str) {
    let failure = result.err().expect(words);
    let shown = format!("{failure:?}");
    assert!(shown.contains(words), "{words}: {shown}");
    assert!(!shown.contains("hf_of"), "{shown}");
}

#[test]
fn contexts_are_what_the_file_says() {
    let contexts = Place::with(FILE).read().unwrap();
    assert_eq!(contexts.current().unwrap().as_deref(), Some("here"));
    assert_eq!(contexts.names(), ["here", "there", "plain"]);
    let context = |name| contexts.context(name).unwrap();
    assert_eq!(context("here").gateway.to_string(), "http://127.0.0.1:7230");
    let token = context("here").token.unwrap();
    assert_eq!(token.expose_secret(), TOKEN);
    let authority = Path::new("/etc/ssl/own.pem");
    assert_eq!(context("there").ca_file.as_deref(), Some(authority));
    assert!(context("plain").token.is_none() && context("plain").allow_plain_http);
    refused(contexts.context("nowhere"), "no context");
    let empty = Place::new().read().unwrap();
    assert_eq!(empty.current().unwrap(), None);
    assert!(empty.names().is_empty());
}

#[test]
fn a_file_that_others_can_read_gives_no_token() {
    let place = Place::with(FILE);
    for mode in [0o644, 0o640, 0o604] {
        place.mode(mode);
        let contexts = place.read().unwrap();
        refused(contexts.context("here"), "chmod 600");
        contexts.context("plain").unwrap();
        refused(place.add("new", "https://a"), "chmod 600");
        refused(
            change(place.path(), |contexts| contexts.make_current("plain")),
            "chmod 600",
        );
        assert_eq!(place.text(), FILE);
    }
    for mode in [0o620, 0o602, 0o666] {
        place.mode(mode);
        refused(place.read(), "written by others");
    }
}

#[test]
fn files_that_are_wrong_are_refused_and_not_repeated() {
    let of = |fields: &str| format!("[contexts.x]\n{fields}");
    let table = [
        ("current = \"hf_of-the-file".to_owned(), "is not TOML"),
        ("contexts = 5".to_owned(), "no context"),
        ("[contexts]\nx = 5".to_owned(), "is no table"),
        (of("token = \"hf_of\""), "needs a gateway"),
        (of("gateway = \"a\"\ntokens = \"hf_of\""), "unknown field"),
        (of("gateway = \"http://a\"\ntoken = 5"), "is no text"),
        (
            of("gateway = \"http://a\"\nca_file = \"a.pem\""),
            "absolute",
        ),
        (
            of("gateway = \"http://a\"\nallow_plain_http = 1"),
            "neither",
        ),
        (of("gateway = \"hf_of-the-file\""), "no URL"),
        ("a".repeat((1 << 20) + 1), "longer than"),
    ];
    for (text, words) in table {
        let read = Place::with(&text).read();
        refused(read.and_then(|contexts| contexts.context("x")), words);
    }
    let current = Place::with("current = 5").read().unwrap().current();
    refused(current, "no name");
    let place = Place::with("");
    std::fs::write(place.path(), b"\xff").unwrap();
    refused(place.read(), "not UTF-8");
}

#[test]
fn what_somebody_wrote_stays() {
    let place = Place::with(FILE);
    place.add("here", "https://new.example.com/").unwrap();
    let expected = FILE.replace("http://127.0.0.1:7230/", "https://new.example.com");
    assert_eq!(place.text(), expected);
    let path = place.path();
    change(path.clone(), |contexts| contexts.remove("there")).unwrap();
    let (start, rest) = expected.split_once("\n[contexts.there]").unwrap();
    let (_, end) = rest.split_once("[contexts.plain]").unwrap();
    assert_eq!(place.text(), format!("{start}[contexts.plain]{end}"));
    change(path.clone(), |contexts| contexts.remove("here")).unwrap();
    let contexts = place.read().unwrap();
    assert_eq!(contexts.current().unwrap(), None, "it was the current one");
    assert_eq!(contexts.names(), ["plain"]);
    refused(
        change(path, |contexts| contexts.remove("here")),
        "no context",
    );
}

#[test]
fn a_file_is_made_for_its_owner_alone_and_a_link_is_followed() {
    let place = Place::new();
    place.add("a.b", "https://a.example.com").unwrap();
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
    assert_eq!(mode(&place.path()), 0o600);
    assert_eq!(mode(place.path().parent().unwrap()), 0o700);
    let text = "current = \"a.b\"\n\n[contexts.\"a.b\"]\ngateway = \"https://a.example.com\"\n\
                token = \"hf_of-the-file\"\n";
    assert_eq!(place.text(), text);
    let elsewhere = place.0.path().join("dotfiles.toml");
    std::fs::rename(place.path(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, place.path()).unwrap();
    place.add("b", "https://b.example.com").unwrap();
    assert!(place.path().is_symlink());
    assert_eq!(place.read().unwrap().names(), ["a.b", "b"]);
    let left = std::fs::read_dir(place.0.path()).unwrap().count();
    assert_eq!(left, 2, "no temporary file stays");
}

#[test]
fn other_ways_to_write_tables_are_understood() {
    for text in [
        "contexts = { x = { gateway = \"https://x\", token = \"hf_of\" } }\n",
        "contexts.x.gateway = \"https://x\"\n",
        "[contexts]\nx = { gateway = \"https://x\", unknown = 5 }\n",
        "[contexts]\nx = 5\n",
    ] {
        let place = Place::with(text);
        place.add("x", "https://other").unwrap();
        place.add("y", "https://y").unwrap();
        let contexts = place.read().unwrap();
        for (name, gateway) in [("x", "https://other"), ("y", "https://y")] {
            let context = contexts.context(name).unwrap();
            assert_eq!(context.gateway.to_string(), gateway);
            assert!(context.token.is_some(), "{}", place.text());
        }
    }
}

#[test]
fn of_two_who_change_it_one_waits() {
    let place = Place::with(FILE);
    let changed = change(place.path(), |_| {
        refused(place.add("x", "https://x"), "try again");
        Ok(())
    });
    changed.unwrap();
    place.add("x", "https://x").unwrap();
}

#[test]
fn tokens_and_names_have_a_form() {
    for wrong in ["", "hf_", "secret", "hf_a b", "hf_ä", "Bearer hf_x"] {
        assert!(check_token(&wrong.into()).is_err(), "{wrong}");
    }
    let longest = format!("hf_{}", "x".repeat(TOKEN_LIMIT_BYTES));
    check_token(&longest.as_str().into()).unwrap();
    assert!(check_token(&format!("{longest}x").into()).is_err());
    for wrong in ["", "a b", "a/b", "ä", "a\n"] {
        assert!(parse_name(wrong).is_err(), "{wrong}");
    }
    assert_eq!(parse_name("team-1.eu"), Ok("team-1.eu".to_owned()));
}
