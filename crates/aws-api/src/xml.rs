//! The text of one element of a reply, as services of the query protocol write them.
//!
//! By hand: a handful of fields, each there once, hold text alone. What a parser would read besides
//! (entities of a document's own, comments, processing of namespaces) is what must not be read.

/// The text in the only element of this name. Nothing where there is none, or more than one, or it
/// holds elements; nothing of a document with a declaration, a comment or a raw section.
pub(crate) fn text(document: &[u8], name: &str) -> Option<String> {
    let document = std::str::from_utf8(document).ok()?;
    if document.contains("<!") {
        return None;
    }
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    let (_, rest) = document.split_once(&start)?;
    let (inside, after) = rest.split_once(&end)?;
    if inside.contains('<') || after.contains(&start) {
        return None;
    }
    unescaped(inside)
}

fn unescaped(text: &str) -> Option<String> {
    let mut pieces = text.split('&');
    let mut whole = pieces.next()?.to_owned();
    for piece in pieces {
        let (entity, rest) = piece.split_once(';')?;
        whole.push(character(entity)?);
        whole.push_str(rest);
    }
    Some(whole)
}

fn character(entity: &str) -> Option<char> {
    let number = |digits: &str, radix| char::from_u32(u32::from_str_radix(digits, radix).ok()?);
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        other => match other.strip_prefix("#x") {
            Some(digits) => number(digits, 16),
            None => number(other.strip_prefix('#')?, 10),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn the_text_of_an_element_is_read_and_nothing_that_is_unclear() {
        let cases = [
            ("<A><B>x</B></A>", Some("x")),
            ("<A><B></B></A>", Some("")),
            (
                "<A><B>a&amp;&lt;&gt;&quot;&apos;&#65;&#x42;</B></A>",
                Some("a&<>\"'AB"),
            ),
            ("<A xmlns=\"u\"><B>x</B><Bx>y</Bx></A>", Some("x")),
            ("<A/>", None),
            ("<B>x", None),
            ("<B>x</B><B>y</B>", None),
            ("<B><C>x</C></B>", None),
            ("<B>&other;</B>", None),
            ("<B>&amp</B>", None),
            ("<B>&#x110000;</B>", None),
            ("<B>&#+65;x</B><!-- -->", None),
            ("<!DOCTYPE x><B>x</B>", None),
            ("<!-- <B>x</B> -->", None),
            ("<B><![CDATA[x]]></B>", None),
            ("</B><B>", None),
            ("", None),
        ];
        for (document, expected) in cases {
            assert_eq!(
                text(document.as_bytes(), "B").as_deref(),
                expected,
                "{document}"
            );
        }
        assert_eq!(text(b"<B>\xff</B>", "B"), None);
    }
}
