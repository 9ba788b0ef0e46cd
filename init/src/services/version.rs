//! Versions of the programs in the image, as far as flags and config formats depend on them.
//!
//! Kubernetes and containerd name their releases alike: `1.20.2`, `v1.36.0-rc.1`, `1.6.20~ds1`. Only the first two
//! numbers decide. A version that cannot be read counts as the newest: the image build asks the programs
//! themselves, so this is a build of somebody's own, and those are made from today's sources.

/// Major and minor; orders as versions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1 in `1.20.2`.
    pub major: u32,
    /// 20 in `1.20.2`.
    pub minor: u32,
}

impl Version {
    /// What an unreadable version counts as.
    pub const NEWEST: Version = Version { major: u32::MAX, minor: u32::MAX };

    /// A version by its numbers.
    pub const fn new(major: u32, minor: u32) -> Self {
        Version { major, minor }
    }

    /// Reads `[v]MAJOR.MINOR[anything]`; see the file's doc for what is not that.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let number = |part: Option<&str>| {
            let part = part?;
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part.get(..end)?.parse().ok()
        };
        let mut parts = text.split('.');
        match (number(parts.next()), number(parts.next())) {
            (Some(major), Some(minor)) => Version { major, minor },
            _ => Version::NEWEST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_their_programs_print_them() {
        for (text, major, minor) in [
            ("1.20.2", 1, 20),
            ("v1.36.2", 1, 36),
            ("1.6.20~ds1", 1, 6),
            ("2.1.9", 2, 1),
            ("v1.37.0-rc.1", 1, 37),
            ("1.26+", 1, 26),
            (" 1.9\n", 1, 9),
        ] {
            assert_eq!(Version::parse(text), Version { major, minor }, "{text}");
        }
    }

    #[test]
    fn an_unreadable_version_counts_as_the_newest() {
        for text in ["", "master", "1", "v", "1.x", "99999999999.1"] {
            assert_eq!(Version::parse(text), Version::NEWEST, "{text}");
        }
        assert!(Version::parse("master") > Version::new(1, 37));
    }

    #[test]
    fn versions_order_by_number_not_by_text() {
        assert!(Version::parse("1.9.0") < Version::parse("1.20.2"));
        assert!(Version::parse("1.37.0") < Version::parse("2.0.0"));
    }
}
