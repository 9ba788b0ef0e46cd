//! Which of the image's OCI archives are to be imported into containerd.
//!
//! An archive counts as imported when our stamp says so for these very bytes and containerd still lists every image
//! of it: the stamp alone would miss a containerd that was wiped, the list alone an archive that was rebuilt under
//! the same names.

use crate::services::PreloadFacts;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What was imported. Stored as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// File name of the archive to its sha256.
    pub archives: BTreeMap<String, String>,
    /// Inode of containerd's database at that time: another one means that it was made anew, without our images.
    pub database: u64,
}

/// Whether every archive was imported into this very database. Images may still have been removed from it since, so
/// this only says that the kubelet need not wait while containerd is asked.
pub fn seem_there(archives: &[PreloadFacts], stamp: &Stamp, database: Option<u64>) -> bool {
    database == Some(stamp.database)
        && archives.iter().all(|archive| stamp.archives.get(&archive.file) == Some(&archive.sha256))
}

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
        stamp.archives.get(&archive.file) != Some(&archive.sha256) || !archive.images.iter().all(is_listed)
    });
    wanted
        .map(|archive| {
            let unfinished = !stamp.archives.contains_key(&archive.file);
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
            let done = stamp.iter().map(|(file, sum)| ((*file).to_owned(), (*sum).to_owned()));
            let stamp = Stamp { archives: done.collect(), database: 7 };
            let listed = listed.iter().map(ToString::to_string).collect();
            let imports = to_import(&archives, &stamp, &listed);
            let found: Vec<_> = imports
                .iter()
                .map(|import| (import.archive.file.as_str(), import.remove.as_slice()))
                .collect();
            assert_eq!(found, *expected, "case {index}");
        }
    }

    #[test]
    fn archives_seem_there_only_in_the_database_they_were_imported_into() {
        let archives =
            [PreloadFacts { file: "a.tar".into(), sha256: "1".into(), images: vec!["a:1".into()] }];
        let stamp = |sum: &str| Stamp { archives: [("a.tar".into(), sum.into())].into(), database: 7 };
        assert!(seem_there(&archives, &stamp("1"), Some(7)));
        assert!(!seem_there(&archives, &stamp("2"), Some(7)));
        assert!(!seem_there(&archives, &stamp("1"), Some(8)));
        assert!(!seem_there(&archives, &stamp("1"), None));
        assert!(!seem_there(&archives, &Stamp::default(), None));
    }
}
