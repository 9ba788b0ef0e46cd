//! Rules about one file at a time: its length, its opening, words that mean unfinished work, names of hosts.

use super::{Breach, Source, before_tests};

/// Longer files are more than one thing.
const MOST_LINES: usize = 400;

/// Marks of work that is not done. Written in two parts so that this file does not breach its own rule.
const UNFINISHED: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
];

/// Where packages come from is the host's own setting (apt, cargo), never the repository's.
const HOSTS: [&str; 8] = [
    concat!("deb.debian", ".org"),
    concat!("security.debian", ".org"),
    concat!("snapshot.debian", ".org"),
    concat!("ftp.debian", ".org"),
    concat!("static.crates", ".io"),
    concat!("index.crates", ".io"),
    concat!("pypi", ".org"),
    concat!("registry.npmjs", ".org"),
];

/// The breaches of one file.
pub(super) fn check(source: &Source) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut breach =
        |rule, line, message| breaches.push(Breach { rule, path: source.path.clone(), line, message });
    // Cargo writes the lock file, and the licence is not ours to edit.
    if source.path.ends_with("Cargo.lock") || source.path == "LICENSE" {
        return Vec::new();
    }
    for (number, line) in source.text.lines().enumerate() {
        if let Some(word) = UNFINISHED.iter().find(|word| line.contains(**word)) {
            breach("nothing unfinished", number + 1, format!("`{word}`: do it, or file an issue"));
        }
        if let Some(host) = HOSTS.iter().find(|host| line.contains(**host)) {
            breach("no host names", number + 1, format!("`{host}`: leave it to the host's own settings"));
        }
    }
    if source.is_rust() {
        if !source.text.starts_with("//! ") {
            breach(
                "a file says what it is",
                1,
                "open it with `//!` lines: what it decides or does".to_owned(),
            );
        }
        let lines = before_tests(&source.text).lines().count();
        if lines > MOST_LINES && !source.is_test() {
            breach(
                "short files",
                lines,
                format!("{lines} lines before the tests, at most {MOST_LINES}: split it"),
            );
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        check(&Source { path: path.to_owned(), text: text.to_owned() })
            .iter()
            .map(|breach| breach.rule)
            .collect()
    }

    #[test]
    fn unfinished_work_is_found_in_every_kind_of_file() {
        for word in UNFINISHED {
            assert_eq!(rules("README.md", word), ["nothing unfinished"]);
        }
    }

    #[test]
    fn a_host_name_is_found_but_for_the_lock_file() {
        for host in HOSTS {
            assert_eq!(rules("image/image.yaml", host), ["no host names"]);
            assert!(rules("Cargo.lock", host).is_empty());
        }
    }

    #[test]
    fn a_file_without_an_opening_is_found() {
        assert_eq!(rules("init/src/boot.rs", "fn main() {}\n"), ["a file says what it is"]);
        assert!(rules("init/src/boot.rs", "//! Boots.\nfn main() {}\n").is_empty());
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let long = "//! x\n".to_owned() + &"code\n".repeat(MOST_LINES);
        assert_eq!(rules("init/src/boot.rs", &long), ["short files"]);
        let tests = "//! x\n#[cfg(test)]\nmod tests {\n".to_owned() + &"code\n".repeat(MOST_LINES);
        assert!(rules("init/src/boot.rs", &tests).is_empty());
        for tests in ["init/tests/golden.rs", "init/src/supervisor/tests.rs", "init/src/cmdline_tests.rs"] {
            assert!(rules(tests, &long).is_empty(), "{tests}");
        }
        assert_eq!(rules("tests/src/qemu.rs", &long), ["short files"]);
    }
}
