//! What every start of Python imports, by where its program lies. Pure.

/// Of the modules that a start imports those that are files. Bytecode beside the source is what is
/// read; the source is only asked for its time.
const MODULES: &[&str] = &[
    "encodings/__init__",
    "encodings/aliases",
    "encodings/utf_8",
    "codecs",
    "io",
    "abc",
    "site",
    "os",
    "stat",
    "_collections_abc",
    "posixpath",
    "genericpath",
    "_sitebuiltins",
];

/// Paths for a program like `/usr/local/bin/python3.12`; none for what is no Python.
pub(super) fn first_modules(program: &[u8]) -> Vec<Vec<u8>> {
    let Some((prefix, minor)) = std::str::from_utf8(program).ok().and_then(version) else {
        return Vec::new();
    };
    let path = |module: &&str| {
        let (directory, name) = module.rsplit_once('/').unwrap_or((".", module));
        let cache = format!("{prefix}/lib/python3.{minor}/{directory}/__pycache__");
        format!("{cache}/{name}.cpython-3{minor}.pyc").into_bytes()
    };
    MODULES.iter().map(path).collect()
}

/// Where it is installed, and its minor version.
fn version(program: &str) -> Option<(&str, u8)> {
    let (directory, name) = program.rsplit_once('/')?;
    let minor = name.strip_prefix("python3.")?.parse().ok()?;
    Some((directory.strip_suffix("/bin")?, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_pythons_alone() {
        for (program, expected) in [
            ("/usr/local/bin/python3.12", Some(("/usr/local", 12))),
            ("/bin/python3.9", Some(("", 9))),
            ("/usr/bin/python3", None),
            ("/usr/bin/python3.999", None),
            ("/usr/bin/python3.x", None),
            ("/opt/python3.11", None),
            ("python3.11", None),
            ("/usr/bin/perl", None),
        ] {
            assert_eq!(version(program), expected, "{program}");
        }
        let modules = first_modules(b"/usr/bin/python3.11");
        let text = |path: &Vec<u8>| String::from_utf8(path.clone()).unwrap();
        assert_eq!(
            text(&modules[0]),
            "/usr/lib/python3.11/encodings/__pycache__/__init__.cpython-311.pyc"
        );
        assert_eq!(
            text(&modules[3]),
            "/usr/lib/python3.11/./__pycache__/codecs.cpython-311.pyc"
        );
        assert!(first_modules(b"\xff/bin/python3.11").is_empty());
    }
}
