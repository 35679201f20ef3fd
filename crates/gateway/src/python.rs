//! The Python of an image: what may be asked for, what may be found, and who looks.

use std::fmt::Debug;

use control_store::Python;
use futures::future::BoxFuture;
use ids::WorkspaceId;

use crate::foreign;
use crate::operations::images::{OpenImage, PythonAsked};
use crate::problem::{Kind, Problem};

/// What a Python is called where nobody says otherwise.
const USUAL: [&str; 2] = ["python3", "python"];
/// What to do where there is none.
pub(crate) const MISSING_HINT: &str =
    "name an image that has one, or say where it is: python=\"/opt/venv/bin/python\"";
/// Longest name or path of an interpreter.
const PROGRAM_LIMIT_BYTES: usize = 256;
/// Longest version that one may say of itself: `3.11.2+` and `3.14.0a1` are below ten.
const VERSION_LIMIT_BYTES: usize = 32;

/// Looks for a Python in an image by starting something there.
pub trait PythonProbe: Debug + Send + Sync {
    /// The first of these interpreters that is in the image and starts; nothing when there is none.
    fn probe<'a>(
        &'a self,
        workspace: WorkspaceId,
        image: &'a OpenImage,
        interpreters: &'a [String],
    ) -> BoxFuture<'a, Result<Option<Python>, Problem>>;
}

/// The program that somebody wants: a name that is looked up, or a path.
fn parse_program(text: &str) -> Result<String, Problem> {
    let is_plain = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    if text.is_empty() || text.len() > PROGRAM_LIMIT_BYTES || !is_plain || text.starts_with('-') {
        let problem = Problem::invalid("python is the name of an interpreter, or its path");
        return Err(problem.hint("such as python3, python3.11 or /opt/venv/bin/python"));
    }
    Ok(text.to_owned())
}

/// What is asked for, and the programs to try, in their order.
pub(crate) fn parse_asked(asked: &PythonAsked) -> Result<(String, Vec<String>), Problem> {
    let (PythonAsked::Exactly(text) | PythonAsked::Rather(text)) = asked;
    let program = parse_program(text)?;
    let is_exact = matches!(asked, PythonAsked::Exactly(_)) && !USUAL.contains(&&*program);
    let others = USUAL.into_iter().filter(|usual| *usual != program);
    let others = others.filter(|_| !is_exact).map(str::to_owned);
    let to_try = std::iter::once(program.clone()).chain(others).collect();
    Ok((program, to_try))
}

/// What a probe found, if it can be true: the container says it, and it may say anything.
pub(crate) fn parse_found(found: Python, tried: &[String]) -> Result<Python, Problem> {
    let version = &found.version;
    let is_version = version.starts_with(|c: char| c.is_ascii_digit())
        && version.len() <= VERSION_LIMIT_BYTES
        && version
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".+-_".contains(c));
    if is_version && tried.contains(&found.program) {
        return Ok(found);
    }
    let said = foreign::shown(version);
    let message = format!("the image's Python says that it is version {said:?}");
    Err(Problem::new(Kind::Unsupported, message))
}

/// There is none.
pub(crate) fn missing(image: &str, tried: &[String]) -> Problem {
    let tried = tried.join(", ");
    let message = format!("image {image} has no Python that can be used; looked for {tried}");
    Problem::new(Kind::Unsupported, message).hint(MISSING_HINT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_names_or_paths() {
        for good in ["python3", "python3.11", "/opt/venv/bin/python", "pypy"] {
            assert_eq!(parse_program(good).as_deref(), Ok(good));
        }
        let long = "p".repeat(257);
        for bad in ["", "python3 -c", "-c", "py\0thon", "py\nthon", &long] {
            assert_eq!(
                parse_program(bad).unwrap_err().kind,
                Kind::Invalid,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn what_was_asked_for_is_tried_first_and_once() {
        let to_try = |asked| parse_asked(&asked).unwrap().1;
        let exactly = |name: &str| to_try(PythonAsked::Exactly(name.to_owned()));
        let rather = |name: &str| to_try(PythonAsked::Rather(name.to_owned()));
        assert_eq!(exactly("python3"), ["python3", "python"]);
        assert_eq!(exactly("python"), ["python", "python3"]);
        assert_eq!(exactly("/a/python"), ["/a/python"]);
        assert_eq!(exactly("python3.99"), ["python3.99"]);
        assert_eq!(rather("python3"), ["python3", "python"]);
        assert_eq!(rather("python3.99"), ["python3.99", "python3", "python"]);
    }

    #[test]
    fn a_container_cannot_say_anything_it_likes() {
        let tried = USUAL.map(str::to_owned);
        let table = [
            ("python3", "3.11.2", true),
            ("python", "3.14.0a1+", true),
            ("python3.11", "3.11.2", false),
            ("python3", "", false),
            ("python3", "three", false),
            ("python3", "3.11.2 \u{1b}[2J", false),
            ("python3", "3333333333333333333333333333333333", false),
        ];
        for (program, version, is_believed) in table {
            let found = Python {
                program: program.to_owned(),
                version: version.to_owned(),
            };
            let parsed = parse_found(found, &tried);
            assert_eq!(parsed.is_ok(), is_believed, "{program} {version:?}");
        }
    }
}
