//! What a line of the kubelet's log says of a static pod, in the words of every kubelet from 1.20 on.
//!
//! A kubelet that refuses a manifest when it reads it has no such pod in its list, and why a sandbox cannot be made
//! stands in no status: only the log tells. Up to 1.20 lines are formatted, later ones have a quoted message with
//! `key="value"` behind it. The lines come from pkg/kubelet/config (file.go, http.go, config.go) and pod_workers.go.

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// A manifest file was refused.
    File {
        /// Its name in the manifest directory.
        file: String,
        /// Why.
        message: String,
    },
    /// The list that was delivered over http was refused.
    List {
        /// Why.
        message: String,
    },
    /// Another pod of that name came first.
    Duplicate {
        /// The pod's UID.
        uid: String,
    },
    /// A pod could not be brought to what it shall be; the kubelet tries again.
    Sync {
        /// The pod's UID.
        uid: String,
        /// One word, as the kubelet has it for most errors; `FailedSync` for others.
        reason: String,
        /// Why.
        message: String,
    },
}

/// How 1.20 begins the last of its words on a list, before it goes on silently.
const LAST_FAILURE: &str = "Failed to read pods from URL. Dropping verbosity of this message to V(4): ";
/// A message that is shown to people; of a longer one the end is cut off.
const MESSAGE_MAX: usize = 1024;

/// Reads one line; nearly all of them say nothing.
pub(crate) fn read(line: &str) -> Option<News> {
    // "E1124 03:29:20.123456     123 file.go:187] ..."
    let text = line.split_once("] ")?.1.trim_end();
    if text.starts_with('"') { structured(text) } else { formatted(text) }
}

/// 1.20 and before.
fn formatted(text: &str) -> Option<News> {
    let text = text.strip_prefix("Unable to process watch event: ").unwrap_or(text);
    if let Some(rest) = strip_any(text, &["Can't process manifest file ", "can't process config file "]) {
        let (path, rest) = quoted(rest)?;
        return file(&path, rest.strip_prefix(": ")?);
    }
    if let Some(rest) = strip_any(text, &["Failed to read pods from URL: ", LAST_FAILURE]) {
        return list(rest);
    }
    if let Some(rest) = text.strip_prefix("Error syncing pod ") {
        let (uid, rest) = rest.split_once(' ')?;
        return Some(sync(uid, rest.split_once("), skipping: ")?.1));
    }
    // Pod[2] (name_namespace(uid)) from file failed validation due to duplicate pod name "name", ignoring
    if text.starts_with("Pod[") && text.contains(" failed validation due to duplicate pod name ") {
        let description = text.split_once("] (")?.1.split_once(") from ")?.0;
        let uid = description.rsplit_once('(')?.1.trim_end_matches(')');
        return Some(News::Duplicate { uid: uid.to_owned() });
    }
    None
}

/// After 1.20.
fn structured(text: &str) -> Option<News> {
    let (message, rest) = quoted(text)?;
    match message.as_str() {
        "Could not process manifest file" => file(&value(rest, "path")?, &value(rest, "err")?),
        "Unable to process watch event" => {
            let err = value(rest, "err")?;
            let (path, rest) = quoted(err.strip_prefix("can't process config file ")?)?;
            file(&path, rest.strip_prefix(": ")?)
        }
        "Failed to read pods from URL"
        | "Failed to read pods from URL. Dropping verbosity of this message to V(4)" => {
            list(&value(rest, "err")?)
        }
        "Error syncing pod, skipping" => Some(sync(&value(rest, "podUID")?, &value(rest, "err")?)),
        "Pod failed validation due to duplicate pod name, ignoring" => {
            Some(News::Duplicate { uid: value(rest, "podUID")? })
        }
        _ => None,
    }
}

fn file(path: &str, message: &str) -> Option<News> {
    let file = path.rsplit('/').next()?.to_owned();
    // The file went away between two looks.
    if file.is_empty() || message.ends_with("no such file or directory") {
        return None;
    }
    Some(News::File { file, message: short(message) })
}

/// Of the reasons why a list was not read, those that lie in the list.
fn list(message: &str) -> Option<News> {
    let refused = message.starts_with("invalid pod") || message.contains("but couldn't parse as");
    refused.then(|| News::List { message: short(message) })
}

/// `failed to "StartContainer" for "name" with CrashLoopBackOff: "back-off 10s restarting …"`
fn sync(uid: &str, error: &str) -> News {
    let known = error.find(" with ").and_then(|at| {
        let (reason, rest) = error.get(at + " with ".len()..)?.split_once(": ")?;
        let is_word = !reason.is_empty() && reason.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let message = quoted(rest).map_or_else(|| rest.to_owned(), |(message, _)| message);
        (is_word && error.starts_with("failed to ")).then(|| (reason.to_owned(), message))
    });
    let (reason, message) = known.unwrap_or_else(|| ("FailedSync".to_owned(), error.to_owned()));
    News::Sync { uid: uid.to_owned(), reason, message: short(&message) }
}

/// The value behind ` key=`: quoted, or up to the next space.
fn value(text: &str, key: &str) -> Option<String> {
    let mut rest = text;
    // Key by key, so that a key within a quoted value is not taken for one.
    loop {
        let (name, after) = rest.trim_start().split_once('=')?;
        let (found, after) = match quoted(after) {
            Some(pair) => pair,
            None => after
                .split_once(' ')
                .map_or((after.to_owned(), ""), |(value, after)| (value.to_owned(), after)),
        };
        if name == key {
            return Some(found);
        }
        rest = after;
    }
}

/// A text in quotes at the beginning, as Go writes it (`%q`), and what comes behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut letters = text.strip_prefix('"')?.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((out, text.get(at + 2..)?)),
            '\\' => match letters.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                // A control character by its number: of no use to a reader.
                'x' => drop(letters.by_ref().take(2).count()),
                'u' => drop(letters.by_ref().take(4).count()),
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
    None
}

fn strip_any<'t>(text: &'t str, prefixes: &[&str]) -> Option<&'t str> {
    prefixes.iter().find_map(|prefix| text.strip_prefix(prefix))
}

/// One line of bounded length.
fn short(message: &str) -> String {
    let mut message: String =
        message.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if message.len() > MESSAGE_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_MAX));
        message += "...";
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_20: &str = "E1124 03:29:20.123456     123 file.go:187] ";
    const HEAD: &str = "E0205 20:44:31.683371    2837 pod_workers.go:1294] ";

    fn file(line: &str) -> (String, String) {
        match read(line) {
            Some(News::File { file, message }) => (file, message),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn sync(line: &str) -> (String, String, String) {
        match read(line) {
            Some(News::Sync { uid, reason, message }) => (uid, reason, message),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_refused_manifest_is_found_in_the_words_of_each_version() {
        let want = (
            "podium-default-web.yaml".to_owned(),
            "invalid pod: [spec.containers[0].image: Required value]".to_owned(),
        );
        let path = "/etc/kubernetes/manifests/podium-default-web.yaml";
        let error = "invalid pod: [spec.containers[0].image: Required value]";
        for line in [
            format!("{HEAD_20}Can't process manifest file \"{path}\": {error}"),
            format!("{HEAD_20}Unable to process watch event: can't process config file \"{path}\": {error}"),
            format!("{HEAD}\"Could not process manifest file\" err=\"{error}\" path=\"{path}\""),
            format!(
                "{HEAD}\"Unable to process watch event\" err=\"can't process config file \\\"{path}\\\": {error}\""
            ),
        ] {
            assert_eq!(file(&line), want, "{line}");
        }
    }

    #[test]
    fn quotes_within_a_message_are_undone() {
        let line = format!(
            "{HEAD}\"Could not process manifest file\" err=\"a.yaml: couldn't parse as pod(no kind \\\"Pod\\\" is registered), please check config file\" path=\"/m/a.yaml\""
        );
        assert_eq!(
            file(&line).1,
            "a.yaml: couldn't parse as pod(no kind \"Pod\" is registered), please check config file"
        );
    }

    #[test]
    fn a_file_that_went_away_is_no_refusal() {
        let line = format!(
            "{HEAD_20}Can't process manifest file \"/m/a.yaml\": open /m/a.yaml: no such file or directory"
        );
        assert_eq!(read(&line), None);
    }

    #[test]
    fn why_a_sandbox_cannot_be_made_is_found_in_the_words_of_each_version() {
        let uid = "ffe55bb3-a5b5-8daf-b567-4a833e3c652b";
        let error = "failed to \"CreatePodSandbox\" for \"web_default(x)\" with CreatePodSandboxError: \"no network\"";
        let want = (uid.to_owned(), "CreatePodSandboxError".to_owned(), "no network".to_owned());
        let old =
            format!("{HEAD_20}Error syncing pod {uid} (\"web-node_default({uid})\"), skipping: {error}");
        let escaped = error.replace('"', "\\\"");
        let new = format!(
            "{HEAD}\"Error syncing pod, skipping\" err=\"{escaped}\" pod=\"default/web-node\" podUID=\"{uid}\""
        );
        let bare = format!(
            "{HEAD}\"Error syncing pod, skipping\" err=\"{escaped}\" pod=\"default/web-node\" podUID={uid}"
        );
        for line in [old, new, bare] {
            assert_eq!(sync(&line), want, "{line}");
        }
        let other = format!(
            "{HEAD_20}Error syncing pod {uid} (\"a(b)\"), skipping: unmounted volumes=[v]: timed out"
        );
        assert_eq!(
            sync(&other),
            (uid.to_owned(), "FailedSync".to_owned(), "unmounted volumes=[v]: timed out".to_owned())
        );
    }

    #[test]
    fn a_refused_list_is_told_from_a_server_that_is_away() {
        let refused = format!("{HEAD_20}Failed to read pods from URL: invalid pod: [spec: Required value]");
        assert!(matches!(read(&refused), Some(News::List { .. })));
        let refused =
            format!("{HEAD}\"Failed to read pods from URL\" err=\"invalid pod: [spec: Required value]\"");
        assert!(matches!(read(&refused), Some(News::List { .. })));
        let away = format!(
            "{HEAD_20}Failed to read pods from URL: dial tcp 127.0.0.1:10247: connect: connection refused"
        );
        assert_eq!(read(&away), None);
    }

    #[test]
    fn a_pod_whose_name_is_taken_is_found() {
        let old = format!(
            "{HEAD_20}Pod[2] (web-node_default(u-1)) from file failed validation due to duplicate pod name \"web-node\", ignoring"
        );
        assert_eq!(read(&old), Some(News::Duplicate { uid: "u-1".into() }));
        let new = format!(
            "{HEAD}\"Pod failed validation due to duplicate pod name, ignoring\" index=2 pod=\"default/web-node\" podUID=\"u-1\" source=\"file\""
        );
        assert_eq!(read(&new), Some(News::Duplicate { uid: "u-1".into() }));
    }

    #[test]
    fn other_lines_and_broken_ones_say_nothing() {
        for line in [
            "",
            "] ",
            "] \"",
            "x] \"Error syncing pod, skipping\"",
            "I1 1 a.go:1] Starting",
            "-- podium: boot 1",
            "x] \"Error syncing pod, skipping\" err=\"cut",
            "x] Error syncing pod",
            "x] Can't process manifest file \"a",
            "x] Pod[",
            "x] \"Could not process manifest file\" path=\"/a\"",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn a_line_that_is_cut_off_anywhere_breaks_nothing() {
        for line in [
            format!(
                "{HEAD_20}Unable to process watch event: can't process config file \"/m/\u{e9}.yaml\": a \\x1b b"
            ),
            format!(
                "{HEAD_20}Error syncing pod u (\"n_s(u)\"), skipping: failed to \"X\" for \"y\" with Z: \"\u{e9}\\u00e9\""
            ),
            format!(
                "{HEAD}\"Error syncing pod, skipping\" err=\"a \\\"b\\\" with C: \\\"d\\\"\" pod=\"s/n\" podUID=\"u\""
            ),
            format!(
                "{HEAD_20}Pod[2] (n_s(u)) from file failed validation due to duplicate pod name \"n\", ignoring"
            ),
        ] {
            let ends = line.char_indices().map(|(at, _)| at).chain([line.len()]);
            ends.for_each(|end| drop(read(&line[..end])));
            let begins = line.char_indices().map(|(at, _)| at);
            begins.for_each(|begin| drop(read(&line[begin..])));
        }
    }

    #[test]
    fn a_message_is_one_bounded_line() {
        let long = format!("{HEAD_20}Can't process manifest file \"/m/a\": x\u{7}{}", "y".repeat(5000));
        assert!(file(&long).1.len() < 1100 && file(&long).1.starts_with("x y"));
    }
}
