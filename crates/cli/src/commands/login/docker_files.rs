//! Where docker and podman keep their logins, for the person who runs the command. Looked at when
//! somebody asks for it by `--from-docker`, and at no other time.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use credential::SecretString;
use credential::docker_config::DockerConfig;

use crate::failure::{Failure, Kind, Result};
use crate::secret_input;

/// What names standard input in a file's place.
const STDIN: &str = "-";

/// One file that was read.
#[derive(Debug)]
pub(super) struct DockerFile {
    /// As people are shown it.
    pub(super) name: String,
    pub(super) config: DockerConfig,
}

/// The file that was named, or else all that are there, nearest first.
pub(super) fn read(named: Option<&Path>) -> Result<Vec<DockerFile>> {
    match named {
        Some(path) if path.as_os_str() == STDIN => {
            let text = secret_input::from_stdin("the file of logins")?;
            Ok(vec![parse("standard input".to_owned(), &text)?])
        }
        Some(path) => Ok(vec![read_file(path)?]),
        None => read_all(&places(&|name| std::env::var_os(name))),
    }
}

fn read_all(places: &[PathBuf]) -> Result<Vec<DockerFile>> {
    let is_there = |path: &&PathBuf| match path.metadata() {
        Ok(_) => true,
        // What is there and may not be looked at is an error, when it is opened.
        Err(error) => error.kind() != ErrorKind::NotFound,
    };
    let found: Vec<&PathBuf> = places.iter().filter(is_there).collect();
    if found.is_empty() {
        let names: Vec<String> = places
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let message = "neither docker nor podman keeps a file of logins here";
        return Err(Failure::new(Kind::NotFound, message).hint(format!(
            "looked for {}; sudo has another home: name the file with --docker-config",
            names.join(", ")
        )));
    }
    found.into_iter().map(|path| read_file(path)).collect()
}

fn read_file(path: &Path) -> Result<DockerFile> {
    let text = secret_input::from_file("the file of logins", path)?;
    parse(path.display().to_string(), &text)
}

fn parse(name: String, text: &SecretString) -> Result<DockerFile> {
    match DockerConfig::parse(text) {
        Ok(config) => Ok(DockerFile { name, config }),
        Err(error) => Err(Failure::invalid(format!("{name}: {error}"))),
    }
}

/// In podman's order, with docker's files last. A file that the environment names is the only one,
/// as for podman.
fn places(environment: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let named = |name: &str| {
        let value = environment(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    if let Some(file) = named("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let home = named("HOME");
    let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let uid = rustix::process::geteuid().as_raw();
    let runtime = named("XDG_RUNTIME_DIR").map(|directory| directory.join("containers"));
    let runtime = runtime.unwrap_or_else(|| format!("/run/containers/{uid}").into());
    let config = named("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
    let docker = named("DOCKER_CONFIG").or_else(|| in_home(".docker"));
    let places = [
        Some(runtime.join("auth.json")),
        config.map(|directory| directory.join("containers/auth.json")),
        docker.map(|directory| directory.join("config.json")),
        in_home(".dockercfg"),
    ];
    places.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(environment: &[(&str, &str)], expected: &[&str]) {
        let value = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
        assert_eq!(places(&value), expected, "{environment:?}");
    }

    #[test]
    fn files_are_where_podman_and_docker_look() {
        let uid = rustix::process::geteuid().as_raw();
        let runtime = format!("/run/containers/{uid}/auth.json");
        let of_home = [
            &runtime,
            "/h/.config/containers/auth.json",
            "/h/.docker/config.json",
            "/h/.dockercfg",
        ];
        check(&[("HOME", "/h")], &of_home);
        check(&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "")], &of_home);
        check(&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/a")], &["/a"]);
        check(&[], &[&runtime]);
        let all = [
            ("HOME", "/h"),
            ("XDG_RUNTIME_DIR", "/r"),
            ("XDG_CONFIG_HOME", "/x"),
            ("DOCKER_CONFIG", "/d"),
        ];
        let of_all = [
            "/r/containers/auth.json",
            "/x/containers/auth.json",
            "/d/config.json",
            "/h/.dockercfg",
        ];
        check(&all, &of_all);
    }
}
