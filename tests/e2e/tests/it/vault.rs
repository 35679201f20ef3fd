//! What operators do with the vault: hold it against a noted end of its audit log, shred.

use e2e::Home;

#[test]
fn a_vault_that_was_put_back_disagrees_with_its_anchor() {
    let home = Home::new();
    let set = |value| {
        home.run_with_input(&["secret", "set", "plain"], value).ok();
    };
    let anchor = home.path().join("anchor");
    let anchor = anchor.to_str().expect("text");
    let check = ["vault", "verify", "--anchor", anchor];
    let note = ["vault", "verify", "--anchor", anchor, "--update"];
    set("one");
    home.run(&check).fails(3, "--update makes it");
    home.run(&note).ok();
    let noted = std::fs::read_to_string(anchor).expect("noted");
    let shown = home.run(&["vault", "verify"]);
    assert!(shown.stdout.contains(noted.trim_end()), "{}", shown.stdout);
    home.run(&check).ok();

    let data = home.data_dir();
    let older = std::fs::read(data.join("vault.db")).expect("a vault");
    set("two");
    home.run(&note).ok();
    set("three");
    home.run(&check).ok();
    let noted = std::fs::read_to_string(anchor).expect("noted");
    std::fs::write(data.join("vault.db"), older).expect("put back");
    for log in ["vault.db-wal", "vault.db-shm"] {
        let _none = std::fs::remove_file(data.join(log));
    }
    home.run(&["vault", "verify"]).ok();
    let refused = |words: &[&str], says: &str| {
        let ended = home.run(words).fails(11, "the vault is damaged");
        assert!(
            ended.stdout.contains(says),
            "{says:?} not in {}",
            ended.stdout
        );
    };
    refused(&check, "was put back");
    refused(&note, "was put back");
    assert_eq!(std::fs::read_to_string(anchor).expect("there"), noted);
    // Rows that come after it are others than those that were noted.
    for value in ["four", "five", "six", "seven"] {
        set(value);
    }
    refused(&check, "was rewritten");

    let inside = data.join("anchor");
    let inside = inside.to_str().expect("text");
    home.run(&["vault", "verify", "--anchor", inside])
        .fails(3, "put the anchor back as well");
    home.run(&["vault", "verify", "--update"])
        .fails(3, "--anchor");
}

#[test]
fn a_workspace_is_shredded_when_its_name_is_typed_again() {
    let home = Home::new();
    let of = |workspace, words: &[&str], input: &str| {
        let words = [&["--workspace", workspace], words].concat();
        home.run_with_input(&words, input)
    };
    for workspace in ["red", "blue"] {
        of(workspace, &["secret", "set", "plain"], "value").ok();
    }
    let shred = ["vault", "shred", "red"];
    home.run(&["vault", "shred", "green", "--yes"])
        .fails(5, "there is no workspace green");
    for answer in ["", "blue\n", "yes\n"] {
        home.run_with_input(&shred, answer)
            .fails(3, "nothing was done");
    }
    assert!(of("red", &["secret", "list"], "").stdout.contains("plain"));
    home.run_with_input(&shred, "red\n").ok();
    assert!(!of("red", &["secret", "list"], "").stdout.contains("plain"));
    assert!(of("blue", &["secret", "list"], "").stdout.contains("plain"));
    of("red", &["secret", "set", "plain"], "anew").ok();
    home.run(&["vault", "verify"]).ok();
    home.run(&["vault", "shred", "blue", "--yes"]).ok();
}
