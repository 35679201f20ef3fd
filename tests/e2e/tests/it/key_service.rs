//! A root key in a service: AWS KMS, which `moto` plays under its real name, and transit.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::home::finish;
use e2e::image::busybox;
use e2e::{Finished, Home};
use registry_sim::{Authority, Moto, Switchboard, TransitApi};
use tokio::runtime::Runtime;

use crate::canaries::assert_absent;
use crate::support::{PASSWORD, Stage};

const KMS: &str = "kms.eu-west-1.amazonaws.com";
const AWS_SECRET: &str = "canary/of+the+key+service";

/// A KMS, the way to it, and what the operator of a home says about it.
struct Kms {
    moto: Moto,
    proxy: Switchboard,
    runtime: Runtime,
    home: PathBuf,
}

impl Kms {
    fn start(home: &Home) -> Self {
        let authority = Authority::naming(&[KMS]);
        let moto = Moto::start_tls(&authority);
        let runtime = Runtime::new().expect("a runtime");
        let proxy = runtime.block_on(Switchboard::start(&[(KMS, moto.host())]));
        let kms = Self {
            moto,
            proxy,
            runtime,
            home: home.path().to_owned(),
        };
        std::fs::write(kms.path("ca.pem"), authority.pem()).expect("written");
        give_keys(&kms.path("aws.keys"));
        kms.configure(&kms.path("aws.keys").display().to_string(), "");
        kms
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// `more` stands before the section.
    fn configure(&self, credentials: &str, more: &str) {
        let ca_file = self.path("ca.pem").display().to_string();
        let mut text = format!("{more}\n[aws_kms]\n");
        let _ = writeln!(text, "credentials = {credentials:?}");
        let _ = writeln!(text, "ca_file = {ca_file:?}");
        std::fs::write(self.path("holdfast.toml"), text).expect("written");
    }

    fn new_key(&self) -> String {
        format!("aws-kms:{}", self.moto.new_kms_key())
    }

    fn command(&self, home: &Home, root_key: &str, words: &[&str]) -> Command {
        let mut command = home.command(words);
        command
            .env("HOLDFAST_CONFIG", self.path("holdfast.toml"))
            .env("HOLDFAST_ROOT_KEY", root_key)
            .env("HTTPS_PROXY", self.proxy.url());
        command
    }

    fn run(&self, home: &Home, root_key: &str, words: &[&str]) -> Finished {
        run(self.command(home, root_key, words), "")
    }
}

fn give_keys(file: &Path) {
    let keys = format!("aws_access_key_id = AKID\naws_secret_access_key = {AWS_SECRET}\n");
    std::fs::write(file, keys).expect("written");
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).expect("ours");
}

fn run(mut command: Command, input: &str) -> Finished {
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    finish(command.spawn().expect("the binary starts"), input)
}

fn silent(ended: Finished) -> Finished {
    for text in [&ended.stdout, &ended.stderr] {
        assert!(!text.contains(AWS_SECRET), "{text}");
    }
    ended
}

#[test]
fn a_root_key_in_kms_is_asked_with_what_the_operator_named() {
    let home = Home::new();
    let kms = Kms::start(&home);
    let key = kms.new_key();
    let verify = ["vault", "verify"];

    // What lies about in the environment is not what was named.
    std::fs::write(kms.path("empty.toml"), "").expect("written");
    let mut ambient = kms.command(&home, &key, &verify);
    ambient
        .env("HOLDFAST_CONFIG", kms.path("empty.toml"))
        .env("AWS_ACCESS_KEY_ID", "AKID")
        .env("AWS_SECRET_ACCESS_KEY", AWS_SECRET);
    silent(run(ambient, "")).fails(3, "has no credential");

    let set = kms.command(&home, &key, &["secret", "set", "plain"]);
    silent(run(set, "canary of a secret")).ok();
    silent(kms.run(&home, &key, &verify)).ok();
    assert!(!home.root_key().exists());

    let mode = |mode| {
        let permissions = PermissionsExt::from_mode(mode);
        std::fs::set_permissions(kms.path("aws.keys"), permissions).expect("ours");
    };
    mode(0o644);
    silent(kms.run(&home, &key, &verify)).fails(11, "is open to others (mode 0644)");
    silent(kms.run(&home, &key, &["doctor"])).fails(10, "checks failed");
    mode(0o600);
    std::fs::write(kms.path("aws.keys"), AWS_SECRET).expect("written");
    silent(kms.run(&home, &key, &verify)).fails(11, "no NAME=VALUE");
    std::fs::remove_file(kms.path("aws.keys")).expect("removed");
    silent(kms.run(&home, &key, &verify)).fails(11, "No such file");

    let directory = kms.path("credentials");
    std::fs::create_dir(&directory).expect("made");
    give_keys(&directory.join("kms"));
    kms.configure("credential:kms", "");
    let mut by_systemd = kms.command(&home, &key, &verify);
    by_systemd.env("CREDENTIALS_DIRECTORY", &directory);
    silent(run(by_systemd, "")).ok();
    silent(kms.run(&home, &key, &verify)).fails(11, "there is no $CREDENTIALS_DIRECTORY");
    // Who opens no vault needs none.
    silent(kms.run(&home, &key, &["ps"])).ok();
    give_keys(&kms.path("aws.keys"));
    kms.configure(&kms.path("aws.keys").display().to_string(), "");

    kms.run(&home, &key, &verify).ok();
    let other = kms.new_key();
    silent(kms.run(&home, &other, &verify)).fails(11, "was sealed under root key");
    let gone = format!("{}0000", &key[..key.len() - 4]);
    silent(kms.run(&home, &gone, &verify)).fails(11, "was sealed under root key");
    let alias = "aws-kms:arn:aws:kms:eu-west-1:123456789012:alias/mine";
    silent(kms.run(&home, alias, &verify)).fails(3, "is an alias");
    assert_absent(
        &home.data_dir(),
        &["canary of a secret".to_owned(), AWS_SECRET.to_owned()],
    );
}

#[test]
fn a_kms_that_is_away_is_told_and_works_again_after() {
    let home = Home::new();
    let mut kms = Kms::start(&home);
    let key = kms.new_key();
    let set = kms.command(&home, &key, &["secret", "set", "plain"]);
    run(set, "value").ok();
    let runtime = &kms.runtime;
    let line = runtime.block_on(Switchboard::start(&[(KMS, kms.moto.host())]));
    drop(std::mem::replace(&mut kms.proxy, line));
    let gone = runtime.block_on(Switchboard::start(&[]));
    let away = gone.url();
    drop(gone);
    let mut command = kms.command(&home, &key, &["secret", "list"]);
    command.env("HTTPS_PROXY", away);
    let ended = run(command, "").fails(6, "cannot be used");
    assert!(ended.stderr.contains("can be reached"), "{}", ended.stderr);
    kms.run(&home, &key, &["secret", "list"]).ok();
    kms.run(&home, &key, &["vault", "verify"]).ok();
}

/// From a file to KMS, to another of its keys and back, while containers start with a credential
/// that has to be opened for each.
#[test]
fn a_root_key_goes_to_kms_and_back_while_the_vault_is_used() {
    let stage = Stage::logged_in(busybox());
    let home = &stage.home;
    let kms = Kms::start(home);
    let file = home.root_key();
    let old = std::fs::read_to_string(&file).expect("a key");
    let digits = old.trim_end().rsplit(' ').next().expect("its digits");
    let (first, second) = (kms.new_key(), kms.new_key());
    let back = file.display().to_string();
    let keys = kms.path("aws.keys").display().to_string();
    for (from, to) in [(&back, &first), (&first, &second), (&second, &back)] {
        kms.configure(&keys, &format!("root_key_next = {to:?}"));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                let mut started = 0;
                while !stop.load(Ordering::Relaxed) || started == 0 {
                    kms.run(home, from, &["run", &stage.image, "true"]).ok();
                    started += 1;
                }
            });
            let rotated = kms.run(home, from, &["vault", "rotate-key", "--to", to]);
            stop.store(true, Ordering::Relaxed);
            silent(rotated).ok();
            running.join().expect("every start works");
        });
        let again = kms.run(home, from, &["vault", "rotate-key", "--to", to]);
        silent(again).fails(11, "is sealed under already");
        kms.configure(&keys, "");
        if from == &back {
            std::fs::remove_file(&file).expect("removed");
        }
        kms.run(home, to, &["run", &stage.image, "true"]).ok();
        kms.run(home, to, &["vault", "verify"]).ok();
        kms.run(home, from, &["vault", "verify"])
            .fails(11, "root key");
    }
    let canaries = [
        PASSWORD.to_owned(),
        AWS_SECRET.to_owned(),
        digits.to_owned(),
    ];
    assert_absent(&home.data_dir(), &canaries);
}

#[test]
fn a_root_key_in_transit_goes_to_its_newer_version_and_to_a_file() {
    let home = Home::new();
    let runtime = Runtime::new().expect("a runtime");
    let authority = Authority::new();
    let service = runtime.block_on(TransitApi::start(&authority, "hvs.canary"));
    service.rotate_key("transit/holdfast");
    let source = format!("vault-transit:https://{}/transit/holdfast", service.host());
    let path = |name: &str| home.path().join(name);
    std::fs::write(path("ca.pem"), authority.pem()).expect("written");
    std::fs::write(path("token"), "hvs.canary\n").expect("written");
    let mode = PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path("token"), mode).expect("ours");
    let configure = |next: Option<&str>| {
        let next = next.map_or_else(String::new, |next| format!("root_key_next = {next:?}\n"));
        let [token, ca_file] = ["token", "ca.pem"].map(|name| path(name).display().to_string());
        let text = format!("{next}[vault_transit]\ntoken = {token:?}\nca_file = {ca_file:?}\n");
        std::fs::write(path("holdfast.toml"), text).expect("written");
    };
    let ask = |root_key: &str, words: &[&str], input: &str| {
        let mut command = home.command(words);
        command
            .env("HOLDFAST_CONFIG", path("holdfast.toml"))
            .env("HOLDFAST_ROOT_KEY", root_key);
        let ended = run(command, input);
        let said = [ended.stdout.as_str(), &ended.stderr].concat();
        assert!(!said.contains("hvs.canary"), "{said}");
        ended
    };
    configure(None);
    ask(&source, &["secret", "set", "plain"], "value").ok();
    let nothing_newer = ask(&source, &["vault", "rotate-key"], "");
    let nothing_newer = nothing_newer.fails(11, "is sealed under already");
    assert!(nothing_newer.stderr.contains("newer version of it"));
    service.rotate_key("transit/holdfast");
    ask(&source, &["vault", "rotate-key"], "").ok();
    service.retire_before("transit/holdfast", 2);
    ask(&source, &["vault", "verify"], "").ok();
    service.set_outage(true);
    ask(&source, &["secret", "list"], "").fails(6, "cannot be used");
    service.set_outage(false);

    let file = home.root_key().display().to_string();
    configure(Some(&file));
    ask(&source, &["vault", "rotate-key", "--to", &file], "").ok();
    configure(None);
    ask(&file, &["vault", "verify"], "").ok();
    ask(&source, &["vault", "verify"], "").fails(11, "was sealed under root key");
    assert_absent(&home.data_dir(), &["hvs.canary".to_owned()]);
}
