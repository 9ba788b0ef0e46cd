//! What the kernel counts for a service, from the texts of its cgroup's files. Reads no file.
//!
//! A controller that is not there (a container, cgroup v1) leaves a number unknown; nothing is guessed in its place.

/// What the processes of one service use together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory now, in bytes, what the kernel holds for them included.
    pub memory: Option<u64>,
    /// Time of processors since the cgroup was made, in microseconds: that of earlier lives is in it.
    pub cpu_us: Option<u64>,
}

impl Usage {
    /// From the texts of `memory.current` and `cpu.stat`, as far as they are there.
    pub fn parse(memory_current: Option<&str>, cpu_stat: Option<&str>) -> Self {
        Self {
            memory: memory_current.and_then(|text| text.trim().parse().ok()),
            cpu_us: cpu_stat.and_then(|text| number(text, "usage_usec")),
        }
    }
}

/// How many times the OOM killer has acted in a cgroup or below it, from the text of its `memory.events`. The number
/// only grows while the cgroup is there, over all lives of its service. `None`: the text does not tell.
pub fn oom_kills(memory_events: &str) -> Option<u64> {
    let kills = number(memory_events, "oom_kill")?;
    // Kernels before 5.17 have no such line.
    Some(kills.saturating_add(number(memory_events, "oom_group_kill").unwrap_or(0)))
}

/// The number on the line that begins with this name.
fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_read_from_its_own_line() {
        let events = "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(oom_kills(events), Some(3));
        assert_eq!(oom_kills("oom 3\noom_kill 2\n"), Some(2));
        assert_eq!(oom_kills("oom 3\noom_group_kill 1\n"), None);
        assert_eq!(oom_kills(""), None);
        assert_eq!(oom_kills("oom_kill x\n"), None);
    }

    #[test]
    fn what_is_not_there_is_not_known() {
        let stat = "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n";
        let usage = Usage::parse(Some("4096\n"), Some(stat));
        assert_eq!(usage, Usage { memory: Some(4096), cpu_us: Some(1500) });
        assert_eq!(Usage::parse(None, Some("user_usec 1\n")), Usage::default());
        assert_eq!(Usage::parse(Some("max\n"), None), Usage::default());
    }
}
