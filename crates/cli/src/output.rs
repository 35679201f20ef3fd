//! What a command that worked prints: one JSON object, or text for people.
//!
//! Data goes to standard output, everything else to standard error.

use std::io::{IsTerminal, Write};

use jiff::Timestamp;
use serde::Serialize;

use crate::failure::{Failure, Kind, Result, drives_terminal, printable};

pub(crate) use gateway::size as bytes;

/// How results are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints `value` as JSON, or what `text` makes of it.
    pub(crate) fn show<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<()> {
        let mut shown = if self.json {
            json_text(value)?
        } else {
            text(value)
        };
        if !shown.is_empty() && !shown.ends_with('\n') {
            shown.push('\n');
        }
        write_out(&shown)
    }

    /// A remark for people, kept off the data.
    pub(crate) fn note(self, text: &str) {
        if !self.json {
            write_error_line(&printable(text));
        }
    }

    pub(crate) fn progress_on_terminal(self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }
}

/// JSON for people and scripts. What could drive a terminal stands only within strings, where its
/// escape means the same.
pub(crate) fn json_text<T: Serialize>(value: &T) -> Result<String> {
    let json =
        serde_json::to_string_pretty(value).map_err(|error| Failure::of(Kind::Internal, &error))?;
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character != '\n' && drives_terminal(character) {
            out.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    Ok(out)
}

pub(crate) fn write_out(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    is_read(written.and_then(|()| stdout.flush()), "output").map(drop)
}

/// Whether anybody reads what was written. A closed pipe (`holdfast … | head`) is the reader's
/// choice and no failure: whoever writes more ends, as if all were written.
pub(crate) fn is_read(written: std::io::Result<()>, stream: &str) -> Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(
            Kind::Machine,
            format!("cannot write to standard {stream}: {error}"),
        )),
    }
}

/// A line on standard error, which nobody may read: there is nowhere to say so.
pub(crate) fn write_error_line(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A table without borders, as `docker ps` and `kubectl get` print them.
pub(crate) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::TableStyle::new());
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(headings.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// What there is, or the sign of tables that there is nothing.
pub(crate) fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// To the second: what a person compares with a clock.
pub(crate) fn show_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_is_gone_is_no_failure() {
        let written = |kind: std::io::ErrorKind| is_read(Err(kind.into()), "output");
        assert!(is_read(Ok(()), "output").expect("written"));
        assert!(!written(std::io::ErrorKind::BrokenPipe).expect("its choice"));
        let full = written(std::io::ErrorKind::StorageFull).expect_err("nobody's choice");
        assert!(
            full.message
                .starts_with("cannot write to standard output: ")
        );
    }

    #[test]
    fn byte_counts_read_well() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (289_200_000, "289.2 MB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn json_cannot_drive_a_terminal_and_says_the_same() {
        let value = ["a\u{9b}31m", "b\u{7f}", "c\u{202e}", "d\u{1b}[0m", "é\n"];
        let text = json_text(&value).expect("serialises");
        let is_safe = |c: char| c == '\n' || !drives_terminal(c);
        assert!(text.chars().all(is_safe), "{text:?}");
        let back: Vec<String> = serde_json::from_str(&text).expect("is JSON");
        assert_eq!(back, value);
    }

    #[test]
    fn tables_have_no_trailing_space() {
        let shown = table(
            &["SCOPE", "KIND"],
            [vec!["ghcr.io/acme".into(), "basic".into()]],
        );
        assert_eq!(shown, "SCOPE         KIND\nghcr.io/acme  basic");
    }
}
