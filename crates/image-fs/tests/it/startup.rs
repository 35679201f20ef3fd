//! What a program that nobody has seen start reads first: guessed from the image, with the system's
//! own programs and loader as the judge.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::time::Duration;

use image_fs::{FsOptions, Program};

use crate::layers::{Node, Shape, TestLayer, noise, tree_layer};
use crate::reads::Image;

const SPAN: usize = 64 * 1024;

/// Nobody reads it, and it lies between the others.
const UNREAD: usize = 4 * SPAN;

async fn at_rest() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn program(name: &str) -> Program {
    Program {
        name: name.to_owned(),
        working_dir: "/usr".to_owned(),
        path: String::new(),
        library_path: String::new(),
    }
}

/// The files that the system's loader loads for a program, links followed.
fn loaded_by(program: &str) -> BTreeSet<String> {
    let output = Command::new("ldd").arg(program).output().expect("ldd runs");
    let text = String::from_utf8(output.stdout).unwrap();
    let paths = text
        .split_ascii_whitespace()
        .filter(|word| word.starts_with('/'));
    let mut loaded: BTreeSet<String> = paths.map(real).collect();
    loaded.insert(real(program));
    loaded
}

fn real(path: &str) -> String {
    let path = fs::canonicalize(path).expect("it is there");
    path.to_str().unwrap().to_owned()
}

/// A layer of the machine's own files at their own places, with a file between any two that nothing
/// needs, and links as Debian has them.
fn machine(paths: &BTreeSet<String>, more: &[(&str, Node<'_>)]) -> TestLayer {
    let contents: BTreeMap<&String, Vec<u8>> = paths
        .iter()
        .map(|path| (path, fs::read(path).unwrap()))
        .collect();
    let names: Vec<String> = (0..=paths.len()).map(|at| format!("unread-{at}")).collect();
    let unread = noise(99, UNREAD);
    let mut nodes = vec![(names[0].as_str(), Node::File(&unread))];
    for ((path, content), name) in contents.iter().zip(&names[1..]) {
        nodes.push((path.trim_start_matches('/'), Node::File(content)));
        nodes.push((name, Node::File(&unread)));
    }
    for (link, target) in [
        ("bin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        nodes.push((link, Node::Link(target)));
    }
    let loader = real("/lib64/ld-linux-x86-64.so.2");
    nodes.push(("usr/lib64/ld-linux-x86-64.so.2", Node::Link(&loader)));
    let links: Vec<(String, String)> = paths
        .iter()
        .filter_map(|path| {
            let (directory, name) = path.rsplit_once('/')?;
            let (stem, _) = name.split_once(".so.")?;
            let major = name.split(".so.").nth(1)?.split('.').next()?;
            let link = format!("{directory}/{stem}.so.{major}");
            (link != *path).then(|| (link[1..].to_owned(), name.to_owned()))
        })
        .collect();
    nodes.extend(
        links
            .iter()
            .map(|(link, name)| (link.as_str(), Node::Link(name))),
    );
    for (path, node) in more {
        nodes.push((
            path,
            match node {
                Node::File(content) => Node::File(content),
                Node::Link(target) => Node::Link(target),
            },
        ));
    }
    tree_layer(&Shape::default(), &nodes)
}

/// Opens the image, lets it guess, and gives the bytes that came of files that nothing needs.
async fn guessed(layer: TestLayer, program: Program, needed: &BTreeSet<String>) {
    let image = Image::open_with(layer, FsOptions::default());
    image.fs.prefetch_program(program);
    at_rest().await;
    let requests = image.source.request_count();
    for path in needed {
        let inode = path
            .split('/')
            .filter(|name| !name.is_empty())
            .fold(image.fs.tree().root(), |inode, name| {
                image.fs.tree().lookup(inode, name.as_bytes()).unwrap()
            });
        let content = fs::read(path).unwrap();
        let found = image.fs.read_cached(inode, 0, content.len());
        assert!(
            found.is_some_and(|bytes| bytes == content),
            "{path} is not here"
        );
    }
    assert_eq!(image.source.request_count(), requests);
    let stats = image.fs.stats();
    let (spans, present) = image.fs.spans_present();
    let unread = (needed.len() + 1) * UNREAD / SPAN;
    assert!(
        present + unread / 2 <= spans,
        "{present} of {spans}, {unread} unread"
    );
    assert_eq!(stats.spans_prefetched, present as u64);
}

#[tokio::test(start_paused = true)]
async fn a_program_comes_with_its_loader_and_libraries() {
    let needed = loaded_by("/usr/bin/bash");
    assert!(needed.len() > 2, "{needed:?}");
    for name in ["bash", "/bin/bash", "../usr/bin/bash"] {
        guessed(machine(&needed, &[]), program(name), &needed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_script_comes_with_what_runs_it() {
    let mut needed = loaded_by("/usr/bin/bash");
    let script = ("srv/app", Node::File(b"#!/bin/bash -e\nexit\n"));
    guessed(machine(&needed, &[script]), program("/srv/app"), &needed).await;
    needed.extend(loaded_by("/usr/bin/env"));
    let script = ("srv/app", Node::File(b"#!/usr/bin/env bash\n"));
    let link = ("usr/start", Node::Link("/srv/app"));
    guessed(
        machine(&needed, &[script, link]),
        program("./start"),
        &needed,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_passed_over() {
    let mut cut = fs::read("/usr/bin/bash").unwrap();
    cut.truncate(5000);
    let endless = [&b"#!"[..], &[b'x'; 9000]].concat();
    let nodes = || {
        vec![
            ("usr/bin/cut", Node::File(&cut)),
            ("usr/bin/endless", Node::File(&endless)),
            ("usr/bin/empty", Node::File(b"")),
            ("usr/bin/itself", Node::File(b"#!/usr/bin/itself\n")),
            ("usr/bin/nothing", Node::File(b"#!\n")),
            ("usr/bin/loop", Node::Link("loop")),
            ("usr/bin/up", Node::Link("../../../../../usr")),
        ]
    };
    for name in [
        "cut",
        "endless",
        "empty",
        "itself",
        "nothing",
        "loop",
        "up",
        "",
        "/",
        ".",
        "..",
        "no/such",
        "/usr/bin/cut/x",
        "\0",
    ] {
        let image = Image::open(tree_layer(&Shape::default(), &nodes()));
        image.fs.prefetch_program(program(name));
        at_rest().await;
        let fetched = image.fs.stats().spans_prefetched;
        assert!(fetched <= 1, "{name}: {fetched}");
    }
}
