//! Whether the kubelet can use its checkpoints: the end of its log in, what has to go out of its way out.
//!
//! The kubelet writes down which pod has which processors and memory, and ends at each start when it cannot use that:
//! a damaged file, another `cpuManagerPolicy` or `memoryManagerPolicy` in the config, another number of processors.
//! Which of it holds differs by version, so its own word is taken: each of these ends asks for the file to be deleted.
//! (That of dynamic resources does not ask, and is not looked at.)
//! Source: `state_checkpoint.go` and the managers' `Start` in `pkg/kubelet/cm/{cpumanager,memorymanager}`,
//! `pkg/kubelet/allocation` of Kubernetes 1.20 to 1.34.

/// Below the kubelet's root. The last three are of pod resources: 1.27 to 1.32, and later.
pub const FILES: [&str; 5] = [
    "cpu_manager_state",
    "memory_manager_state",
    "pod_status_manager_state",
    "allocated_pods_state",
    "actuated_pods_state",
];
/// Those that a complaint may be about that names none, and what such a life says of the one.
const UNNAMED: [(&str, &str); 2] = [
    ("cpu_manager_state", "start cpu manager error"),
    ("memory_manager_state", "start memory manager error"),
];
/// Who may complain: what a pod says, or is called, stands in lines of others.
const SOURCES: [&str; 6] = [
    "cpu_manager.go",
    "memory_manager.go",
    "policy_static.go",
    "status_manager.go",
    "allocation_manager.go",
    "kubelet.go",
];
/// As much of the end of the kubelet's log is looked at, in bytes: one life that ends early has some hundred lines.
pub const LOG_TAIL: u64 = 256 << 10;

/// A checkpoint that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// One of [`FILES`].
    pub name: &'static str,
    /// Of its file: one that was made since is another one.
    pub inode: u64,
}

/// What the kubelet cannot use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of [`FILES`], without repetition; never empty.
    pub files: Vec<&'static str>,
    /// In the kubelet's words, on one line.
    pub why: String,
}

const MARK: &str = "podium: begins, with";
/// It asks for a checkpoint to be removed.
const ASKS: [&str; 2] = ["please drain this node and delete", "please drain node and remove"];
/// Then the file is not to blame.
const UNRELATED: [&str; 4] =
    ["no space left on device", "input/output error", "read-only file system", "too many open files"];

/// The line that stands in the kubelet's log where a life begins.
pub fn mark(present: &[Checkpoint]) -> String {
    let words: Vec<String> =
        present.iter().map(|checkpoint| format!(" {} {}", checkpoint.name, checkpoint.inode)).collect();
    format!("{MARK}{}", if words.is_empty() { " no checkpoints".to_owned() } else { words.concat() })
}

/// What the last life in `log` could not use, of what is still the same file.
pub fn refused(log: &str, present: &[Checkpoint]) -> Option<Refusal> {
    let lines: Vec<&str> = log.lines().collect();
    let begin = lines.iter().rposition(|line| line.starts_with(MARK))?;
    let (mark, life) = lines.get(begin..)?.split_first()?;
    let had = |checkpoint: &Checkpoint| {
        let mut words = mark.split(' ');
        words.any(|word| word == checkpoint.name)
            && words.next().and_then(|inode| inode.parse().ok()) == Some(checkpoint.inode)
    };
    let complaints = life.iter().copied().filter(|line| {
        let is_theirs = SOURCES.iter().any(|source| is_error_of(line, source));
        let line = line.to_ascii_lowercase();
        is_theirs
            && ASKS.iter().any(|words| line.contains(words))
            && !UNRELATED.iter().any(|words| line.contains(words))
    });
    let complaints: Vec<&str> = complaints.collect();
    let named = |name: &str| complaints.iter().any(|line| line.contains(name));
    let said = |words: &str| life.iter().any(|line| is_error_of(line, "kubelet.go") && line.contains(words));
    let is_any_named = FILES.iter().any(|name| named(name));
    let is_any_said = UNNAMED.iter().any(|(_, words)| said(words));
    let is_unnamed =
        |name: &str| UNNAMED.iter().any(|(unnamed, words)| *unnamed == name && (said(words) || !is_any_said));
    let is_meant = |name: &str| if is_any_named { named(name) } else { is_unnamed(name) };
    let files = present.iter().filter(|checkpoint| had(checkpoint) && is_meant(checkpoint.name));
    let files: Vec<&'static str> = files.map(|checkpoint| checkpoint.name).collect();
    let first = complaints.first().filter(|_| !files.is_empty())?;
    Some(Refusal { files, why: cause(first).to_owned() })
}

/// Whether a line has the head of an error, or of the last one, from this source file: `E1129 10:37:32.050096 323
/// cpu_manager.go:203] …`.
fn is_error_of(line: &str, source: &str) -> bool {
    let head = line.split_once("] ").map_or("", |(head, _)| head);
    let place = head.rsplit(' ').next().and_then(|place| place.rsplit_once(':'));
    line.starts_with(['E', 'F']) && place.is_some_and(|(file, _)| file == source)
}

/// The cause in a complaint: what stands between the words that are the same in each.
fn cause(line: &str) -> &str {
    let from = ["could not restore state from checkpoint: ", "err=\"", "invalid state: ", "] "];
    let start = from.iter().find_map(|words| Some(line.find(words)? + words.len())).unwrap_or(0);
    let rest = line.get(start..).unwrap_or(line);
    match rest.to_ascii_lowercase().find("please drain") {
        Some(end) => rest.get(..end).unwrap_or(rest).trim_end_matches("\\n").trim_end_matches([' ', ',']),
        None => rest.strip_suffix('"').unwrap_or(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Checkpoint = Checkpoint { name: "cpu_manager_state", inode: 12 };
    const MEMORY: Checkpoint = Checkpoint { name: "memory_manager_state", inode: 13 };

    fn life(present: &[Checkpoint], text: &str) -> String {
        format!("{}\nI1129 starting\n{text}\n", mark(present))
    }

    fn files(log: &str, present: &[Checkpoint]) -> Vec<&'static str> {
        refused(log, present).map(|refusal| refusal.files).unwrap_or_default()
    }

    #[test]
    fn what_the_kubelet_names_is_refused_with_its_words() {
        // 1.20, damaged; then today's, with another policy.
        let damaged = "E1129 10:00:00.000000 7 cpu_manager.go:232] [cpumanager] could not initialize checkpoint manager: \
                       could not restore state from checkpoint: checkpoint is corrupted, please drain this node and \
                       delete the CPU manager checkpoint file \"/var/lib/kubelet/cpu_manager_state\" before restarting \
                       Kubelet, please drain node and remove policy state file";
        let policy = "E0306 15:00:02.460000 9 cpu_manager.go:223] \"Could not initialize checkpoint manager, please drain \
                      node and remove policy state file\" err=\"could not restore state from checkpoint: configured policy \
                      \\\"static\\\" differs from state checkpoint policy \\\"none\\\", please drain this node and delete \
                      the CPU manager checkpoint file \\\"/var/lib/kubelet/cpu_manager_state\\\" before restarting Kubelet\"";
        let seen = refused(&life(&[CPU, MEMORY], damaged), &[CPU, MEMORY]).unwrap();
        assert_eq!(seen, Refusal { files: vec![CPU.name], why: "checkpoint is corrupted".to_owned() });
        let seen = refused(&life(&[CPU], policy), &[CPU]).unwrap();
        let why = r#"configured policy \"static\" differs from state checkpoint policy \"none\""#;
        assert_eq!((seen.files, seen.why.as_str()), (vec![CPU.name], why));
    }

    #[test]
    fn a_complaint_without_a_name_is_about_the_managers() {
        let invalid = "E1129 10:00:00.000000 7 policy_static.go:126] [cpumanager] static policy invalid state: current set of available \
                       CPUs \"0-1\" doesn't match with CPUs in state \"0-3\", please drain node and remove policy state file";
        let other = Checkpoint { name: "allocated_pods_state", inode: 1 };
        let seen = refused(&life(&[CPU, other], invalid), &[CPU, other]).unwrap();
        assert_eq!(seen.files, [CPU.name]);
        assert!(seen.why.starts_with("current set of") && seen.why.ends_with("\"0-3\""), "{}", seen.why);

        let today = "E1129 10:00:00.000000 7 policy_static.go:126] \"Invalid state, please drain node and remove policy \
                     state file\" err=\"the expected machine state is different\"\n\
                     E1129 10:00:00.000000 7 kubelet.go:1700] \"Failed to start ContainerManager\" err=\"start memory \
                     manager error: x\"";
        let seen = refused(&life(&[CPU, MEMORY], today), &[CPU, MEMORY]).unwrap();
        let why = "the expected machine state is different".to_owned();
        assert_eq!(seen, Refusal { files: vec![MEMORY.name], why }, "the processors' is left alone");
    }

    #[test]
    fn what_a_pod_says_is_no_complaint() {
        for line in [
            "E1129 10:00:00.000000 7 pod_workers.go:191] exec: \"please drain node and remove cpu_manager_state\"",
            "I1129 10:00:00.000000 7 kubelet.go:1] please drain node and remove cpu_manager_state",
            "please drain node and remove cpu_manager_state",
        ] {
            assert_eq!(files(&life(&[CPU], line), &[CPU]), [""; 0], "{line}");
        }
    }

    #[test]
    fn only_the_last_life_counts_and_only_the_file_that_it_had() {
        let refusal = "F1129 10:00:00.000000 7 kubelet.go:1] delete the file \"cpu_manager_state\", please drain node and remove it";
        let log = life(&[CPU], refusal);
        assert_eq!(files(&log, &[CPU]), [CPU.name]);
        assert_eq!(files(&log, &[Checkpoint { inode: 99, ..CPU }]), [""; 0], "made since");
        assert_eq!(files(&log, &[]), [""; 0], "gone");
        assert_eq!(files(&format!("{log}{}", life(&[CPU], "fine")), &[CPU]), [""; 0], "it started since");
        assert_eq!(files(&format!("{}{log}", life(&[CPU], "fine")), &[CPU]), [CPU.name]);
        assert_eq!(files(&life(&[], refusal), &[CPU]), [""; 0], "it was not there then");
        assert_eq!(files(refusal, &[CPU]), [""; 0], "before any mark");
    }

    #[test]
    fn a_disk_is_no_fault_of_the_file() {
        for words in UNRELATED {
            let head = "E1129 10:00:00.000000 7 cpu_manager.go:1]";
            let text = format!("{head} please drain node and remove cpu_manager_state: {words}");
            assert_eq!(files(&life(&[CPU], &text), &[CPU]), [""; 0], "{words}");
        }
        for text in ["", "panic: x", "cpu_manager_state was written", "please drain the sink"] {
            assert_eq!(files(&life(&[CPU], text), &[CPU]), [""; 0], "{text}");
        }
    }
}
