//! The path of a repository within its registry: lower-case parts joined by `/`.

use crate::characters::is_lower_alphanumeric;

/// Longest path, in bytes. The limit that registries themselves enforce.
pub const PATH_LIMIT: usize = 255;

/// Why a text is not the path of a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseRepositoryError {
    #[error("repository is empty")]
    Empty,
    #[error("repository has an empty part (a '/' at an end, or two in a row)")]
    EmptyPart,
    #[error("repository must be lower-case")]
    UpperCase,
    #[error("character {character:?} is not allowed in a repository")]
    Character { character: char },
    #[error(
        "a part of a repository must start and end with a letter or digit, and join its words by \
         one '.', one or two '_', or dashes"
    )]
    Separator,
    #[error("repository is longer than {PATH_LIMIT} bytes")]
    TooLong,
}

/// Checks a repository path, as it would stand in a canonical name. A prefix of whole parts, such
/// as the path of a registry scope, has the same grammar.
pub fn check_repository(path: &str) -> Result<(), ParseRepositoryError> {
    if path.is_empty() {
        return Err(ParseRepositoryError::Empty);
    }
    path.split('/').try_for_each(check_part)?;
    // After the grammar, so that a long name with a plain mistake in it gets the plainer answer.
    if path.len() > PATH_LIMIT {
        return Err(ParseRepositoryError::TooLong);
    }
    Ok(())
}

fn check_part(part: &str) -> Result<(), ParseRepositoryError> {
    if part.is_empty() {
        return Err(ParseRepositoryError::EmptyPart);
    }
    part.chars().try_for_each(check_character)?;
    let separators = part.split(|character: char| character.is_ascii_alphanumeric());
    let edge = |byte: Option<&u8>| byte.copied().is_some_and(is_lower_alphanumeric);
    let bytes = part.as_bytes();
    if edge(bytes.first()) && edge(bytes.last()) && separators.into_iter().all(is_separator) {
        Ok(())
    } else {
        Err(ParseRepositoryError::Separator)
    }
}

fn check_character(character: char) -> Result<(), ParseRepositoryError> {
    match character {
        'a'..='z' | '0'..='9' | '.' | '_' | '-' => Ok(()),
        'A'..='Z' => Err(ParseRepositoryError::UpperCase),
        _ => Err(ParseRepositoryError::Character { character }),
    }
}

/// Whether the text between two letters or digits may join them; empty for neighbours.
fn is_separator(text: &str) -> bool {
    matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let separator = Err(ParseRepositoryError::Separator);
        let table = [
            ("a", Ok(())),
            ("a/b/c/d", Ok(())),
            ("a.b_c__d-e---f", Ok(())),
            ("0", Ok(())),
            ("", Err(ParseRepositoryError::Empty)),
            ("/", Err(ParseRepositoryError::EmptyPart)),
            ("a/", Err(ParseRepositoryError::EmptyPart)),
            ("/a", Err(ParseRepositoryError::EmptyPart)),
            ("a//b", Err(ParseRepositoryError::EmptyPart)),
            ("a/B", Err(ParseRepositoryError::UpperCase)),
            (
                "a b",
                Err(ParseRepositoryError::Character { character: ' ' }),
            ),
            (
                "\u{212a}",
                Err(ParseRepositoryError::Character {
                    character: '\u{212a}',
                }),
            ),
            ("..", separator.clone()),
            ("a..b", separator.clone()),
            ("a___b", separator.clone()),
            ("a._b", separator.clone()),
            ("a_-b", separator.clone()),
            ("-a", separator.clone()),
            ("a-", separator),
        ];
        for (path, expected) in table {
            assert_eq!(check_repository(path), expected, "{path:?}");
        }
    }

    #[test]
    fn the_limit_is_inclusive() {
        assert_eq!(check_repository(&"a".repeat(PATH_LIMIT)), Ok(()));
        let long = "a".repeat(PATH_LIMIT + 1);
        assert_eq!(check_repository(&long), Err(ParseRepositoryError::TooLong));
    }
}
