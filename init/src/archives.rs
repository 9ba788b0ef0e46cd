//! Which of the image's OCI archives are to be imported into containerd.
//!
//! An archive counts as imported when our stamp says so for these very bytes and containerd still lists every image
//! of it: the stamp alone would miss a containerd that was wiped, the list alone an archive that was rebuilt under
//! the same names.

use crate::services::PreloadFacts;
use std::collections::{BTreeMap, BTreeSet};

/// What was imported: file name of the archive to its sha256. Stored as JSON.
pub type Stamp = BTreeMap<String, String>;

/// An archive to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import<'a> {
    /// The archive.
    pub archive: &'a PreloadFacts,
    /// Images to remove before: they are listed but no stamp says that their import was completed, so their files
    /// may have been lost with the power, and importing them again would not write them anew.
    pub remove: Vec<&'a str>,
}

/// Compares the image's archives with the stamp and with containerd's list of images.
pub fn to_import<'a>(
    archives: &'a [PreloadFacts],
    stamp: &Stamp,
    listed: &BTreeSet<String>,
) -> Vec<Import<'a>> {
    let is_listed = |image: &String| listed.contains(image);
    let wanted = archives.iter().filter(|archive| {
        stamp.get(&archive.file) != Some(&archive.sha256) || !archive.images.iter().all(is_listed)
    });
    wanted
        .map(|archive| {
            let unfinished = !stamp.contains_key(&archive.file);
            let remove = archive.images.iter().filter(|image| unfinished && is_listed(image));
            Import { archive, remove: remove.map(String::as_str).collect() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_or_other_is_imported() {
        let archive = |file: &str, images: &[&str]| PreloadFacts {
            file: file.to_owned(),
            sha256: format!("sum of {file}"),
            images: images.iter().map(ToString::to_string).collect(),
        };
        let archives = [archive("a.tar", &["a:1"]), archive("b.tar", &["b:1", "b:2"])];
        let good = [("a.tar", "sum of a.tar"), ("b.tar", "sum of b.tar")];
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a [(&'a str, &'a [&'a str])]);
        let cases: &[Case<'_>] = &[
            (&good, &["a:1", "b:1", "b:2", "other"], &[]),
            (&[], &[], &[("a.tar", &[]), ("b.tar", &[])]),
            (&good, &["a:1", "b:1"], &[("b.tar", &[])]),
            (&good, &[], &[("a.tar", &[]), ("b.tar", &[])]),
            (&[("a.tar", "an older sum"), good[1]], &["a:1", "b:1", "b:2"], &[("a.tar", &[])]),
            (&[good[0]], &["a:1", "b:2"], &[("b.tar", &["b:2"])]),
        ];
        for (index, (stamp, listed, expected)) in cases.iter().enumerate() {
            let stamp = stamp.iter().map(|(file, sum)| ((*file).to_owned(), (*sum).to_owned())).collect();
            let listed = listed.iter().map(ToString::to_string).collect();
            let imports = to_import(&archives, &stamp, &listed);
            let found: Vec<_> = imports
                .iter()
                .map(|import| (import.archive.file.as_str(), import.remove.as_slice()))
                .collect();
            assert_eq!(found, *expected, "case {index}");
        }
    }
}
