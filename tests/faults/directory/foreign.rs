//! The rows of what a foreign process does, and the doing where it takes more than a line.

use super::super::running::{FOLDER, Node, OURS, OWN_LIMIT, Row, pod};
use super::shown;
use anyhow::{Context, Result, ensure};
use std::time::Instant;

/// What is done, what is expected, and the doing.
pub(super) const ACTS: &[Row] = &[
    ("a new manifest of another by rename", "its pod runs, ours is the same process", new_manifest),
    ("ours again with the same bytes", "nothing is restarted", |node| {
        node.hand.replace(OURS, &node.ours)?;
        node.is_unharmed()
    }),
    ("ours touched", "nothing is restarted", |node| {
        node.hand.change("touch", OURS, b"", 0)?;
        node.is_unharmed()
    }),
    ("ours with another mode", "nothing is restarted", |node| {
        node.hand.change("mode", OURS, b"", 0o644)?;
        node.is_unharmed()
    }),
    ("ours with a space more", "put back as it was, nothing is restarted", |node| {
        node.hand.replace(OURS, &[&node.ours[..], b" \n"].concat())?;
        node.is_put_back()?;
        node.is_unharmed()
    }),
    ("a README that parses as a pod", "it runs as a pod of its own, ours is the same process", |node| {
        node.dropped("README.md", pod("readme", "readme-1").as_bytes())
    }),
    ("garbage", "ours is the same process, the kubelet still takes a new manifest", |node| {
        node.dropped("garbage.yaml", b"\xff\xfe: [")
    }),
    ("a file of 11 MB", "ours is the same process, the kubelet still takes a new manifest", |node| {
        // Hexadecimal in a query: written in place and made large after it. A kubelet may see the pod first.
        let text = pod("large", "large").replace("spec:\n", "spec:\n  nodeSelector: {on: another-node}\n");
        node.hand.change("write in place", &format!("{FOLDER}/large.yaml"), text.as_bytes(), 0)?;
        node.hand.change("cut", &format!("{FOLDER}/large.yaml"), b"", 11 << 20)?;
        node.is_unharmed()
    }),
    ("a directory", "ours is the same process, the kubelet still takes a new manifest", |node| {
        node.hand.change("make folder", &format!("{FOLDER}/folder"), b"", 0)?;
        node.is_unharmed()
    }),
    (
        "a link that leads nowhere",
        "ours is the same process, the kubelet still takes a new manifest",
        |node| {
            node.hand.change("link to", &format!("{FOLDER}/dangling.yaml"), b"/no/such", 0)?;
            node.is_unharmed()
        },
    ),
    (
        "two files with one pod's name",
        "ours is the same process, the kubelet still takes a new manifest",
        |node| {
            node.dropped("one.yaml", pod("same", "same-1").as_bytes())?;
            node.dropped("two.yaml", pod("same", "same-2").as_bytes())
        },
    ),
    ("two pods in one file", "the first runs, the second does not; ours is the same process", |node| {
        let text = format!("{}---\n{}", pod("first", "first-1"), pod("second", "second-1"));
        node.runs_of("two.yaml", text.as_bytes(), "first-1", Some("second-1"))
    }),
    ("a List", "nothing of it runs; ours is the same process", |node| {
        let item = pod("item", "item-1").trim_end().replace('\n', "\n    ");
        let text = format!("apiVersion: v1\nkind: List\nitems:\n  - {item}\n");
        node.hand.replace(&format!("{FOLDER}/list.yaml"), text.as_bytes())?;
        let seen = node.is_unharmed()?;
        ensure!(node.hand.process("guest", "item-1").is_err(), "a pod of the list runs");
        Ok(seen)
    }),
    ("a key given twice", "the last one runs; ours is the same process", |node| {
        let text = pod("twice", "twice-1") + "metadata: {name: twice-last}\n";
        node.runs_of("twice.yaml", text.as_bytes(), "twice-1", None)
    }),
    (
        "ours changed while the kubelet is down",
        "put back as it was; when it returns, nothing is restarted",
        |node| {
            let before = node.process("ours-1")?;
            node.stops_kubelet()?;
            node.hand.replace(OURS, &node.with_another_argument()?)?;
            node.is_put_back()?;
            node.starts_kubelet()?;
            let seen = node.is_unharmed()?;
            ensure!(node.process("ours-1")? == before, "our pod was restarted");
            Ok(seen)
        },
    ),
    (
        "the directory removed, or replaced by rename, by a process of the node",
        "the kernel refuses: it is a mount",
        directory_replaced,
    ),
    (
        "ours cut off in place",
        "put back as it was before the kubelet looks again, nothing is restarted",
        |node| {
            node.hand.change("cut", OURS, b"", 40)?;
            node.is_put_back()?;
            node.is_unharmed()
        },
    ),
    (
        "ours emptied in place",
        "put back as it was before the kubelet looks again, nothing is restarted",
        |node| {
            node.hand.change("write in place", OURS, b"", 0)?;
            node.is_put_back()?;
            node.is_unharmed()
        },
    ),
    (
        "ours cut by truncate(2), which nobody closes",
        "put back as it was before the kubelet looks again, nothing is restarted",
        |node| {
            node.hand.change("truncate", OURS, b"", 40)?;
            node.is_put_back()?;
            node.is_unharmed()
        },
    ),
    ("a FIFO for a moment", "told; the kubelet is started again and takes a new manifest", |node| {
        fifo(node, "moment.yaml", true)
    }),
    (
        "a FIFO that stays",
        "moved out of sight, told; a kubelet that waits for it is released and takes a new manifest",
        |node| fifo(node, "pipe.yaml", false),
    ),
    // From here on the kubelet may end our pod, some time later and not in step with anything.
    (
        "ours as the first of two pods in one file, with another argument",
        "moved out of the kubelet's sight, told; our pod runs",
        |node| {
            let text = format!("{}---\n{}", pod("ours", "ours-bad"), pod("second", "second-1"));
            node.hand.replace(&format!("{FOLDER}/two.yaml"), text.as_bytes())?;
            node.returns("two.yaml")
        },
    ),
    (
        "ours by the last of two names in one file, with another argument",
        "moved out of the kubelet's sight, told; our pod runs",
        |node| {
            let text = pod("other", "ours-bad") + "metadata: {name: ours}\n";
            node.hand.replace(&format!("{FOLDER}/twice.yaml"), text.as_bytes())?;
            node.returns("twice.yaml")
        },
    ),
    // It is JSON: what is a comment in YAML is an error there, and the kubelet ends the pod at once.
    ("ours with a comment more", "put back as it was; our pod runs", |node| {
        node.hand.replace(OURS, &[&node.ours[..], b"# more\n"].concat())?;
        node.is_put_back()?;
        node.returns("podium-default-ours.yaml")
    }),
    ("ours with another argument, by rename", "put back as it was; our pod runs", |node| {
        node.hand.replace(OURS, &node.with_another_argument()?)?;
        node.is_put_back()?;
        node.returns("podium-default-ours.yaml")
    }),
    ("ours written by somebody who keeps it open", "put back as it was; our pod runs", |node| {
        node.hand.change("write and keep open", OURS, &node.with_another_argument()?, 0)?;
        node.is_put_back()?;
        node.returns("podium-default-ours.yaml")
    }),
    (
        "a .bak of ours with another argument",
        "moved out of the kubelet's sight, told; our pod runs",
        |node| {
            let bytes = node.with_another_argument()?;
            node.hand.replace(&format!("{FOLDER}/podium-default-ours.yaml.bak"), &bytes)?;
            node.returns("podium-default-ours.yaml.bak")
        },
    ),
    ("a link to ours", "moved out of the kubelet's sight, told; our pod runs", |node| {
        node.hand.change("link to", &format!("{FOLDER}/link.yaml"), OURS.as_bytes(), 0)?;
        node.returns("link.yaml")
    }),
    ("ours renamed", "put back, the other name moved out of sight and told; our pod runs", |node| {
        node.hand.change("rename to", OURS, format!("{FOLDER}/renamed.yaml").as_bytes(), 0)?;
        node.is_put_back()?;
        node.returns("renamed.yaml")
    }),
    ("ours removed", "put back; our pod runs", |node| {
        node.hand.change("remove", OURS, b"", 0)?;
        node.is_put_back()?;
        node.returns("podium-default-ours.yaml")
    }),
];

impl Node {
    /// Our manifest with an argument that tells its process from ours.
    fn with_another_argument(&self) -> Result<Vec<u8>> {
        let text = std::str::from_utf8(&self.ours)?;
        ensure!(text.contains("ours-1"), "{text}");
        Ok(text.replace("ours-1", "ours-bad").into_bytes())
    }

    /// A file of which the kubelet runs the pod with the word `runs`, and none with the word `not`.
    fn runs_of(&self, name: &str, text: &[u8], runs: &str, not: Option<&str>) -> Result<String> {
        self.hand.replace(&format!("{FOLDER}/{name}"), text)?;
        self.process(runs)?;
        let seen = self.is_unharmed()?;
        if let Some(word) = not {
            ensure!(self.hand.process("guest", word).is_err(), "{word} runs as well");
        }
        Ok(format!("{runs} runs, {seen}"))
    }
}

fn new_manifest(node: &Node) -> Result<String> {
    let before = node.process("ours-1")?;
    let since = Instant::now();
    node.hand.replace(&format!("{FOLDER}/new.yaml"), pod("new", "new-1").as_bytes())?;
    node.process("new-1")?;
    let took = since.elapsed();
    ensure!(node.process("ours-1")? == before, "our pod was restarted");
    Ok(format!("it runs after {:.1} s", took.as_secs_f64()))
}

fn directory_replaced(node: &Node) -> Result<String> {
    let mut seen = Vec::new();
    for (what, text) in [("remove folder", ""), ("rename to", "/etc/kubernetes/old")] {
        let refused = node.hand.change_there(what, FOLDER, text.as_bytes()).err();
        seen.push(format!("{:#}", refused.with_context(|| format!("{what} succeeded"))?));
    }
    ensure!(seen.iter().all(|error| error.contains("busy")), "{seen:?}");
    node.is_unharmed()
}

fn fifo(node: &Node, name: &str, only_a_moment: bool) -> Result<String> {
    let path = format!("{FOLDER}/{name}");
    let before = node.process("ours-1")?;
    let from = node.machine.console.mark();
    node.hand.change("make FIFO", &path, b"", 0)?;
    if only_a_moment {
        // Podium may have been faster.
        node.hand.remove(&path).ok();
    }
    let line = node.hand.reads(&node.machine.console, from, name, OWN_LIMIT);
    // First what matters more: a kubelet that hangs.
    let more = node.takes_more()?;
    ensure!(node.process("ours-1")? == before, "our pod was restarted");
    Ok(format!("{}; {more}", shown(&line?)))
}
