//! A file tree with explicit metadata, in memory: paths, modes, links, and where the bytes come from.
//!
//! Everything is root's, times are the image's. Neither the umask, the user nor the mode of a file on this machine
//! can reach the image. The tree's key is a hash over all of it: same key, same image.

use crate::cache;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Paths without leading slash, in byte order, so that a folder comes before what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Folder {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Its bytes.
        content: Content,
    },
    /// A symbolic link.
    Link {
        /// Target as written.
        target: String,
    },
}

/// The bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Here.
    Bytes(Vec<u8>),
    /// In a file of this machine.
    Host {
        /// That file.
        path: PathBuf,
        /// Names the bytes without reading them: a hash, or a path in an archive named by its hash.
        identity: String,
    },
}

impl Content {
    /// A file of this machine, named by its own hash.
    pub fn of_file(path: &Path) -> Result<Content> {
        Ok(Content::Host { path: path.to_owned(), identity: cache::hash_file(path)? })
    }

    /// The bytes themselves.
    pub fn read(&self) -> Result<Vec<u8>> {
        match self {
            Content::Bytes(bytes) => Ok(bytes.clone()),
            Content::Host { path, .. } => {
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
            }
        }
    }

    /// Hex sha256 of the bytes.
    pub fn sha256(&self) -> Result<String> {
        match self {
            Content::Bytes(bytes) => Ok(cache::hash(bytes)),
            Content::Host { path, .. } => cache::hash_file(path),
        }
    }

    fn identity(&self) -> String {
        match self {
            Content::Bytes(bytes) => cache::hash(bytes),
            Content::Host { identity, .. } => identity.clone(),
        }
    }
}

impl Tree {
    /// Adds a folder, and those above it with mode 0755. One that is there gets the mode.
    pub fn folder(&mut self, path: &str, mode: u32) -> Result<()> {
        self.parents(path)?;
        match self.nodes.get_mut(path) {
            Some(Node::Folder { mode: have }) => *have = mode,
            Some(_) => bail!("/{path} is wanted as a folder but is a file or a link already"),
            None => {
                self.nodes.insert(path.to_owned(), Node::Folder { mode });
            }
        }
        Ok(())
    }

    /// Adds a file. The same file twice is fine, another one at the path is an error.
    pub fn file(&mut self, path: &str, mode: u32, content: Content) -> Result<()> {
        self.insert(path, Node::File { mode, content })
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.insert(path, Node::Link { target: target.to_owned() })
    }

    /// Adds the files of a folder of this machine; executable ones get 0755, others 0644.
    pub fn copy_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let entries =
            std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_str()
                .with_context(|| format!("{} is not UTF-8", path.display()))?;
            let place = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            let meta = path.symlink_metadata()?;
            if meta.is_dir() {
                self.folder(&place, 0o755)?;
                self.copy_folder(&path, &place)?;
            } else if meta.is_symlink() {
                self.link(&place, &std::fs::read_link(&path)?.to_string_lossy())?;
            } else {
                let mode = if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
                let content = Content::Bytes(
                    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?,
                );
                self.file(&place, mode, content)?;
            }
        }
        Ok(())
    }

    /// Adds everything of another tree.
    pub fn merge(&mut self, other: Tree) -> Result<()> {
        for (path, node) in other.nodes {
            match node {
                Node::Folder { .. } if matches!(self.nodes.get(&path), Some(Node::Folder { .. })) => {}
                node => self.insert(&path, node)?,
            }
        }
        Ok(())
    }

    /// Everything in it, folders before what they hold.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// What is at a path.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// One line an entry: kind, mode, path, and target or identity of the content.
    pub fn listing(&self) -> String {
        let mut text = String::new();
        for (path, node) in &self.nodes {
            let line = match node {
                Node::Folder { mode } => format!("folder {mode:04o} {path}"),
                Node::File { mode, content } => format!("file {mode:04o} {path} {}", content.identity()),
                Node::Link { target } => format!("link {path} -> {target}"),
            };
            writeln!(text, "{line}").expect("writing to a String does not fail");
        }
        text
    }

    /// Hash over the listing.
    pub fn key(&self) -> String {
        cache::hash(self.listing().as_bytes())
    }

    /// Writes the tree into an empty folder. Owners are whoever runs this; the image builder makes them root.
    pub fn stage(&self, root: &Path) -> Result<()> {
        for (path, node) in &self.nodes {
            let place = root.join(path);
            write_node(&place, node).with_context(|| format!("cannot stage /{path}"))?;
        }
        // Folders get their modes last and innermost first: a folder without write permission could not be filled.
        for (path, node) in self.nodes.iter().rev() {
            if let Node::Folder { mode } = node {
                std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(*mode))?;
            }
        }
        std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    fn insert(&mut self, path: &str, node: Node) -> Result<()> {
        self.parents(path)?;
        match self.nodes.get(path) {
            Some(have) if *have == node => Ok(()),
            Some(_) => bail!("/{path} is put into the image twice with different content"),
            None => {
                self.nodes.insert(path.to_owned(), node);
                Ok(())
            }
        }
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        ensure!(
            path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."),
            "`{path}` is not a path in the image"
        );
        for (index, _) in path.match_indices('/') {
            match self.nodes.get(&path[..index]) {
                Some(Node::Folder { .. }) => {}
                Some(_) => bail!("/{path} cannot be made: /{} is not a folder", &path[..index]),
                None => {
                    self.nodes.insert(path[..index].to_owned(), Node::Folder { mode: 0o755 });
                }
            }
        }
        Ok(())
    }
}

fn write_node(place: &Path, node: &Node) -> Result<()> {
    match node {
        Node::Folder { .. } => std::fs::create_dir(place)?,
        Node::Link { target } => symlink(target, place)?,
        Node::File { mode, content } => {
            match content {
                Content::Bytes(bytes) => std::fs::write(place, bytes)?,
                Content::Host { path, .. } => {
                    std::fs::copy(path, place).with_context(|| format!("cannot read {}", path.display()))?;
                }
            }
            std::fs::set_permissions(place, std::fs::Permissions::from_mode(*mode))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Content {
        Content::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn parents_appear_and_conflicts_are_errors() {
        let mut tree = Tree::default();
        tree.file("usr/bin/a", 0o755, bytes("a")).unwrap();
        tree.file("usr/bin/a", 0o755, bytes("a")).unwrap();
        assert_eq!(tree.get("usr/bin"), Some(&Node::Folder { mode: 0o755 }));
        assert!(tree.file("usr/bin/a", 0o755, bytes("b")).unwrap_err().to_string().contains("twice"));
        assert!(
            tree.file("usr/bin/a/b", 0o755, bytes("b"))
                .unwrap_err()
                .to_string()
                .contains("/usr/bin/a is not a folder")
        );
        assert!(tree.file("usr/../a", 0o755, bytes("b")).is_err());
    }

    #[test]
    fn the_key_changes_with_mode_content_target_and_path() {
        let make = |path: &str, mode: u32, text: &str, target: &str| {
            let mut tree = Tree::default();
            tree.file(path, mode, bytes(text)).unwrap();
            tree.link("l", target).unwrap();
            tree.key()
        };
        let first = make("a", 0o644, "x", "t");
        assert_eq!(first, make("a", 0o644, "x", "t"));
        for other in [
            make("b", 0o644, "x", "t"),
            make("a", 0o755, "x", "t"),
            make("a", 0o644, "y", "t"),
            make("a", 0o644, "x", "u"),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn staging_sets_the_modes_whatever_the_umask() {
        let mut tree = Tree::default();
        tree.folder("closed", 0o500).unwrap();
        tree.file("closed/secret", 0o600, bytes("x")).unwrap();
        tree.folder("tmp", 0o1777).unwrap();
        tree.link("closed/link", "secret").unwrap();
        let folder = tempfile::tempdir().unwrap();
        tree.stage(folder.path()).unwrap();
        let mode =
            |path: &str| folder.path().join(path).symlink_metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!([mode("closed"), mode("closed/secret"), mode("tmp")], [0o500, 0o600, 0o1777]);
        assert_eq!(std::fs::read_link(folder.path().join("closed/link")).unwrap(), Path::new("secret"));
        std::fs::set_permissions(folder.path().join("closed"), std::fs::Permissions::from_mode(0o700))
            .unwrap();
    }

    #[test]
    fn a_folder_is_copied_with_normalized_modes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        std::fs::write(folder.path().join("etc/a"), "x").unwrap();
        std::fs::set_permissions(folder.path().join("etc/a"), std::fs::Permissions::from_mode(0o6711))
            .unwrap();
        let mut tree = Tree::default();
        tree.copy_folder(folder.path(), "").unwrap();
        assert_eq!(tree.get("etc/a"), Some(&Node::File { mode: 0o755, content: bytes("x") }));
    }
}
