//! `cargo xtask tidy`: the house rules that a compiler does not know.
//!
//! Each rule is a pure function from text or a parsed graph to violations, so that the rules are
//! tested on small examples; only this file reads the disk. A violation says where, what, and what
//! to do. What is accepted against a rule is in `xtask/tidy-waivers.txt`, by name, with a reason.

mod dependencies;
mod documents;
mod functions;
mod graph;
mod lines;
mod tokens;
mod waivers;

use std::fmt;
use std::process::ExitCode;

use anyhow::Result;

use crate::arguments::Arguments;
use crate::tree::{self, SourceFile};

use self::graph::Graph;
use self::waivers::Waivers;

/// One breach of a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) what: String,
    pub(crate) fix: String,
}

impl Violation {
    fn new(path: &str, line: usize, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what: what.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            what,
            fix,
        } = self;
        write!(formatter, "{path}:{line}: {what} ({fix})")
    }
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    arguments.finish()?;
    let root = tree::root();
    let sources = tree::read_sources(&root, &["rs", "md", "toml", "sh", "py"])?;
    let mut waivers = Waivers::read(&root)?;
    let graph = Graph::load(&root)?;
    let mut violations = check_sources(&sources, &mut waivers);
    violations.extend(dependencies::check(&graph));
    violations.extend(documents::check(
        &sources,
        &graph.crate_names(),
        &mut waivers,
    ));
    violations.extend(waivers.unused());
    violations.sort();
    for violation in &violations {
        println!("{violation}");
    }
    if violations.is_empty() {
        println!(
            "tidy: {} files, {} crates, clean",
            sources.len(),
            graph.crate_names().len()
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("tidy: {} violations", violations.len());
    Ok(ExitCode::FAILURE)
}

fn check_sources(sources: &[SourceFile], waivers: &mut Waivers) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources {
        violations.extend(lines::check(source));
        if source.has_extension(&["rs"]) {
            violations.extend(tokens::check(source));
            violations.extend(functions::check(source, waivers));
        }
    }
    violations
}
