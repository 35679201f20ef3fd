//! Text that a registry or an image wrote, wherever it is shown: nothing in it reaches a terminal
//! that could drive one.

use e2e::image::busybox;
use e2e::{Finished, Home};
use registry_sim::{Entry, Image, ImageBuilder, Layer, RawHost, RegistrySim, Step};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::wait_for_line;

/// Colours and cursor, a link (OSC 8), the clipboard (OSC 52), the same with C1 bytes, what
/// overwrites a line, what turns text around, what hides, and what ends a line elsewhere.
const HOSTILE: &str = "\u{1b}[2J\u{1b}[31m\u{1b}]8;;http://evil.example\u{7}link\u{1b}]8;;\u{7}\
    \u{1b}]52;c;ZXZpbA==\u{7}\u{9b}31m\u{9d}0;title\u{9c}\rover\u{8}\u{8}\u{7f}\
    \u{202e}txt.exe\u{2066}\u{61c}\u{200b}\u{ad}\u{2028}\u{2029}end";

/// Plain text that comes with it, so that it is known to have been shown.
const MARK: &str = "the-mark";

fn hostile() -> String {
    format!("{MARK}{HOSTILE}")
}

/// The first character that has no business in our output.
fn drives(text: &str) -> Option<char> {
    let is_invisible = |character| {
        matches!(character, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().find(|character| {
        (character.is_control() && *character != '\n') || is_invisible(*character)
    })
}

#[track_caller]
fn is_harmless(what: &str, finished: &Finished) {
    for text in [&finished.stdout, &finished.stderr] {
        assert_eq!(drives(text), None, "{what}: {text:?}");
    }
    let shown = finished.stdout.contains(MARK) || finished.stderr.contains(MARK);
    assert!(shown, "{what}: not shown at all: {finished:?}");
}

#[test]
fn what_a_registry_says_is_shown_harmless() {
    let errors = json!({ "errors": [{ "code": hostile(), "message": hostile() }] }).to_string();
    let page = format!("<html>{}</html>", hostile());
    let reply = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    let challenge = |scheme: &str| {
        let text = hostile().replace(['\r', '\n'], " ");
        format!(
            "HTTP/1.1 401 {MARK}\r\nWWW-Authenticate: {scheme} realm=\"http://{text}\",\
            service=\"{text}\"\r\nContent-Length: {}\r\n\r\n{MARK}",
            MARK.len()
        )
        .into_bytes()
    };
    for (what, bytes, must_show) in [
        ("a refusal", reply("403 Forbidden", &errors), true),
        ("a page", reply("403 Forbidden", &page), true),
        ("a defect", reply("418 Teapot", &errors), true),
        (
            "a reason",
            reply(&format!("403 {}", hostile().replace('\r', " ")), "{}"),
            false,
        ),
        ("a challenge", challenge("Bearer"), false),
        ("an unknown challenge", challenge("Magic"), false),
    ] {
        // The first answer, which tells how the registry wants to be spoken to, is a plain one.
        let plain = reply("200 OK", "{}");
        let host = RawHost::start(move |request| {
            let is_base = request.path() == "/v2/";
            vec![Step::Write(if is_base {
                plain.clone()
            } else {
                bytes.clone()
            })]
        });
        let name = format!("{}/acme/fn:v1", host.host());
        let home = Home::new();
        for json in [&[][..], &["--json"]] {
            let words = [
                &["image", "inspect", "--credential", "none", &name][..],
                json,
            ]
            .concat();
            let finished = home.run(&words);
            assert_ne!(finished.code, 0, "{what}");
            for text in [&finished.stdout, &finished.stderr] {
                assert_eq!(drives(text), None, "{what}: {text:?}");
            }
            let shown = finished.stderr.contains(MARK);
            assert!(
                shown || !must_show,
                "{what}: not shown at all: {finished:?}"
            );
        }
    }
}

/// A registry with one image, and its name.
fn registry_with(runtime: &Runtime, image: &Image) -> (RegistrySim, String) {
    let registry = runtime.block_on(RegistrySim::anonymous());
    registry.push("acme/fn", "v1", image);
    let name = format!("{}/acme/fn:v1", registry.host());
    (registry, name)
}

#[test]
fn what_an_image_says_of_itself_is_shown_harmless() {
    let runtime = Runtime::new().expect("a runtime");
    let home = Home::new();
    let image = busybox()
        .config("Labels", json!({ hostile(): hostile() }))
        .config("Env", json!([format!("A={}", hostile())]));
    let (_registry, name) = registry_with(&runtime, &image.build());
    for json in [&[][..], &["--json"]] {
        let words = [
            &["image", "inspect", "--credential", "none", &name][..],
            json,
        ]
        .concat();
        let finished = home.run(&words).ok();
        is_harmless("labels", &finished);
        // Escaped, not lost: a script gets what the image says.
        let labels = finished.json()["config"]["config"]["Labels"].clone();
        assert_eq!(labels[hostile()], Value::from(hostile()));
    }
    let run = |field: &str, value: Value| {
        let (_registry, name) = registry_with(&runtime, &busybox().config(field, value).build());
        home.run(&["run", "--credential", "none", &name])
    };
    is_harmless(
        "entry point",
        &run("Entrypoint", json!([format!("/bin/{}", hostile())])),
    );
    is_harmless("user", &run("User", json!(hostile())));
    // A directory of any name is made, and so not told of; nor is anything else.
    let made = run("WorkingDir", json!(hostile()));
    assert_eq!(drives(&made.stderr), None, "{made:?}");
}

#[test]
fn names_in_layers_are_shown_harmless() {
    let runtime = Runtime::new().expect("a runtime");
    let home = Home::new();
    let name = hostile();
    let linked = [Entry::hard_link(&name, "missing")];
    let below = [
        Entry::file(&name, ""),
        Entry::file(&format!("{name}/below"), ""),
    ];
    for (what, entries) in [("a link", &linked[..]), ("below a file", &below)] {
        let image = busybox().layer(Layer::gzip(entries)).build();
        let (_registry, name) = registry_with(&runtime, &image);
        let finished = home.run(&["run", "--credential", "none", &name, "true"]);
        assert_eq!(finished.code, 125, "{what}: {finished:?}");
        is_harmless(what, &finished);
    }
    let mut manifest: Value =
        serde_json::from_slice(&ImageBuilder::new().layer(Layer::gzip(&[])).build().manifest)
            .expect("our own");
    manifest["layers"][0]["mediaType"] = json!(hostile());
    let registry = runtime.block_on(RegistrySim::anonymous());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    registry.put_manifest("acme/fn", "v1", kind, manifest.to_string().as_bytes());
    let name = format!("{}/acme/fn:v1", registry.host());
    let finished = home.run(&["image", "inspect", "--credential", "none", &name]);
    assert_eq!(finished.code, 8, "{finished:?}");
    is_harmless("a media type", &finished);
}

#[test]
fn a_command_of_an_image_is_listed_harmless() {
    let runtime = Runtime::new().expect("a runtime");
    let home = Home::new();
    let script = format!("echo up; read line # {}", hostile());
    let image = busybox().config("Cmd", json!(["/bin/sh", "-c", script]));
    let (_registry, name) = registry_with(&runtime, &image.build());
    let mut child = home.spawn(&["run", "-i", "--credential", "none", &name]);
    wait_for_line(&mut child);
    for words in [&["ps"][..], &["ps", "--json"]] {
        is_harmless("ps", &home.run(words).ok());
    }
    drop(child.stdin.take());
    child.wait().expect("the child is waited for");
}
