//! Shows that the same input gives the same bytes: what was made is made a second time elsewhere and compared.
//!
//! [`check`] compiles our own programs a second time, from a copy of the sources in another folder, with another target
//! folder; [`check_packing`] takes them as they are, and so takes seconds: it is part of `cargo xtask test`. Both unpack
//! packages anew. What is shared is the cache: components by hash, and the kubelet.

use crate::build::{self, Checkout, Image};
use crate::packages::Policy;
use crate::{report, run};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Makes the image anew in a temporary folder and compares it with `first`. The error names the first difference.
pub fn check(checkout: &Checkout, policy: Policy, first: &Image) -> Result<()> {
    report::phase("second build", || {
        let folder = tempfile::Builder::new().prefix("reproducible-").tempdir_in(&checkout.work)?;
        let copy = folder.path().join("another/place");
        std::fs::create_dir_all(&copy)?;
        copy_sources(&checkout.root, &copy)?;
        let second = build::image(&Checkout::at(&copy), policy, None)?;
        compare(first, &second)?;
        report::note("reproducible: two builds in different folders gave the same bytes");
        Ok(())
    })
}

/// Packs the image anew in a temporary folder, from the same components and the same programs of ours, and compares it
/// with `first`. The error names the first difference.
pub fn check_packing(checkout: &Checkout, policy: Policy, first: &Image) -> Result<()> {
    report::phase("second packing", || {
        let folder = tempfile::Builder::new().prefix("podium-reproducible-").tempdir()?;
        let [out, work] = ["out", "work"].map(|name| folder.path().join(name));
        let second = build::image(&Checkout { root: checkout.root.clone(), out, work }, policy, None)?;
        compare(first, &second)
    })
}

fn compare(first: &Image, second: &Image) -> Result<()> {
    let pairs = [
        ("PID 1", &first.init, &second.init),
        ("initramfs.img", &first.initramfs, &second.initramfs),
        ("vmlinuz", &first.kernel, &second.kernel),
        ("root.erofs", &first.root, &second.root),
        ("disk.img", &first.disk, &second.disk),
    ];
    if first.facts != second.facts {
        bail!("not reproducible: image.json differs:\n{:#?}\n{:#?}", first.facts, second.facts);
    }
    for (name, one, other) in pairs {
        if let Some(offset) = first_difference(&one.path, &other.path)? {
            bail!(
                "not reproducible: {name} differs from byte {offset} on ({} and its second build)",
                one.path.display()
            );
        }
    }
    Ok(())
}

/// What git knows of, and what it does not ignore: the working tree as it is, without outputs.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    let mut list = run::command("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(from);
    let names = run::ask(&mut list)?.context("git cannot list the files of this checkout")?;
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let source = from.join(name);
        if !source.is_file() {
            continue;
        }
        let place = to.join(name);
        std::fs::create_dir_all(place.parent().context("a file has a folder")?)?;
        std::fs::copy(&source, &place).with_context(|| format!("cannot copy {}", source.display()))?;
    }
    Ok(())
}

/// Where two files first differ; `None` when they do not.
fn first_difference(one: &Path, other: &Path) -> Result<Option<u64>> {
    let open = |path: &Path| File::open(path).with_context(|| format!("cannot open {}", path.display()));
    let (mut one, mut other) = (open(one)?, open(other)?);
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut offset = 0;
    loop {
        let (have, want) = (fill(&mut one, &mut left)?, fill(&mut other, &mut right)?);
        // Byte by byte only where they differ: a disk has a gigabyte.
        if left[..have] != right[..want] {
            let same = left[..have].iter().zip(&right[..want]).take_while(|(a, b)| a == b).count();
            return Ok(Some(offset + u64::try_from(same)?));
        }
        if have == 0 {
            return Ok(None);
        }
        offset += u64::try_from(have)?;
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_found_also_in_length() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let mut large = vec![7; 3 << 20];
        let one = file("one", &large);
        assert_eq!(first_difference(&one, &file("two", &large)).unwrap(), None);
        large[(2 << 20) + 5] = 8;
        assert_eq!(first_difference(&one, &file("three", &large)).unwrap(), Some((2 << 20) + 5));
        assert_eq!(first_difference(&one, &file("four", &[7; 10])).unwrap(), Some(10));
        assert_eq!(first_difference(&file("five", b""), &file("six", b"")).unwrap(), None);
    }
}
