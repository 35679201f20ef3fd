//! What runs in a container: an image's defaults and what the caller typed, merged by docker's
//! rules.
//!
//! Pure: text in, text out. The user stays as typed, because resolving it needs the image's files.

use std::path::{Component, Path};

use serde::Deserialize;

use crate::inside::shown_text;
use crate::user::{UserError, UserSpec};

/// `PATH` of an image that sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image configuration larger than this is refused; real ones are a few KiB.
pub const MAX_CONFIG_BYTES: usize = 8 << 20;

/// Arguments and environment together; the kernel's limit for a new program is about 2 MiB.
const MAX_ARGUMENT_BYTES: usize = 2 << 20;

/// The kernel's limit for one of them, less the zero byte at its end.
const MAX_ENTRY_BYTES: usize = (128 << 10) - 1;

/// The process of a container, ready but for the user's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Never empty.
    pub args: Vec<String>,
    /// `KEY=value`, each key once.
    pub env: Vec<String>,
    /// Absolute, without `.` and `..`.
    pub cwd: String,
    /// Resolved against the image when the container starts.
    pub user: UserSpec,
    /// Whether the process gets a terminal of its own.
    pub terminal: bool,
    /// Whether our standard input reaches it.
    pub stdin: bool,
}

/// What an image says about the process to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageDefaults {
    /// What always runs.
    pub entrypoint: Vec<String>,
    /// Arguments, or the whole command.
    pub cmd: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// `USER[:GROUP]`, possibly empty.
    pub user: String,
    /// Possibly empty.
    pub working_dir: String,
}

/// What the caller asks for instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Replaces the image's entrypoint, and drops its command.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command when not empty.
    pub args: Vec<String>,
    /// `KEY=value` sets, `KEY` alone removes.
    pub env: Vec<String>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Replaces the image's user.
    pub user: Option<String>,
    /// Asks for a terminal.
    pub terminal: bool,
    /// Lets our standard input through.
    pub stdin: bool,
}

/// Why no process can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// Neither the image nor the caller names one.
    #[error("no command: the image has none, give one after the image")]
    NoCommand,
    /// Not usable as a working directory.
    #[error("working directory `{}` is not an absolute path", shown_text(.0))]
    WorkingDir(String),
    /// Where a program could reach through descriptors of the machine.
    #[error("working directory `{}` leads into /proc", shown_text(.0))]
    WorkingDirInProc(String),
    /// Not `KEY=value`.
    #[error("environment entry `{}` has no name or holds a zero byte", shown_text(.0))]
    Environment(String),
    /// An argument that no program can be given.
    #[error("argument {0} of the command holds a zero byte")]
    Argument(usize),
    /// More than a program can be given.
    #[error("command and environment hold more than {MAX_ARGUMENT_BYTES} bytes")]
    TooLong,
    /// One alone is more than the kernel passes on.
    #[error("the command or an environment entry is longer than {MAX_ENTRY_BYTES} bytes")]
    EntryTooLong,
    /// Not a user.
    #[error(transparent)]
    User(#[from] UserError),
    /// The image's configuration cannot be read.
    #[error("image configuration is not valid: {0}")]
    Config(String),
}

impl ImageDefaults {
    /// Reads an image's configuration blob; everything but the process's defaults is ignored.
    pub fn from_config(blob: &[u8]) -> Result<Self, ProcessError> {
        if blob.len() > MAX_CONFIG_BYTES {
            return Err(ProcessError::Config(format!(
                "more than {MAX_CONFIG_BYTES} bytes"
            )));
        }
        let wire: WireImage = serde_json::from_slice(blob)
            .map_err(|error| ProcessError::Config(error.to_string()))?;
        let config = wire.config.unwrap_or_default();
        Ok(Self {
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            working_dir: config.working_dir.unwrap_or_default(),
        })
    }
}

#[derive(Deserialize)]
struct WireImage {
    config: Option<WireConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
}

/// Merges the two by docker's rules.
pub fn compose(
    image: &ImageDefaults,
    overrides: &Overrides,
    hostname: &str,
) -> Result<Process, ProcessError> {
    let args = arguments(image, overrides)?;
    let env = environment(image, overrides, hostname)?;
    check_lengths(&args, &env)?;
    let user = overrides.user.as_deref().unwrap_or(&image.user);
    Ok(Process {
        args,
        env,
        cwd: working_dir(image, overrides)?,
        user: UserSpec::parse(user)?,
        terminal: overrides.terminal,
        stdin: overrides.stdin,
    })
}

fn check_lengths(args: &[String], env: &[String]) -> Result<(), ProcessError> {
    let lengths = || args.iter().chain(env).map(String::len);
    if lengths().map(|length| length + 1).sum::<usize>() > MAX_ARGUMENT_BYTES {
        return Err(ProcessError::TooLong);
    }
    if lengths().any(|length| length > MAX_ENTRY_BYTES) {
        return Err(ProcessError::EntryTooLong);
    }
    Ok(())
}

fn arguments(image: &ImageDefaults, overrides: &Overrides) -> Result<Vec<String>, ProcessError> {
    let (entrypoint, default_args) = match &overrides.entrypoint {
        Some(entrypoint) => (entrypoint, &[][..]),
        None => (&image.entrypoint, &image.cmd[..]),
    };
    let args = if overrides.args.is_empty() {
        default_args
    } else {
        &overrides.args[..]
    };
    let all: Vec<String> = entrypoint.iter().chain(args).cloned().collect();
    if all.first().is_none_or(String::is_empty) {
        return Err(ProcessError::NoCommand);
    }
    match all.iter().position(|text| text.contains('\0')) {
        Some(index) => Err(ProcessError::Argument(index)),
        None => Ok(all),
    }
}

/// Docker's order: ours first, so that the image and then the caller can replace them.
fn environment(
    image: &ImageDefaults,
    overrides: &Overrides,
    hostname: &str,
) -> Result<Vec<String>, ProcessError> {
    let mut entries = vec![
        format!("PATH={DEFAULT_PATH}"),
        format!("HOSTNAME={hostname}"),
    ];
    if overrides.terminal {
        entries.push(String::from("TERM=xterm"));
    }
    for entry in image.env.iter().chain(&overrides.env) {
        let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key);
        if key.is_empty() || entry.contains('\0') {
            return Err(ProcessError::Environment(entry.clone()));
        }
        let place = entries.iter().position(|old| key_of(old) == key);
        match (place, key.len() < entry.len()) {
            (Some(place), true) => entries[place].clone_from(entry),
            (Some(place), false) => {
                entries.remove(place);
            }
            (None, true) => entries.push(entry.clone()),
            (None, false) => {}
        }
    }
    Ok(entries)
}

fn key_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

/// The value of a variable in `KEY=value` entries.
pub(crate) fn variable<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter()
        .filter_map(|entry| entry.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn working_dir(image: &ImageDefaults, overrides: &Overrides) -> Result<String, ProcessError> {
    let typed = overrides
        .working_dir
        .as_deref()
        .filter(|text| !text.is_empty());
    if let Some(typed) = typed
        && !typed.starts_with('/')
    {
        return Err(ProcessError::WorkingDir(typed.to_owned()));
    }
    let text = typed.unwrap_or(&image.working_dir);
    if text.contains('\0') {
        return Err(ProcessError::WorkingDir(text.to_owned()));
    }
    let path = clean(text);
    if leads_to_descriptors(Path::new(&path)) {
        return Err(ProcessError::WorkingDirInProc(path));
    }
    Ok(path)
}

/// Whether a path is where the runtime's own descriptors can be reached.
pub(crate) fn leads_to_descriptors(path: &Path) -> bool {
    let places = [
        "/proc",
        "/dev/fd",
        "/dev/stdin",
        "/dev/stdout",
        "/dev/stderr",
    ];
    places.iter().any(|place| path.starts_with(place))
}

/// An absolute path without `.`, `..` and double slashes; a relative one starts at `/`.
fn clean(text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => parts.extend(name.to_str()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn commands() {
        type Row<'a> = (
            &'a [&'a str],
            &'a [&'a str],
            Option<&'a [&'a str]>,
            &'a [&'a str],
            &'a [&'a str],
        );
        // image entrypoint, image cmd, typed entrypoint, typed args, result
        let table: &[Row<'_>] = &[
            (&[], &["sh"], None, &[], &["sh"]),
            (&["e"], &["c"], None, &[], &["e", "c"]),
            (&["e"], &["c"], None, &["a", "b"], &["e", "a", "b"]),
            (&["e"], &["c"], Some(&["f"]), &[], &["f"]),
            (&["e"], &["c"], Some(&["f"]), &["a"], &["f", "a"]),
            (&["e"], &["c"], Some(&[]), &["a"], &["a"]),
            (&["e"], &["c"], Some(&[]), &[], &[]),
            (&[], &[], None, &[], &[]),
            (&[], &[""], None, &[], &[]),
        ];
        for (entrypoint, cmd, typed, args, expected) in table {
            let image = ImageDefaults {
                entrypoint: strings(entrypoint),
                cmd: strings(cmd),
                ..ImageDefaults::default()
            };
            let overrides = Overrides {
                entrypoint: typed.map(strings),
                args: strings(args),
                ..Overrides::default()
            };
            let got = compose(&image, &overrides, "h").map(|process| process.args);
            if expected.is_empty() {
                assert_eq!(got, Err(ProcessError::NoCommand));
            } else {
                assert_eq!(got, Ok(strings(expected)));
            }
        }
    }

    #[test]
    fn environments() {
        let image = ImageDefaults {
            cmd: strings(&["sh"]),
            env: strings(&["PATH=/p", "A=1", "B=x=y", "A=2"]),
            ..ImageDefaults::default()
        };
        let overrides = Overrides {
            env: strings(&["B", "C=", "HOSTNAME=mine", "UNSET"]),
            terminal: true,
            ..Overrides::default()
        };
        let process = compose(&image, &overrides, "host").expect("a process");
        let expected = ["PATH=/p", "HOSTNAME=mine", "TERM=xterm", "A=2", "C="];
        assert_eq!(process.env, strings(&expected));
        for bad in ["=x", "", "A=\0"] {
            let overrides = Overrides {
                env: strings(&[bad]),
                ..Overrides::default()
            };
            let error = compose(&image, &overrides, "host").expect_err(bad);
            assert_eq!(error, ProcessError::Environment(bad.to_owned()));
        }
    }

    #[test]
    fn working_directories() {
        let table: &[(&str, Option<&str>, Option<&str>)] = &[
            ("", None, Some("/")),
            ("/app", None, Some("/app")),
            ("app/../x", None, Some("/x")),
            ("/../..", None, Some("/")),
            ("/app", Some("/srv//a/./b/"), Some("/srv/a/b")),
            ("/app", Some(""), Some("/app")),
            ("/app", Some("relative"), None),
            ("/x/../proc/self/fd/7", None, None),
            ("/app", Some("/procession"), Some("/procession")),
        ];
        for (image, typed, expected) in table {
            let image = ImageDefaults {
                cmd: strings(&["sh"]),
                working_dir: (*image).to_owned(),
                ..ImageDefaults::default()
            };
            let overrides = Overrides {
                working_dir: typed.map(str::to_owned),
                ..Overrides::default()
            };
            let got = compose(&image, &overrides, "h")
                .ok()
                .map(|process| process.cwd);
            assert_eq!(got.as_deref(), *expected);
        }
    }

    #[test]
    fn image_configurations() {
        let blob = br#"{"architecture":"amd64","config":{"Env":["A=1"],"Cmd":["sh","-c","x"],
            "Entrypoint":null,"User":"app","WorkingDir":"/w","Volumes":{"/d":{}}},"rootfs":{}}"#;
        let defaults = ImageDefaults::from_config(blob).expect("a configuration");
        assert_eq!(defaults.cmd, strings(&["sh", "-c", "x"]));
        assert_eq!(defaults.entrypoint, Vec::<String>::new());
        assert_eq!(
            (defaults.user.as_str(), defaults.working_dir.as_str()),
            ("app", "/w")
        );
        assert_eq!(
            ImageDefaults::from_config(b"{}"),
            Ok(ImageDefaults::default())
        );
        for bad in [&b"[]"[..], b"{", br#"{"config":{"Cmd":"sh"}}"#] {
            assert!(matches!(
                ImageDefaults::from_config(bad),
                Err(ProcessError::Config(_))
            ));
        }
    }

    #[test]
    fn what_no_program_can_be_given() {
        let image = ImageDefaults::default();
        let with = |args: &[&str]| Overrides {
            args: strings(args),
            ..Overrides::default()
        };
        let error = compose(&image, &with(&["a", "b\0"]), "h").expect_err("a zero byte");
        assert_eq!(error, ProcessError::Argument(1));
        let long = "x".repeat(MAX_ARGUMENT_BYTES);
        let error = compose(&image, &with(&["a", &long]), "h").expect_err("too long");
        assert_eq!(error, ProcessError::TooLong);
    }
}
