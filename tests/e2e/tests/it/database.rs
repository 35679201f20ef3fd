//! Vault and state on a PostgreSQL server, as an operator and a caller meet them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use e2e::Home;
use e2e::image::busybox;
use postgres_server::{GUARDED_PASSWORD, GUARDED_USER, PostgresServer};

use crate::functions::Stage;
use crate::serving::{Serving, WITHOUT_WORKER};
use crate::support::{PASSWORD, Stage as Registry, USER, files_below};

/// The address of a new database, for a user that needs a password.
fn guarded(postgres: &PostgresServer) -> String {
    let address = postgres.new_database();
    let name = address.split(['/', '?']).nth(3).expect("a name");
    postgres.address(GUARDED_USER, name)
}

/// Has a home's vault and state kept there.
fn keep_at(home: &Home, address: &str, password: &str) {
    let file = home.path().join("database.password");
    std::fs::write(&file, format!("{password}\n")).expect("written");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is ours");
    let file = file.display();
    home.configure(&format!(
        "database = \"{address}\"\ndatabase_password = \"{file}\"\n"
    ));
}

/// Gives a home the root key of another, as an operator does of a second machine.
fn give_root_key(from: &Home, to: &Home) {
    let key = to.root_key();
    std::fs::create_dir_all(key.parent().expect("a directory")).expect("made");
    // Copied with its mode.
    std::fs::copy(from.root_key(), key).expect("copied");
}

/// Neither database is a file here.
fn assert_nothing_in_files(home: &Home) {
    let files = files_below(&home.data_dir());
    assert!(!files.is_empty());
    for name in ["vault.db", "state.db"] {
        assert!(!files.iter().any(|file| file.ends_with(name)), "{files:?}");
    }
}

#[test]
fn a_registry_is_used_with_its_password_sealed_on_a_server() {
    let postgres = PostgresServer::start();
    let address = guarded(&postgres);
    let stage = Registry::new(busybox());
    let home = &stage.home;
    keep_at(home, &address, GUARDED_PASSWORD);
    let helper = ["credential-helper", "list"];
    home.login(&stage.scope(), USER, PASSWORD).ok();
    let run = ["run", &stage.image, "echo", "ran"];
    assert_eq!(home.run(&run).ok().stdout, "ran\n");

    postgres.stop();
    for words in [&["credentials", "list"][..], &["vault", "verify"]] {
        let away = home.run(words).fails(6, "database");
        assert!(away.stderr.contains("hint: "), "{}", away.stderr);
    }
    let away = home.run(&helper);
    assert_eq!(away.code, 1);
    assert!(away.stdout.contains("database"), "{}", away.stdout);
    postgres.start_again();
    assert_eq!(home.run(&run).ok().stdout, "ran\n");
    let verified = home.run(&["vault", "verify"]).ok();
    assert!(verified.stdout.contains("1 secrets in 1 workspaces"));
    let backup = home.path().join("backup");
    home.run(&["vault", "backup", backup.to_str().expect("UTF-8")])
        .ok();
    assert!(backup.exists());
    home.run(&["vault", "rotate-key"]).ok();
    assert_eq!(home.run(&run).ok().stdout, "ran\n");
    let host = stage.registry.host();
    home.run(&["credentials", "share", &stage.scope(), "--with", "docker"])
        .ok();
    assert!(home.run(&helper).ok().stdout.contains(host));
    assert_nothing_in_files(home);

    // The sealed rows open on another machine with the root key, and with nothing else.
    let other = Home::new();
    keep_at(&other, &address, GUARDED_PASSWORD);
    other.run(&run).fails(125, "root key ");
    assert!(!other.root_key().exists(), "a new one would open nothing");
    give_root_key(home, &other);
    assert_eq!(other.run(&run).ok().stdout, "ran\n");
    assert_nothing_in_files(&other);
}

#[test]
fn a_vault_moves_to_a_server_by_its_backup() {
    let postgres = PostgresServer::start();
    let address = guarded(&postgres);
    let stage = Registry::logged_in(busybox());
    let home = &stage.home;
    let backup = home.path().join("backup");
    let backup = backup.to_str().expect("UTF-8");
    let run = ["run", &stage.image, "echo", "ran"];

    keep_at(home, &address, GUARDED_PASSWORD);
    let commands = [
        &["credentials", "list"][..],
        &["vault", "verify"],
        &["vault", "backup", backup],
        &WITHOUT_WORKER,
    ];
    for words in commands {
        let refused = home.run(words).fails(3, "vault is in ");
        for says in ["vault backup", "vault restore", "state backup"] {
            assert!(refused.stderr.contains(says), "{}", refused.stderr);
        }
    }
    let refused = home.run(&["credential-helper", "list"]);
    assert!(
        refused.stdout.contains("vault is in "),
        "{}",
        refused.stdout
    );
    home.configure("");
    home.run(&["vault", "backup", backup]).ok();
    keep_at(home, &address, GUARDED_PASSWORD);
    let restored = home.run(&["vault", "restore", backup]).ok();
    for file in ["vault.db is not read", "state.db is not read"] {
        assert!(restored.stderr.contains(file), "{}", restored.stderr);
        let looked = home.run(&["doctor"]);
        assert!(looked.stdout.contains(file), "{}", looked.stdout);
    }
    home.run(&["vault", "restore", backup])
        .fails(3, "has a vault already");
    home.run(&["vault", "verify"]).ok();
    assert_eq!(home.run(&run).ok().stdout, "ran\n");
}

#[test]
fn functions_are_called_with_the_state_on_a_server() {
    let postgres = PostgresServer::start();
    let address = guarded(&postgres);
    let mut stage = Stage::with(|home| {
        keep_at(home, &address, GUARDED_PASSWORD);
        Serving::start(home)
    });
    let first = stage.python(&["greet", "world"]).ok();
    assert!(first.stdout.contains("Hello, world!"));
    assert_nothing_in_files(&stage.home);

    // From another machine: the lock beside the files is not seen there, and that of the server is.
    let other = Home::new();
    keep_at(&other, &address, GUARDED_PASSWORD);
    give_root_key(&stage.home, &other);
    let refused = other.run(&WITHOUT_WORKER).fails(10, "gateway on ");
    let process = stage.serving().process().as_raw_nonzero();
    assert!(
        refused
            .stderr
            .contains(&format!("process {process} serves postgres://"))
    );

    let whoami = |stage: &Stage| stage.serving().get("/v1/whoami", &stage.token);
    assert_eq!(whoami(&stage).0, 200);
    postgres.stop();
    for _ in 0..2 {
        let (status, problem) = whoami(&stage);
        let problem = &problem["error"];
        assert_eq!((status, &problem["kind"]), (503, &"unavailable".into()));
        assert!(
            problem["message"]
                .as_str()
                .expect("a text")
                .contains("database")
        );
        assert!(!problem.to_string().contains("postgres://"), "{problem}");
    }
    stage
        .python(&["greet", "nobody"])
        .fails(1, "database does not answer");
    postgres.start_again();
    assert_eq!(whoami(&stage).0, 200);
    stage.python(&["greet", "again"]).ok();

    stage.serve_again(Serving::end);
    assert_eq!(whoami(&stage).0, 200, "the token is there");
    stage.python(&["greet", "anew"]).ok();
    let tasks = stage.home.run(&["tasks", "list", "--json"]).ok().json();
    assert_eq!(tasks.as_array().expect("a list").len(), 3, "{tasks}");
    let verified = stage.home.run(&["vault", "verify"]).ok();
    assert!(verified.stdout.contains(" 1 versions opened"));
    assert_nothing_in_files(&stage.home);
    stage.end();
}

/// A whole installation: what was called, whose tokens count, and what is sealed for it.
#[test]
fn an_installation_moves_to_a_server_and_back() {
    let postgres = PostgresServer::start();
    let address = guarded(&postgres);
    let mut stage = Stage::new();
    stage.python(&["greet", "before"]).ok();
    let copies = [
        stage.home.path().join("vault-1"),
        stage.home.path().join("state-1"),
    ];
    move_to(&mut stage, &copies, |home| {
        keep_at(home, &address, GUARDED_PASSWORD);
    });
    let moved = stage.python(&["greet", "there"]).ok();
    assert!(moved.stdout.contains("Hello, there!"), "{}", moved.stdout);
    assert_tasks(&stage, 2);

    for name in ["vault.db", "state.db"]
        .into_iter()
        .flat_map(|it| [it.into(), format!("{it}-wal")])
    {
        // A log is there where a process ended before it was moved into its file.
        let removed = std::fs::remove_file(stage.home.data_dir().join(&name));
        assert!(removed.is_ok() || name.ends_with("-wal"), "{name}");
    }
    let copies = [
        stage.home.path().join("vault-2"),
        stage.home.path().join("state-2"),
    ];
    move_to(&mut stage, &copies, |home| home.configure(""));
    stage.python(&["greet", "back"]).ok();
    assert_tasks(&stage, 3);
    stage.end();
}

/// Moves vault and state by their backups, the gateway's port kept.
fn move_to(stage: &mut Stage, [vault, state]: &[PathBuf; 2], configure: impl FnOnce(&Home)) {
    let (vault, state) = (text(vault), text(state));
    // A copy of what is in use is one of a moment.
    let written = stage
        .home
        .run(&["state", "backup", state, "--json"])
        .ok()
        .json();
    let length = std::fs::metadata(state).expect("written").len();
    assert_eq!(
        (&written["file"], &written["bytes"]),
        (&state.into(), &length.into())
    );
    stage
        .home
        .run(&["state", "backup", state])
        .fails(3, "already exists");
    stage
        .home
        .run(&["state", "restore", state, "--replace"])
        .fails(10, "another gateway serves");
    stage.serve_moved(|home| {
        std::fs::remove_file(state).expect("ours");
        home.run(&["state", "backup", state]).ok();
        home.run(&["vault", "backup", vault]).ok();
        configure(home);
        home.run(&["vault", "restore", vault]).ok();
        // Of the vault alone the secrets are found again, and nobody's token.
        home.run(&["tokens", "list"]).ok();
        home.run(&["state", "restore", state]).fails(3, "--replace");
        home.run(&["state", "restore", vault, "--replace"])
            .fails(11, "no backup of this kind");
        let restored = home
            .run(&["state", "restore", state, "--replace", "--json"])
            .ok()
            .json();
        assert!(restored["rows"].as_u64() > Some(10), "{restored}");
    });
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn assert_tasks(stage: &Stage, count: usize) {
    let (status, _) = stage.serving().get("/v1/whoami", &stage.token);
    assert_eq!(status, 200, "the token is there");
    let tasks = stage.home.run(&["tasks", "list", "--json"]).ok().json();
    assert_eq!(tasks.as_array().expect("a list").len(), count, "{tasks}");
}

#[test]
fn a_database_that_lets_nobody_in_is_told_without_the_password() {
    let postgres = PostgresServer::start();
    let address = guarded(&postgres);
    let home = Home::new();
    let list = ["tokens", "list"];

    keep_at(&home, &address, "canary-hunter2");
    let refused = home.run(&list).fails(10, "password authentication failed");
    assert!(!refused.stderr.contains("canary"), "{}", refused.stderr);
    let looked = home.run(&["doctor"]);
    assert!(
        looked.stdout.contains("password authentication failed"),
        "{}",
        looked.stdout
    );
    assert!(!looked.stdout.contains("canary"), "{}", looked.stdout);

    keep_at(&home, &address, GUARDED_PASSWORD);
    home.run(&list).ok();
    // What the driver would read of the environment is not read.
    let mut command = home.command(&list);
    command
        .env("PGPASSWORD", "other")
        .env("PGHOST", "192.0.2.1")
        .env("PGDATABASE", "other");
    command
        .env("PGUSER", "other")
        .env("PGPORT", "1")
        .env("PGSSLMODE", "verify-full");
    e2e::home::finish(e2e::home::spawn(command), "").ok();
    let mut command = home.command(&list);
    command.env("PGOPTIONS", "-c search_path=public");
    e2e::home::finish(e2e::home::spawn(command), "").fails(10, "PGOPTIONS");
    let looked = home.run(&["doctor"]);
    assert!(
        looked
            .stdout
            .contains(&format!("postgres://{GUARDED_USER}@")),
        "{}",
        looked.stdout
    );

    let file = home.path().join("database.password");
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("it is ours");
    home.run(&list).fails(10, "chmod 600");
    home.configure("database = \"postgres://a:canary@h/n\"\n");
    let refused = home.run(&list).fails(3, "holds a password");
    assert!(!refused.stderr.contains("canary"), "{}", refused.stderr);
    home.configure("database_password = \"/p\"\n");
    home.run(&list).fails(3, "and no database");

    postgres.stop();
    keep_at(&home, &address, GUARDED_PASSWORD);
    home.run(&list).fails(6, "database");
    let looked = home.run(&["doctor"]);
    assert!(
        looked.stdout.contains("start the server"),
        "{}",
        looked.stdout
    );
}
