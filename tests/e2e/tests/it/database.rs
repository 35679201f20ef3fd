//! State on a PostgreSQL server, as an operator and a caller meet it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use e2e::Home;
use postgres_server::{GUARDED_PASSWORD, GUARDED_USER, PostgresServer};

use crate::functions::Stage;
use crate::serving::{Serving, WITHOUT_WORKER};
use crate::support::files_below;

/// The address of a new database, for a user that needs a password.
fn guarded(postgres: &PostgresServer) -> String {
    let address = postgres.new_database();
    let name = address.split(['/', '?']).nth(3).expect("a name");
    postgres.address(GUARDED_USER, name)
}

/// Has a home's state kept there.
fn keep_at(home: &Home, address: &str, password: &str) {
    let file = home.path().join("database.password");
    std::fs::write(&file, format!("{password}\n")).expect("written");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is ours");
    let file = file.display();
    home.configure(&format!(
        "database = \"{address}\"\ndatabase_password = \"{file}\"\n"
    ));
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
    let is_state = |path: &std::path::PathBuf| path.ends_with("state.db");
    assert!(!files_below(&stage.home.data_dir()).iter().any(is_state));

    // From another machine: the lock beside the files is not seen there, and that of the server is.
    let other = Home::new();
    keep_at(&other, &address, GUARDED_PASSWORD);
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
    stage.end();
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
