//! What executes a machine, and what its clock follows: QEMU's words for both.

use std::fmt;
use std::fs::{self, File};
use std::str::FromStr;

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accel {
    /// KVM when the processor and this user can, else TCG.
    #[default]
    Auto,
    /// The host's processor.
    Kvm,
    /// QEMU's translator: ten times slower, works everywhere.
    Tcg,
}

impl FromStr for Accel {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err("one of auto, kvm, tcg".to_owned()),
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

impl Accel {
    /// What `Auto` means on this host. A `/dev/kvm` alone proves nothing: without vmx or svm in `/proc/cpuinfo`
    /// it was seen to hang stock kernels.
    #[must_use]
    pub fn resolve(self) -> Self {
        let able = || {
            let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
            flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm")
                && File::options().read(true).write(true).open("/dev/kvm").is_ok()
        };
        match self {
            Self::Auto if able() => Self::Kvm,
            Self::Auto => Self::Tcg,
            chosen => chosen,
        }
    }
}

/// What the guest's clock follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The host's.
    Host,
    /// Without KVM a count of instructions, 500 million a second, and the host's clock while the guest is idle: where
    /// the host is busy the guest's timers are as slow as its processor, of which there is one, and none ends early.
    /// With KVM the host's.
    Paced,
    /// A count of instructions, a thousand million a second, and idle time is skipped: repeatable to 1 %. Takes one
    /// processor and no KVM.
    Counted,
}

/// QEMU's arguments for `smp` processors, where the clock leaves the choice.
pub(crate) fn words(accel: Accel, clock: Clock, smp: u32) -> Vec<String> {
    let accel = if clock == Clock::Counted { Accel::Tcg } else { accel.resolve() };
    let counted = match clock {
        Clock::Counted => Some("shift=0,sleep=off,align=off"),
        Clock::Paced if accel != Accel::Kvm => Some("shift=1,sleep=on,align=off"),
        Clock::Paced | Clock::Host => None,
    };
    // Without -cx16 this TCG gets cmpxchg16b wrong under SMP; without -erms and -fsrm the guest copies and clears by the
    // byte, an instruction each. A guest's reboot writes over all its code: with the default cache of 1 GiB the guest
    // was seen to stand still for minutes after it, QEMU being busy, most likely with taking out each old translation.
    let (how, processor) = match (accel, counted) {
        (Accel::Kvm, _) => ("kvm", "host"),
        (_, Some(_)) => ("tcg,thread=single,tb-size=256", "max,-cx16,-erms,-fsrm"),
        (_, None) => ("tcg,thread=multi", "max,-cx16,-erms,-fsrm"),
    };
    let smp = if counted.is_some() { 1 } else { smp };
    let line = format!("-accel {how} -cpu {processor} -smp {smp}");
    let counted = counted.into_iter().flat_map(|how| ["-icount".to_owned(), how.to_owned()]);
    line.split(' ').map(str::to_owned).chain(counted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(accel: Accel, clock: Clock) -> String {
        words(accel, clock, 2).join(" ")
    }

    #[test]
    fn counted_time_takes_one_processor_and_one_thread() {
        let line = line(Accel::Kvm, Clock::Counted);
        assert!(line.contains("-icount shift=0,sleep=off,align=off") && line.contains("-smp 1"), "{line}");
        assert!(line.contains("tcg,thread=single") && !line.contains("kvm"), "{line}");
    }

    #[test]
    fn a_paced_clock_counts_only_where_nothing_else_executes_the_guest() {
        let slow = line(Accel::Tcg, Clock::Paced);
        assert!(slow.contains("tcg,thread=single") && slow.contains("-smp 1 -icount shift=1"), "{slow}");
        assert_eq!(line(Accel::Kvm, Clock::Paced), line(Accel::Kvm, Clock::Host));
        assert!(line(Accel::Tcg, Clock::Host).contains("-smp 2"));
    }
}
