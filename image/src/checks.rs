//! What must not be in the root file system. The build fails on each of these.

use crate::tree::{Content, Node, Tree};
use anyhow::{Result, bail};
use std::io::Read;

/// Names of programs that read commands.
const SHELLS: [&str; 13] =
    ["sh", "bash", "dash", "ash", "busybox", "toybox", "zsh", "ksh", "mksh", "csh", "tcsh", "rbash", "perl"];

/// Refuses shells, scripts, set-id files, and links that lead nowhere. All findings at once.
pub fn check(tree: &Tree) -> Result<()> {
    let mut problems = Vec::new();
    for (path, node) in tree.iter() {
        let name = path.rsplit('/').next().unwrap_or(path);
        if SHELLS.contains(&name) && !matches!(node, Node::Folder { .. }) {
            problems.push(format!("/{path} is a shell"));
        }
        match node {
            Node::File { mode, content } => {
                if mode & 0o6000 != 0 {
                    problems.push(format!("/{path} is set-user-id or set-group-id"));
                }
                if starts_with_interpreter(content)? {
                    problems.push(format!("/{path} is a script"));
                }
            }
            Node::Link { target } if is_lost(tree, path, target) => {
                problems.push(format!("/{path} leads to {target}, which is not in the image"));
            }
            Node::Link { .. } | Node::Folder { .. } => {}
        }
    }
    if !problems.is_empty() {
        bail!("the root file system is refused:\n  {}", problems.join("\n  "));
    }
    Ok(())
}

fn starts_with_interpreter(content: &Content) -> Result<bool> {
    Ok(match content {
        Content::Bytes(bytes) => bytes.starts_with(b"#!"),
        Content::Host { path, .. } => {
            let mut first = Vec::new();
            std::fs::File::open(path)?.take(2).read_to_end(&mut first)?;
            first == b"#!"
        }
    })
}

/// Links into /run, /proc and the like are filled at run time; all others must lead to something.
fn is_lost(tree: &Tree, path: &str, target: &str) -> bool {
    let place = crate::deb::resolve(path, target);
    let at_run_time = ["run/", "proc/", "var/", "system/", "dev/"].iter().any(|top| place.starts_with(top));
    let there = place.is_empty() || tree.get(&place).is_some();
    !at_run_time && !there
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(make: impl FnOnce(&mut Tree)) -> String {
        let mut tree = Tree::default();
        tree.file("usr/bin/du", 0o755, Content::Bytes(b"\x7fELF".to_vec())).unwrap();
        make(&mut tree);
        check(&tree).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_shell_is_refused_as_file_and_as_link() {
        assert_eq!(error_of(|_| {}), "");
        assert!(
            error_of(|tree| tree.file("usr/bin/dash", 0o755, Content::Bytes(vec![])).unwrap())
                .contains("/usr/bin/dash is a shell")
        );
        assert!(error_of(|tree| tree.link("usr/bin/sh", "du").unwrap()).contains("/usr/bin/sh is a shell"));
    }

    #[test]
    fn a_script_is_refused_whatever_its_mode() {
        let script = || Content::Bytes(b"#!/usr/bin/awk".to_vec());
        assert!(error_of(|tree| tree.file("etc/x", 0o644, script()).unwrap()).contains("/etc/x is a script"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "#!/bin/sh\n").unwrap();
        let content = Content::of_file(file.path()).unwrap();
        assert!(error_of(|tree| tree.file("etc/x", 0o644, content).unwrap()).contains("is a script"));
    }

    #[test]
    fn set_id_files_and_lost_links_are_refused_and_all_are_told() {
        let text = error_of(|tree| {
            tree.file("usr/bin/su", 0o4755, Content::Bytes(vec![])).unwrap();
            tree.link("etc/localtime", "../usr/share/none").unwrap();
            tree.link("etc/resolv.conf", "/run/podium/resolv.conf").unwrap();
            tree.link("usr/bin/size", "du").unwrap();
        });
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.contains("/usr/bin/su is set-user-id") && text.contains("/etc/localtime leads to"),
            "{text}"
        );
    }
}
