//! Which kernel modules go into the image, and the index files that describe exactly those.
//!
//! Text in, text out, over what depmod wrote for the whole kernel package. A module brings what it depends on, hard
//! (`modules.dep`) and soft (`modules.softdep`), so that nothing that is loaded by need is missing.

use anyhow::{Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// depmod's files of a whole kernel.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// `modules.dep`
    pub dep: String,
    /// `modules.alias`
    pub alias: String,
    /// `modules.softdep`
    pub softdep: String,
    /// `modules.builtin`
    pub builtin: String,
}

/// The chosen part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Paths below the release's folder, e.g. `kernel/fs/erofs/erofs.ko`.
    pub files: Vec<String>,
    /// `modules.dep` of those.
    pub dep: String,
    /// `modules.alias` of those.
    pub alias: String,
    /// `modules.softdep` of those.
    pub softdep: String,
}

/// Chooses modules by name with everything they need. A name that is built in needs nothing; an unknown one is an error.
pub fn select(index: &Index, names: &[String]) -> Result<Selection> {
    let files: BTreeMap<String, (&str, Vec<&str>)> = index
        .dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needs)| (name_of(file), (file, needs.split_whitespace().collect())))
        .collect();
    let builtin: BTreeSet<String> = index.builtin.lines().map(name_of).collect();
    let mut chosen: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<String> = Vec::new();
    for name in names {
        let name = normalize(name);
        if files.contains_key(&name) {
            open.push(name);
        } else if !builtin.contains(&name) {
            bail!("the kernel has no module `{name}`; remove it from image.yaml or correct its name");
        }
    }
    while let Some(name) = open.pop() {
        // A soft dependency may be an alias or built in: then there is no file to bring.
        let Some((_, needs)) = files.get(&name) else { continue };
        if chosen.insert(name.clone()) {
            open.extend(needs.iter().map(|file| name_of(file)));
            open.extend(soft_needs(&index.softdep, &name));
        }
    }
    let last = |line: &&str| {
        line.split_whitespace().next_back().is_some_and(|name| chosen.contains(&normalize(name)))
    };
    let second =
        |line: &&str| line.split_whitespace().nth(1).is_some_and(|name| chosen.contains(&normalize(name)));
    let first = |line: &&str| line.split_once(':').is_some_and(|(file, _)| chosen.contains(&name_of(file)));
    Ok(Selection {
        files: chosen.iter().filter_map(|name| files.get(name)).map(|(file, _)| (*file).to_owned()).collect(),
        dep: lines(index.dep.lines().filter(first)),
        alias: lines(index.alias.lines().filter(|line| line.starts_with("alias ")).filter(last)),
        softdep: lines(index.softdep.lines().filter(|line| line.starts_with("softdep ")).filter(second)),
    })
}

/// `kernel/fs/erofs/erofs.ko.xz` gives `erofs`; dashes become underscores as the kernel has it.
fn name_of(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    normalize(name.split(".ko").next().unwrap_or(name))
}

fn normalize(name: &str) -> String {
    name.replace('-', "_")
}

/// `softdep a pre: b c post: d` needs b, c and d for a.
fn soft_needs(softdep: &str, name: &str) -> Vec<String> {
    let mut needs = Vec::new();
    for line in softdep.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some("softdep") && words.next().is_some_and(|have| normalize(have) == name) {
            needs.extend(words.filter(|word| !word.ends_with(':')).map(normalize));
        }
    }
    needs
}

fn lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        Index {
            dep: "kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko\nkernel/lib/libcrc32c.ko:\nkernel/crypto/crc32c-generic.ko:\nkernel/net/dummy.ko:\n".into(),
            alias: "# Aliases\nalias fs-erofs erofs\nalias crypto-crc32c crc32c_generic\nalias rtnl-link-dummy dummy\n".into(),
            softdep: "# Soft\nsoftdep libcrc32c pre: crc32c crc32c-generic\nsoftdep dummy post: erofs\n".into(),
            builtin: "kernel/fs/ext4/ext4.ko\n".into(),
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_module_brings_its_hard_and_soft_needs_and_their_index_lines() {
        let have = select(&index(), &names(&["erofs"])).unwrap();
        assert_eq!(
            have.files,
            ["kernel/crypto/crc32c-generic.ko", "kernel/fs/erofs/erofs.ko", "kernel/lib/libcrc32c.ko"]
        );
        assert_eq!(have.dep.lines().count(), 3);
        assert_eq!(have.alias, "alias fs-erofs erofs\nalias crypto-crc32c crc32c_generic\n");
        assert_eq!(have.softdep, "softdep libcrc32c pre: crc32c crc32c-generic\n");
    }

    #[test]
    fn built_in_modules_need_no_file_and_unknown_ones_are_errors() {
        assert!(select(&index(), &names(&["ext4"])).unwrap().files.is_empty());
        let error = select(&index(), &names(&["errofs"])).unwrap_err().to_string();
        assert!(error.contains("no module `errofs`"), "{error}");
    }

    #[test]
    fn dashes_and_underscores_are_one() {
        assert_eq!(
            select(&index(), &names(&["crc32c_generic"])).unwrap(),
            select(&index(), &names(&["crc32c-generic"])).unwrap()
        );
    }
}
