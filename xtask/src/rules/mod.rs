//! The design's rules as code: each looks at the tracked files and names file, line and remedy of every breach.
//!
//! What a lint or a type can hold is held there; these are the rest. A rule is a pure function over the files'
//! text, with a test that a breach is found. Exceptions stand in one table, each with its reason.

mod code;
mod style;

use anyhow::{Context, Result, ensure};
use code::{before_tests, code_only, has_word};
use serde::Serialize;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Breach {
    /// Short name of the rule.
    pub(crate) rule: &'static str,
    /// Path from the top of the repository.
    pub(crate) path: String,
    /// From 1; 0 when it is about the whole file.
    pub(crate) line: usize,
    /// What is wrong, and the remedy.
    pub(crate) message: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} ({})", self.path, self.line, self.message, self.rule)
    }
}

/// A tracked text file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path from the top of the repository.
    pub(crate) path: String,
    /// Its content.
    pub(crate) text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Code of PID 1 itself, not of its tests.
    fn is_init(&self) -> bool {
        self.is_rust() && self.path.starts_with("init/src/") && !self.is_test()
    }

    /// Holds nothing but tests.
    fn is_test(&self) -> bool {
        ["/tests.rs", "_tests.rs"].iter().any(|end| self.path.ends_with(end))
            || ["/tests/", "tests/vm"].iter().any(|part| self.path.contains(part))
                && !self.path.contains("/src/")
    }
}

/// Where a word of code may not stand.
struct Forbidden {
    rule: &'static str,
    words: &'static [&'static str],
    /// The files it is about.
    within: fn(&Source) -> bool,
    /// Files where it may stand, each with the reason.
    except: &'static [(&'static str, &'static str)],
    remedy: &'static str,
}

/// Only these may reap, wait, reboot and so on: the invariants of PID 1 that no type can hold.
const FORBIDDEN: &[Forbidden] = &[
    Forbidden {
        rule: "no unsafe",
        words: &["unsafe"],
        within: Source::is_init,
        except: &[("init/src/sys/ioctl.rs", "the few ioctls that no safe crate offers")],
        remedy: "use nix, rustix or a program of the image",
    },
    Forbidden {
        rule: "one thread",
        words: &["thread::spawn", "thread::Builder", "thread::scope"],
        within: Source::is_init,
        except: &[(
            "init/src/logger.rs",
            "`init log`, a supervised process of its own: a disk that hangs must not stop it from emptying pipes",
        )],
        remedy: "PID 1 is one thread: add a source to the reactor, or a supervised verb",
    },
    Forbidden {
        rule: "only sys::process reaps",
        words: &["waitpid", "waitid", "wait4", "process::wait(", ".wait()", "try_wait(", "wait_with_output("],
        within: Source::is_init,
        except: &[
            ("init/src/sys/process.rs", "the one place that reaps"),
            ("init/src/reactor.rs", "its own wait() is poll(2)"),
            ("init/src/sys/converse.rs", "before the loop begins, and in helpers, for a child of its own"),
            ("init/src/sys/limited.rs", "in helpers, for a child of its own"),
            ("init/src/sys/tool.rs", "before the loop begins, and in helpers, for a child of its own"),
        ],
        remedy: "call sys::process, so that no exit status is stolen",
    },
    Forbidden {
        rule: "only halt reboots",
        words: &["reboot("],
        within: Source::is_init,
        except: &[
            ("init/src/halt.rs", "the only way out"),
            ("init/src/sys/reboot.rs", "the system call that halt.rs makes"),
        ],
        remedy: "return a Shutdown and let halt.rs act",
    },
    Forbidden {
        rule: "no network socket",
        words: &["TcpStream", "TcpListener", "UdpSocket", "AddressFamily::INET", "AddressFamily::INET6"],
        within: Source::is_init,
        except: &[],
        remedy: "PID 1 opens no network socket: a supervised program does",
    },
    Forbidden {
        rule: "no bare allow",
        words: &["#[allow(", "#![allow("],
        within: Source::is_rust,
        except: &[],
        remedy: "mend it, or write #[expect(lint, reason = \"…\")]",
    },
];

/// Effects and clocks, which the library of PID 1 never touches.
const EFFECTS: &[&str] =
    &["Instant::now", "SystemTime::now", "std::fs", "std::process", "std::net", "std::thread", "std::env"];

/// The closed list of what PID 1 is made of.
const INIT_DEPENDENCIES: [&str; 11] = [
    "anyhow",
    "inotify",
    "k8s-openapi",
    "log",
    "nix",
    "rustix",
    "serde",
    "serde_json",
    "serde_yaml",
    "signal-hook",
    "thiserror",
];

/// What the top level holds, beside dotfiles.
const TOP_LEVEL: [&str; 10] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "image",
    "init",
    "rootfs",
    "tests",
    "xtask",
];

/// Every breach in the repository at `top`.
///
/// # Errors
/// When git or cargo cannot tell what the repository holds.
pub(crate) fn check(top: &Path) -> Result<Vec<Breach>> {
    let sources = tracked(top)?;
    let mut breaches = Vec::new();
    breaches.extend(FORBIDDEN.iter().flat_map(|forbidden| words(forbidden, &sources)));
    breaches.extend(pure_library(&sources));
    breaches.extend(dependencies(&init_dependencies(top)?));
    breaches.extend(top_level(&sources));
    breaches.extend(sources.iter().flat_map(style::check));
    Ok(breaches)
}

/// Every text file that git tracks or would track.
fn tracked(top: &Path) -> Result<Vec<Source>> {
    let mut git = Command::new("git");
    git.current_dir(top).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = git.output().context("git (package git)")?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).context("a file name that is not UTF-8")?;
    let mut sources = Vec::new();
    for path in names.split_terminator('\0') {
        // A file that was deleted but not yet committed, or one that is no text, has nothing to check.
        if let Ok(text) = fs::read_to_string(top.join(path)) {
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    Ok(sources)
}

fn words(forbidden: &Forbidden, sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| (forbidden.within)(source)) {
        if forbidden.except.iter().any(|(path, _)| source.path == *path) {
            continue;
        }
        for (number, line) in code_only(before_tests(&source.text)).lines().enumerate() {
            for word in forbidden.words.iter().filter(|word| has_word(line, word)) {
                let message = format!("`{word}` must not stand here: {}", forbidden.remedy);
                breaches.push(Breach {
                    rule: forbidden.rule,
                    path: source.path.clone(),
                    line: number + 1,
                    message,
                });
            }
        }
    }
    breaches
}

/// The modules that `init/src/lib.rs` names, and everything below them, perform no effect and read no clock.
fn pure_library(sources: &[Source]) -> Vec<Breach> {
    let lib = sources.iter().find(|source| source.path == "init/src/lib.rs");
    let names =
        lib.map(|lib| lib.text.lines().filter_map(module_name).collect::<Vec<_>>()).unwrap_or_default();
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| source.is_init()) {
        let inside = names.iter().any(|name| {
            source.path == format!("init/src/{name}.rs")
                || source.path.starts_with(&format!("init/src/{name}/"))
        });
        if !inside {
            continue;
        }
        for (number, line) in code_only(before_tests(&source.text)).lines().enumerate() {
            for word in EFFECTS.iter().filter(|word| has_word(line, word)) {
                let message =
                    format!("`{word}` in the library: decisions take values; main.rs and its modules act");
                let path = source.path.clone();
                breaches.push(Breach { rule: "a library without effects", path, line: number + 1, message });
            }
        }
    }
    breaches
}

fn module_name(line: &str) -> Option<&str> {
    line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')
}

fn dependencies(have: &[String]) -> Vec<Breach> {
    let breach = |message| Breach {
        rule: "closed dependencies",
        path: "init/Cargo.toml".to_owned(),
        line: 0,
        message,
    };
    let unknown = have.iter().filter(|name| !INIT_DEPENDENCIES.contains(&name.as_str()));
    let unknown = unknown.map(|name| breach(format!("`{name}` is not on the closed list of PID 1")));
    let missing = INIT_DEPENDENCIES.iter().filter(|name| !have.iter().any(|have| have == *name));
    let missing =
        missing.map(|name| breach(format!("`{name}` is on the closed list but not used: take it off")));
    unknown.chain(missing).collect()
}

/// The names under which PID 1 uses its dependencies.
fn init_dependencies(top: &Path) -> Result<Vec<String>> {
    let mut cargo = crate::cargo();
    cargo.current_dir(top).args(["metadata", "--no-deps", "--format-version", "1", "--locked"]);
    let told = cargo.output().context("cargo metadata")?;
    ensure!(told.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&told.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&told.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata: packages")?;
    let init =
        packages.iter().find(|package| package["name"] == "podium-init").context("no package podium-init")?;
    let list = init["dependencies"].as_array().context("cargo metadata: dependencies")?;
    let normal = list.iter().filter(|dependency| dependency["kind"].is_null());
    let names = normal.filter_map(|dependency| dependency["rename"].as_str().or(dependency["name"].as_str()));
    Ok(names.map(str::to_owned).collect())
}

fn top_level(sources: &[Source]) -> Vec<Breach> {
    let breach = |path: &str, message: &str| Breach {
        rule: "top level",
        path: path.to_owned(),
        line: 0,
        message: message.to_owned(),
    };
    let mut entries: Vec<&str> =
        sources.iter().map(|source| source.path.split('/').next().unwrap_or_default()).collect();
    entries.dedup();
    let strange = entries.iter().filter(|entry| !entry.starts_with('.') && !TOP_LEVEL.contains(entry));
    let strange = strange.map(|entry| breach(entry, "does not belong at the top level"));
    let missing = TOP_LEVEL.iter().filter(|entry| !entries.contains(entry));
    let missing = missing.map(|entry| breach(entry, "is missing at the top level"));
    strange.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn found(path: &str, text: &str) -> Vec<&'static str> {
        let sources = [source(path, text)];
        FORBIDDEN.iter().flat_map(|forbidden| words(forbidden, &sources)).map(|breach| breach.rule).collect()
    }

    #[test]
    fn each_forbidden_word_is_found_where_it_is_forbidden() {
        assert_eq!(found("init/src/boot.rs", "fn a() { unsafe { b() } }"), ["no unsafe"]);
        assert_eq!(found("init/src/boot.rs", "std::thread::spawn(x);"), ["one thread"]);
        assert_eq!(found("init/src/boot.rs", "child.wait()?;"), ["only sys::process reaps"]);
        assert_eq!(found("init/src/boot.rs", "waitpid(None)?;"), ["only sys::process reaps"]);
        assert_eq!(found("init/src/boot.rs", "rustix::process::wait(flags)"), ["only sys::process reaps"]);
        assert_eq!(found("init/src/boot.rs", "UdpSocket::bind(a)"), ["no network socket"]);
        assert_eq!(found("init/src/reactor.rs", "reboot(mode);"), ["only halt reboots"]);
        assert_eq!(found("tests/src/disk.rs", "#[allow(dead_code)]"), ["no bare allow"]);
    }

    #[test]
    fn prose_tests_exceptions_and_other_crates_are_free() {
        assert!(found("init/src/boot.rs", "// unsafe\nlet a = \"reboot(\";").is_empty());
        assert!(found("init/src/boot.rs", "x\n#[cfg(test)]\nmod tests { child.wait(); }").is_empty());
        assert!(found("init/src/halt.rs", "reboot(mode);").is_empty());
        assert!(found("init/src/logger.rs", "poll::wait(&fds)").is_empty());
        assert!(found("init/src/logger.rs", "std::thread::Builder::new()").is_empty());
        assert!(found("tests/src/qemu.rs", "child.wait();").is_empty());
    }

    #[test]
    fn an_effect_in_the_library_is_found_and_in_the_binary_is_free() {
        let lib = source("init/src/lib.rs", "pub mod config;\nmod backoff;\n");
        let text = "use std::fs;\nlet now = Instant::now();\n";
        let breaches = pure_library(&[
            lib,
            source("init/src/config/parse.rs", text),
            source("init/src/backoff.rs", text),
            source("init/src/boot.rs", text),
        ]);
        let places: Vec<String> =
            breaches.iter().map(|breach| format!("{}:{}", breach.path, breach.line)).collect();
        let expected = [
            "init/src/config/parse.rs:1",
            "init/src/config/parse.rs:2",
            "init/src/backoff.rs:1",
            "init/src/backoff.rs:2",
        ];
        assert_eq!(places, expected);
    }

    #[test]
    fn a_dependency_too_many_or_too_few_is_found() {
        let mut have: Vec<String> = INIT_DEPENDENCIES.iter().map(|&name| name.to_owned()).collect();
        assert!(dependencies(&have).is_empty());
        have.push("tokio".to_owned());
        have.remove(0);
        let messages: Vec<String> = dependencies(&have).into_iter().map(|breach| breach.message).collect();
        assert!(
            messages.len() == 2 && messages[0].contains("tokio") && messages[1].contains("anyhow"),
            "{messages:?}"
        );
    }

    #[test]
    fn a_strange_entry_and_a_missing_one_are_found() {
        let mut sources: Vec<Source> = TOP_LEVEL.iter().map(|&name| source(name, "")).collect();
        sources.push(source(".ci/run", ""));
        assert!(top_level(&sources).is_empty());
        sources.push(source("notes/x", ""));
        sources.remove(0);
        let paths: Vec<String> = top_level(&sources).into_iter().map(|breach| breach.path).collect();
        assert_eq!(paths, ["notes", "CHANGELOG.md"]);
    }
}
