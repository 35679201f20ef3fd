//! The end of the audit chain, noted outside: an older copy of the vault is noticed.

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
