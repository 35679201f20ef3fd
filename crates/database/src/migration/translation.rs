//! SQLite's words for tables in PostgreSQL's. It changes words and nothing else: types, the two
//! words after a table that only SQLite has, and how bytes are written.

/// A statement that makes or changes tables, as PostgreSQL has it.
pub(super) fn to_postgres(text: &str) -> String {
    let mut translated = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (piece, what) = piece(rest, first);
        match what {
            Piece::Word => translated.push_str(word(piece)),
            Piece::Bytes => {
                let digits = piece[2..].trim_end_matches('\'');
                translated.push_str(&format!("'\\x{digits}'::bytea"));
            }
            Piece::AsItIs => translated.push_str(piece),
        }
        rest = &rest[piece.len()..];
    }
    without_table_options(&translated)
}

enum Piece {
    Word,
    /// `x'00ff'`.
    Bytes,
    AsItIs,
}

/// What a text begins with: a word, or what is left as it is, such as a comment or a quoted text.
fn piece(text: &str, first: char) -> (&str, Piece) {
    let is_word = |sign: char| sign.is_ascii_alphanumeric() || sign == '_';
    if matches!(first, 'x' | 'X') && text[1..].starts_with('\'') {
        return (quoted(text, 2, '\''), Piece::Bytes);
    }
    if is_word(first) {
        let end = text.find(|sign| !is_word(sign)).unwrap_or(text.len());
        return (&text[..end], Piece::Word);
    }
    if text.starts_with("--") {
        let end = text.find('\n').unwrap_or(text.len());
        return (&text[..end], Piece::AsItIs);
    }
    if matches!(first, '\'' | '"') {
        return (quoted(text, 1, first), Piece::AsItIs);
    }
    (&text[..first.len_utf8()], Piece::AsItIs)
}

/// A text up to the quote that ends it. A doubled one ends it too, and begins the next.
fn quoted(text: &str, start: usize, quote: char) -> &str {
    let end = text[start..]
        .find(quote)
        .map_or(text.len(), |end| start + end + 1);
    &text[..end]
}

fn word(word: &str) -> &str {
    match word {
        "INTEGER" => "BIGINT",
        "BLOB" => "BYTEA",
        // In the order of their bytes, whatever language the database was made for.
        "TEXT" => "TEXT COLLATE \"C\"",
        word => word,
    }
}

fn without_table_options(text: &str) -> String {
    text.replace(") STRICT, WITHOUT ROWID;", ");")
        .replace(") STRICT;", ");")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_tables_are_translated_and_no_others() {
        for (sqlite, postgres) in [
            (
                "CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB, c TEXT) STRICT, WITHOUT ROWID;",
                "CREATE TABLE t (a BIGINT PRIMARY KEY, b BYTEA, c TEXT COLLATE \"C\");",
            ),
            (
                "CREATE TABLE t (a BLOB) STRICT;",
                "CREATE TABLE t (a BYTEA);",
            ),
            ("-- INTEGER 'x\nBLOB", "-- INTEGER 'x\nBYTEA"),
            ("DEFAULT 'TEXT' 'it''s BLOB'", "DEFAULT 'TEXT' 'it''s BLOB'"),
            ("\"INTEGER\" INTEGERS x", "\"INTEGER\" INTEGERS x"),
            (
                "DEFAULT x'' X'00ff'",
                "DEFAULT '\\x'::bytea '\\x00ff'::bytea",
            ),
            ("ax'", "ax'"),
            ("é BLOB", "é BYTEA"),
        ] {
            assert_eq!(to_postgres(sqlite), postgres);
        }
    }
}
