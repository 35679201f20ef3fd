//! Debian's `docker-registry`, started for one test: login by htpasswd, or by tokens of an issuer
//! in this process.
//!
//! Each registry listens on a free loopback port and keeps its data in a directory of its own, but
//! for the blobs of one that is given a bucket. It ends when the value is dropped, and with this
//! process however that ends.

mod issuer;
mod process;
mod push;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::authority::Authority;
use crate::image::Image;
use crate::moto::Bucket;
pub use issuer::Issuer;
use process::RegistryProcess;

/// The name under which registry and issuer know each other.
const SERVICE: &str = "debian-registry";

/// A running `docker-registry`.
#[derive(Debug)]
pub struct DebianRegistry {
    directory: TempDir,
    process: Option<RegistryProcess>,
    address: SocketAddr,
    host: String,
    access: Access,
    authority: Option<Authority>,
}

#[derive(Debug)]
enum Access {
    Htpasswd { username: String, password: String },
    Token(Issuer),
}

impl DebianRegistry {
    /// With a user name and a password.
    pub fn htpasswd(username: &str, password: &str) -> Self {
        Self::start_htpasswd(username, password, None)
    }

    /// The same over TLS, with a certificate of this authority.
    pub fn htpasswd_tls(username: &str, password: &str, authority: Authority) -> Self {
        Self::start_htpasswd(username, password, Some(authority))
    }

    /// With tokens of an issuer that knows this user.
    pub async fn token(username: &str, password: &str) -> Self {
        Self::start_token(username, password, None, None).await
    }

    /// The same over TLS, issuer included, with certificates of this authority.
    pub async fn token_tls(username: &str, password: &str, authority: Authority) -> Self {
        Self::start_token(username, password, Some(authority), None).await
    }

    /// With tokens, and blobs in a bucket: it sends readers there, by signed URLs.
    pub async fn token_in_bucket(username: &str, password: &str, bucket: &Bucket) -> Self {
        Self::start_token(username, password, None, Some(bucket)).await
    }

    fn start_htpasswd(username: &str, password: &str, authority: Option<Authority>) -> Self {
        let directory = temporary_directory();
        let file = directory.path().join("htpasswd");
        write_htpasswd(&file, username, password);
        let auth = json!({ "htpasswd": { "realm": "basic realm", "path": file } });
        let (username, password) = (username.to_owned(), password.to_owned());
        let config = config(directory.path(), &auth, authority.as_ref());
        let access = Access::Htpasswd { username, password };
        Self::start(directory, &config, access, authority)
    }

    async fn start_token(
        username: &str,
        password: &str,
        authority: Option<Authority>,
        bucket: Option<&Bucket>,
    ) -> Self {
        let directory = temporary_directory();
        let issuer = Issuer::start(username, password, authority.as_ref()).await;
        let bundle = directory.path().join("issuer.pem");
        fs::write(&bundle, issuer.ca_pem()).expect("writing to a temporary directory");
        let auth = json!({ "token": {
            "realm": issuer.url(), "service": SERVICE, "issuer": SERVICE, "rootcertbundle": bundle,
        } });
        let mut config = config(directory.path(), &auth, authority.as_ref());
        if let Some(bucket) = bucket {
            config["storage"] = in_bucket(bucket);
        }
        Self::start(directory, &config, Access::Token(issuer), authority)
    }

    fn start(
        directory: TempDir,
        config: &Value,
        access: Access,
        authority: Option<Authority>,
    ) -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        write_config(directory.path(), config, free);
        let process = RegistryProcess::start(&directory.path().join("config.yml"));
        let address = process.address();
        // When it is started again, it shall be found at the same place.
        write_config(directory.path(), config, address);
        let host = address.to_string();
        Self {
            directory,
            process: Some(process),
            address,
            host,
            access,
            authority,
        }
    }

    /// `host:port`, as it stands in an image name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The CA certificate to trust, when it speaks TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.authority.as_ref().map(Authority::pem)
    }

    /// The issuer of its tokens, when it takes tokens.
    pub fn issuer(&self) -> Option<&Issuer> {
        match &self.access {
            Access::Token(issuer) => Some(issuer),
            Access::Htpasswd { .. } => None,
        }
    }

    /// Changes the user's password. The registry reads the file anew when it has changed.
    pub fn set_password(&mut self, new: &str) {
        match &mut self.access {
            Access::Htpasswd { username, password } => {
                new.clone_into(password);
                write_htpasswd(&self.directory.path().join("htpasswd"), username, new);
            }
            Access::Token(issuer) => issuer.set_password(new),
        }
    }

    /// Changes what it keeps of a blob, under the blob's old name.
    pub fn tamper(&self, digest: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let hex = digest.strip_prefix("sha256:").expect("a sha256 digest");
        let blobs = "data/docker/registry/v2/blobs/sha256";
        let place = format!("{blobs}/{}/{hex}/data", &hex[..2]);
        let file = self.directory.path().join(place);
        let mut bytes = fs::read(&file).expect("the blob was pushed");
        change(&mut bytes);
        fs::write(&file, bytes).expect("writing to a temporary directory");
    }

    /// The process, for who sends it signals.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it is not stopped").pid()
    }

    /// Ends the process; connections to its port are refused from now on.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port, with the same data.
    pub fn start_again(&mut self) {
        let process = RegistryProcess::start(&self.directory.path().join("config.yml"));
        assert_eq!(
            process.address(),
            self.address,
            "docker-registry came back elsewhere"
        );
        self.process = Some(process);
    }

    /// Pushes an image, with rights that do not depend on the user's password.
    pub async fn push(&self, repository: &str, tag: &str, image: &Image) {
        let authorization = match &self.access {
            Access::Htpasswd { username, password } => push::basic(username, password),
            Access::Token(issuer) => format!("Bearer {}", issuer.push_token(repository)),
        };
        let scheme = if self.authority.is_some() {
            "https"
        } else {
            "http"
        };
        let base = format!("{scheme}://{}/v2/{repository}", self.host);
        push::push(&base, tag, image, &authorization, self.ca_pem()).await;
    }

    /// What lets `skopeo copy` push, with rights that do not depend on the user's password.
    pub fn skopeo_login(&self, repository: &str) -> String {
        match &self.access {
            Access::Htpasswd { username, password } => {
                format!("--dest-creds={username}:{password}")
            }
            Access::Token(issuer) => {
                format!("--dest-registry-token={}", issuer.push_token(repository))
            }
        }
    }

    /// The last lines that it has written, for a failing test to show.
    pub fn log_tail(&self) -> String {
        self.process
            .as_ref()
            .map(RegistryProcess::log_tail)
            .unwrap_or_default()
    }
}

fn temporary_directory() -> TempDir {
    TempDir::with_prefix("debian-registry-").expect("a temporary directory")
}

fn config(directory: &Path, auth: &Value, authority: Option<&Authority>) -> Value {
    let mut config = json!({
        "version": 0.1,
        "log": { "level": "info", "accesslog": { "disabled": true } },
        "storage": { "filesystem": { "rootdirectory": directory.join("data") } },
        "http": { "secret": "of-a-test" },
        "auth": auth,
    });
    if let Some(authority) = authority {
        let leaf = authority.leaf();
        let certificate = directory.join("tls.pem");
        let key = directory.join("tls.key");
        fs::write(&certificate, leaf.certificate.pem()).expect("writing to a temporary directory");
        fs::write(&key, leaf.key.serialize_pem()).expect("writing to a temporary directory");
        config["http"]["tls"] = json!({ "certificate": certificate, "key": key });
    }
    config
}

/// The keys are as good as any to `moto`.
fn in_bucket(bucket: &Bucket) -> Value {
    json!({ "s3": {
        "region": "us-east-1", "regionendpoint": bucket.endpoint, "bucket": bucket.name,
        "accesskey": "any", "secretkey": "any", "secure": false, "v4auth": true,
    } })
}

/// JSON is YAML, too.
fn write_config(directory: &Path, config: &Value, address: SocketAddr) {
    let mut config = config.clone();
    config["http"]["addr"] = json!(address.to_string());
    fs::write(directory.join("config.yml"), config.to_string())
        .expect("writing to a temporary directory");
}

/// A file for one user, with bcrypt. The password goes through a pipe: arguments can be seen.
fn write_htpasswd(file: &Path, username: &str, password: &str) {
    let mut child = Command::new("htpasswd")
        .args(["-n", "-i", "-B", username])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start htpasswd ({error}): run `cargo xtask setup`"));
    let mut stdin = child.stdin.take().expect("a piped stdin");
    stdin
        .write_all(password.as_bytes())
        .expect("writing to htpasswd");
    drop(stdin);
    let output = child.wait_with_output().expect("the output of htpasswd");
    assert!(output.status.success(), "htpasswd failed: {output:?}");
    // A new file under the old name: the registry never reads half of one.
    let new = file.with_extension("new");
    fs::write(&new, output.stdout).expect("writing to a temporary directory");
    fs::rename(&new, file).expect("renaming in a temporary directory");
}
