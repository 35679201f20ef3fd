//! What holds for every text, not only for those in the table.

use proptest::prelude::*;
use reference::{Digest, Reference, Registry, check_repository};

/// Texts of the pieces that names are made of, so that many of them parse or nearly do.
fn near_name() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z0-9]{1,4}",
        4 => "[-._:/@\\[\\]]{1,2}",
        1 => "[A-Z]{1,2}",
        1 => prop_oneof![
            Just("docker.io"),
            Just("localhost"),
            Just("docker://"),
            Just("[::1]"),
            Just(":443"),
            Just("@sha256:"),
            Just("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
        ].prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Names that are well formed by construction.
fn good_name() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        "([a-zA-Z0-9](-{0,2}[a-zA-Z0-9]){0,3}\\.){1,3}[a-z]{2,3}",
        "\\[[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4}){7}\\]",
        "[A-Z][a-z0-9]{0,4}",
        "docker\\.io|localhost|LocalHost|index\\.docker\\.io",
    ];
    let port = prop_oneof!["", ":[1-9][0-9]{0,3}", ":443", ":80"];
    let path = "[a-z0-9]{1,3}(([._]|__|-{1,3})[a-z0-9]){0,2}(/[a-z0-9]{1,3}){0,3}";
    let tag = prop_oneof!["", ":[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}"];
    let digest = prop_oneof!["", "@sha256:[0-9a-f]{64}", "@sha512:[0-9a-f]{128}"];
    (host, port, path, tag, digest)
        .prop_map(|(host, port, path, tag, digest)| format!("{host}{port}/{path}{tag}{digest}"))
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let Ok(found) = Reference::parse(text) else {
        return Ok(());
    };
    let canonical = found.canonical();
    prop_assert!(canonical.is_ascii());
    let back = Reference::parse(&canonical).expect(&canonical);
    prop_assert_eq!(&back.canonical(), &canonical);
    prop_assert_eq!(&back, &found);
    prop_assert_eq!(back.registry(), found.registry());
    prop_assert_eq!(back.repository(), found.repository());
    prop_assert!(check_repository(found.repository()).is_ok());
    let registry = Registry::parse(found.registry().as_str()).expect(&canonical);
    prop_assert_eq!(&registry, found.registry());
    prop_assert_eq!(Reference::parse(found.typed()), Ok(found));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn near_names_parse_to_themselves_or_not_at_all(text in near_name()) {
        check(&text)?;
    }

    #[test]
    fn good_names_parse(text in good_name()) {
        prop_assert!(Reference::parse(&text).is_ok(), "{}", text);
        check(&text)?;
    }

    #[test]
    fn no_text_makes_parsing_panic(text in any::<String>()) {
        check(&text)?;
        let _ = Registry::parse(&text);
        let _ = Digest::parse(&text);
        let _ = check_repository(&text);
    }

    #[test]
    fn no_bytes_make_parsing_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&String::from_utf8_lossy(&bytes))?;
    }
}
