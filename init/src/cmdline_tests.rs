//! Tables for the kernel command line: each row is a line as a boot loader may hand it over.

use super::*;

/// (name, value) of every word, for comparing with what the kernel does.
fn split_up(text: &str) -> Vec<(String, Option<String>)> {
    let own = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    words(text.as_bytes()).map(|(name, value)| (own(name), value.map(own))).collect()
}

fn told(text: &str) -> Vec<String> {
    parse(text.as_bytes()).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn words_follow_the_kernels_quoting() {
    for (text, want) in [
        ("", vec![]),
        ("  \t \n", vec![]),
        ("quiet", vec![("quiet", None)]),
        (" a=1  b=2 ", vec![("a", Some("1")), ("b", Some("2"))]),
        (r#"a="x y" b"#, vec![("a", Some("x y")), ("b", None)]),
        (r#""a=x y" b"#, vec![("a", Some("x y")), ("b", None)]),
        (r#""a b" c"#, vec![("a b", None), ("c", None)]),
        (r#"a=x" y"z b"#, vec![("a", Some(r#"x" y"z"#)), ("b", None)]),
        (r#"a="x"y b"#, vec![("a", Some(r#"x"y"#)), ("b", None)]),
        (r#"a="x y b=1"#, vec![("a", Some("x y b=1"))]),
        (r#"a=""#, vec![("a", Some(""))]),
        (r#"a="" b"#, vec![("a", Some("")), ("b", None)]),
        (r#"a=\"x y\""#, vec![("a", Some(r#"\"x y\""#))]),
        ("=a=b", vec![("=a", Some("b"))]),
        ("=", vec![("=", None)]),
        ("a=b=c", vec![("a", Some("b=c"))]),
        ("a= b", vec![("a", Some("")), ("b", None)]),
        ("a\u{b}b\u{c}c", vec![("a", None), ("b", None), ("c", None)]),
        (r#"""#, vec![("", None)]),
    ] {
        let want: Vec<_> =
            want.into_iter().map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect();
        assert_eq!(split_up(text), want, "{text:?}");
    }
}

#[test]
fn without_words_the_defaults_hold() {
    for text in ["", "quiet loglevel=6 root=/dev/vda2 BOOT_IMAGE=/vmlinuz", "podiumx=1 xpodium.root=1"] {
        assert_eq!(parse(text.as_bytes()), Cmdline::default(), "{text:?}");
    }
}

#[test]
fn every_word_is_taken() {
    let line = "podium.config.inline=aGk= podium.config=LABEL=CONFIG:/a/m.yaml podium.root=ROOT-B \
                podium.root-wait=5 podium.watchdog=off\n";
    let want = Cmdline {
        config_inline: Some("aGk=".into()),
        config: Some(Location::Label { label: "CONFIG".into(), path: "/a/m.yaml".into() }),
        root: "ROOT-B".into(),
        root_wait: Duration::from_secs(5),
        watchdog: Choice::Off,
        problems: vec![],
    };
    assert_eq!(parse(line.as_bytes()), want);
    for word in WORDS {
        assert!(
            line.contains(&word.name.replace("root_wait", "root-wait")),
            "{} is not in this test",
            word.name
        );
    }
}

#[test]
fn a_config_can_be_nowhere() {
    let nowhere = parse(b"podium.config=none").config.unwrap();
    assert_eq!((nowhere.to_string(), nowhere), ("none".into(), Location::Nowhere));
}

#[test]
fn a_path_with_spaces_is_quoted() {
    let line = r#"podium.config="LABEL=My Disk:/machine config.yaml""#;
    let want = Location::Label { label: "My Disk".into(), path: "/machine config.yaml".into() };
    assert_eq!(parse(line.as_bytes()).config, Some(want));
    let plain = parse(b"podium.config=/var/m.yaml").config.unwrap();
    assert_eq!((plain.to_string(), plain), ("/var/m.yaml".into(), Location::Path("/var/m.yaml".into())));
}

#[test]
fn wrong_words_are_told_by_name() {
    let unknown = "; README.md lists the kernel words";
    for (text, want) in [
        ("podium.confg=x", format!("podium.confg: warning: unknown word, did you mean podium.config?{unknown}")),
        ("podium.zzzzzzzzzzzzz=1", format!("podium.zzzzzzzzzzzzz: warning: unknown word{unknown}")),
        ("podium.", format!("podium.: warning: unknown word{unknown}")),
        ("podium.root", "podium.root: warning: has no value; write podium.root=partition label".into()),
        ("podium.root=", "podium.root: warning: has no value; write podium.root=partition label".into()),
        (
            "podium.root=a/b",
            "podium.root: warning: \"a/b\" is no partition label; write podium.root=partition label".into(),
        ),
        (
            "podium.config=m.yaml",
            "podium.config: warning: \"m.yaml\" is no place; write podium.config=/path, LABEL=label:/path or none".into(),
        ),
        (
            "podium.config=LABEL=x/m.yaml",
            "podium.config: warning: \"LABEL=x/m.yaml\" is no place; write podium.config=/path, LABEL=label:/path or none"
                .into(),
        ),
        (
            "podium.config=/a/../b",
            "podium.config: warning: \"/a/../b\" is no place; write podium.config=/path, LABEL=label:/path or none".into(),
        ),
        (
            "podium.root_wait=1d",
            "podium.root_wait: warning: \"1d\" is out of range; write podium.root_wait=seconds, 0 to 3600".into(),
        ),
        (
            "podium.root_wait=3601",
            "podium.root_wait: warning: \"3601\" is out of range; write podium.root_wait=seconds, 0 to 3600".into(),
        ),
        (
            "-- podium.root=ROOT-B",
            "podium.root: warning: stands after --, where the kernel's words have ended: not used".into(),
        ),
        (
            "podium.root=A podium.root=B",
            "podium.root: warning: given more than once, the last one is used".into(),
        ),
    ] {
        assert_eq!(told(text), [want], "{text:?}");
    }
    assert_eq!(parse(b"podium.root=A podium.root=B").root, "B");
    assert_eq!(parse(b"podium.root=\xff").problems.len(), 1);
}

#[test]
fn a_line_of_the_largest_size_is_taken_and_a_longer_one_is_told() {
    let full = format!("podium.config.inline={}", "A".repeat(MAX_LENGTH - "podium.config.inline=".len()));
    assert_eq!(full.len(), MAX_LENGTH);
    assert!(parse(full.as_bytes()).problems.is_empty());
    let longer = parse(format!("{full}A").as_bytes());
    assert_eq!(longer.config_inline.map(|text| text.len()), Some(MAX_LENGTH - 21));
    assert!(longer.problems[0].message.contains("4097 bytes"), "{:?}", longer.problems);
    let at_the_x86_limit = told(&"x".repeat(2047));
    assert!(at_the_x86_limit[0].contains("seems to be cut off"), "{at_the_x86_limit:?}");
}

#[test]
fn the_reference_lists_every_word_once() {
    let table = reference();
    for word in WORDS {
        assert_eq!(table.matches(&format!("`{}=`", word.name)).count(), 1);
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
        parse(&text);
        let mut line = b"podium.config=\"".to_vec();
        line.extend(text);
        parse(&line);
    }
}
