//! The host's apt sources, read to learn which Debian mirror it uses, and rewritten for another suite.
//!
//! Text in, text out. Both formats are understood: one-line `.list` and deb822 `.sources`. Entries of other vendors
//! are left out: only suites by Debian's names with the component `main` count. No mirror is named in this project.

/// One Debian archive on a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// As in the host's file.
    pub uri: String,
    /// What follows the code name: empty, `-updates`, `-security`, …
    pub pocket: String,
    /// The host's `signed-by`, when it names files.
    pub signed_by: Option<String>,
}

const SUITES: [&str; 15] = [
    "stretch",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "experimental",
    "rc-buggy",
];
/// Pockets that hold what a released suite is made of; backports and proposed updates are not.
const POCKETS: [&str; 3] = ["", "-updates", "-security"];
/// Where Debian's own package puts the archive keys.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The Debian archives in a one-line style file.
pub fn parse_list(text: &str) -> Vec<Archive> {
    text.lines().flat_map(parse_line).collect()
}

/// The Debian archives in a deb822 style file.
pub fn parse_deb822(text: &str) -> Vec<Archive> {
    let text: String =
        text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line.trim_end(), "\n"]).collect();
    text.split("\n\n").flat_map(parse_stanza).collect()
}

/// A `sources.list` with binary and source entries of `suite` for each archive, without repetitions.
pub fn render(archives: &[Archive], suite: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for archive in archives {
        let signed_by = archive.signed_by.as_deref().unwrap_or(KEYRING);
        for kind in ["deb", "deb-src"] {
            let line =
                format!("{kind} [signed-by={signed_by}] {} {suite}{} main", archive.uri, archive.pocket);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn parse_line(line: &str) -> Option<Archive> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '[']))?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    archive(uri, suite, words, signed_by)
}

fn parse_stanza(stanza: &str) -> Vec<Archive> {
    let field = |name: &str| {
        let mut value: Option<String> = None;
        for line in stanza.lines() {
            match (line.starts_with([' ', '\t']), &mut value) {
                (true, Some(value)) => *value += &format!("\n{line}"),
                (true, None) => {}
                (false, Some(_)) => break,
                (false, None) => {
                    value = line
                        .split_once(':')
                        .filter(|(key, _)| key.trim().eq_ignore_ascii_case(name))
                        .map(|(_, value)| value.trim().to_owned());
                }
            }
        }
        value
    };
    let words = |name: &str| {
        field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    if !words("Types").iter().any(|kind| kind == "deb")
        || field("Enabled").is_some_and(|on| on.trim() == "no")
    {
        return Vec::new();
    }
    let signed_by = field("Signed-By").filter(|value| value.starts_with('/'));
    let mut archives = Vec::new();
    for uri in words("URIs") {
        for suite in words("Suites") {
            archives.extend(archive(
                &uri,
                &suite,
                words("Components").iter().map(String::as_str),
                signed_by.as_deref(),
            ));
        }
    }
    archives
}

fn archive<'a>(
    uri: &str,
    suite: &str,
    mut components: impl Iterator<Item = &'a str>,
    signed_by: Option<&str>,
) -> Option<Archive> {
    let code_name = suite.split(['-', '/']).next()?;
    // `bullseye/updates` was the form of the security suite before Debian 11.
    let pocket = suite[code_name.len()..].replace("/updates", "-security");
    let ours = SUITES.contains(&suite.strip_suffix(&suite[code_name.len()..])?)
        && POCKETS.contains(&pocket.as_str())
        && components.any(|component| component == "main")
        && !uri.starts_with("cdrom:");
    ours.then(|| Archive { uri: uri.to_owned(), pocket, signed_by: signed_by.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
# a comment
deb http://mirror.example/debian trixie main contrib # trailing
deb-src http://mirror.example/debian trixie main
deb [arch=amd64 signed-by=/etc/keys/debian.gpg] https://mirror.example/debian-security trixie-security main
deb [signed-by=/x.asc] https://docker.example/linux/debian bookworm stable
deb https://cloud.example/apt cloud-sdk-bookworm main
deb https://pg.example/apt bookworm-pgdg main
deb http://mirror.example/debian trixie-backports main
deb cdrom:[Debian]/ bookworm main
";

    const DEB822: &str = "\
Types: deb deb-src
# http://snapshot.example
URIs: mirror+file:///etc/apt/mirrors/debian.list
Suites: bookworm bookworm-updates
 bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: sid
Components: main

Types: deb
URIs: https://node.example/node_20.x
Suites: nodistro
Components: main
";

    fn brief(archives: &[Archive]) -> Vec<(&str, &str, Option<&str>)> {
        archives.iter().map(|a| (a.uri.as_str(), a.pocket.as_str(), a.signed_by.as_deref())).collect()
    }

    #[test]
    fn one_line_entries_of_debian_count_and_others_do_not() {
        let have = parse_list(LIST);
        let want = [
            ("http://mirror.example/debian", "", None),
            ("https://mirror.example/debian-security", "-security", Some("/etc/keys/debian.gpg")),
        ];
        assert_eq!(brief(&have), want);
    }

    #[test]
    fn deb822_stanzas_are_understood_with_continued_fields() {
        let have = parse_deb822(DEB822);
        let keyring = Some("/usr/share/keyrings/debian-archive-keyring.gpg");
        let want = [
            ("mirror+file:///etc/apt/mirrors/debian.list", "", keyring),
            ("mirror+file:///etc/apt/mirrors/debian.list", "-updates", keyring),
            ("http://mirror.example/debian-security", "-security", None),
        ];
        assert_eq!(brief(&have), want);
    }

    #[test]
    fn the_suite_is_replaced_and_sources_are_added() {
        let text =
            render(&parse_list("deb http://m/debian sid main\ndeb http://m/debian sid main"), "bookworm");
        let options = format!("[signed-by={KEYRING}] http://m/debian bookworm main\n");
        assert_eq!(text, format!("deb {options}deb-src {options}"));
    }

    #[test]
    fn the_old_name_of_the_security_suite_is_known() {
        assert_eq!(
            brief(&parse_list("deb http://s/ buster/updates main")),
            [("http://s/", "-security", None)]
        );
    }
}
