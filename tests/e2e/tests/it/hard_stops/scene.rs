//! A registry, an image whose every file is known by its digest, and what must hold after a stop.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use e2e::Home;
use e2e::image::busybox;
use registry_sim::{Entry, ImageBuilder, Layer};
use sha2::{Digest, Sha256};

use crate::support::{PASSWORD, Stage, USER, files_below, leftovers, noise, until};

const FILES: u64 = 4;
const FILE_BYTES: usize = 600 << 10;

pub(crate) struct Scene {
    pub(crate) stage: Stage,
    /// Every file of the image by path.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let files: Vec<_> = (0..FILES)
            .map(|number| (format!("many/{number}"), noise(number, FILE_BYTES)))
            .collect();
        let mut stage = Stage::new(image(&files));
        stage.home = std::mem::take(&mut stage.home).with_own_program();
        let busybox = std::fs::read("/bin/busybox").expect("it is in the image");
        let files = files
            .into_iter()
            .chain([("bin/busybox".to_owned(), busybox)]);
        Self {
            stage,
            files: files.collect(),
        }
    }

    pub(crate) fn logged_in() -> Self {
        let scene = Self::new();
        scene.log_in();
        scene
    }

    pub(crate) fn home(&self) -> &Home {
        &self.stage.home
    }

    pub(crate) fn image(&self) -> &str {
        &self.stage.image
    }

    pub(crate) fn log_in(&self) {
        self.home().login(&self.stage.scope(), USER, PASSWORD).ok();
    }

    /// The words of a run that prints the digest of every file.
    pub(crate) fn digests(&self) -> Vec<String> {
        let paths = self.files.iter().map(|(path, _)| format!("/{path}"));
        let words = ["run", "--network", "none", self.image(), "sha256sum"].map(str::to_owned);
        words.into_iter().chain(paths).collect()
    }

    /// What such a run prints.
    pub(crate) fn right_digests(&self) -> String {
        let mut printed = String::new();
        for (path, content) in &self.files {
            for byte in Sha256::digest(content) {
                write!(printed, "{byte:02x}").expect("writing to a string");
            }
            writeln!(printed, "  /{path}").expect("writing to a string");
        }
        printed
    }

    /// The next command works, and shows every file of the image as it was packed.
    #[track_caller]
    pub(crate) fn runs(&self) {
        let words = self.digests();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(self.home().run(&words).ok().stdout, self.right_digests());
    }

    /// What must hold after whatever happened: said of `after`.
    #[track_caller]
    pub(crate) fn is_mended(&self, after: &str) {
        self.nothing_runs(after);
        self.runs();
        self.is_clean(after);
    }

    /// Once a command has been run.
    #[track_caller]
    pub(crate) fn is_clean(&self, after: &str) {
        let home = self.home();
        home.run(&["vault", "verify"]).ok();
        assert_eq!(
            home.run(&["ps", "--json"]).ok().stdout.trim(),
            "[]",
            "{after}"
        );
        // A test may have its directories on a filesystem of their own.
        let keys = home.path().join("keys");
        let own = [home.data_dir(), home.run_dir(), keys, home.disk()];
        let own = own.map(|path| format!(" {} ", path.display()));
        let mut left = leftovers(home);
        left.retain(|line| !own.iter().any(|own| line.contains(own)));
        assert_eq!(left, Vec::<String>::new(), "{after}");
        assert_eq!(half_made(home), Vec::<PathBuf>::new(), "{after}");
        assert!(
            home.processes().is_empty(),
            "{after}: {:?}",
            home.processes()
        );
    }

    /// Every process of ours ends, its parent being gone.
    #[track_caller]
    pub(crate) fn nothing_runs(&self, after: &str) {
        until(&format!("{after}: no process"), || {
            self.home().processes().is_empty()
        });
    }

    /// Starts with nobody listening, in a process group of its own.
    pub(crate) fn start(&self, words: &[&str], input: &str) -> Child {
        use std::io::Write as _;
        use std::os::unix::process::CommandExt;
        let mut child = self
            .home()
            .command(words)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut stdin = child.stdin.take().expect("piped");
        // A program that ends early closes its end.
        let _ = stdin.write_all(input.as_bytes());
        child
    }

    pub(crate) fn forget_cache(&self) {
        self.home().run(&["cache", "prune", "--all"]).ok();
    }

    /// As if the image had never been seen.
    pub(crate) fn forget_image(&self) {
        for name in ["indexes", "cache"] {
            remove(&self.home().data_dir().join(name));
        }
    }
}

fn image(files: &[(String, Vec<u8>)]) -> ImageBuilder {
    let entries = files
        .iter()
        .map(|(path, content)| Entry::file(path, content.clone()));
    busybox().layer(Layer::gzip(&entries.collect::<Vec<_>>()))
}

/// What a start makes for a time only.
pub(crate) fn half_made(home: &Home) -> Vec<PathBuf> {
    let places = ["tmp", "cache/incoming", "cache/trash"];
    let places = places.map(|name| home.data_dir().join(name));
    places.iter().flat_map(|place| files_below(place)).collect()
}

/// Removes what is there, whatever it is.
pub(crate) fn remove(path: &Path) {
    let is_directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let removed = if is_directory {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    if let Err(error) = removed {
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::NotFound,
            "{}",
            path.display()
        );
    }
}
