//! `modprobe`, as the kernel calls it (`/usr/sbin/modprobe -q -- fs-ext4`), and iptables and the kubelet by its path
//! in `/proc/sys/kernel/modprobe`.
//!
//! It loads, and does nothing else: it removes and lists nothing and reads no configuration files. Parameters come
//! from its arguments and from the kernel command line.

use crate::sys::module::Store;
use anyhow::{Result, anyhow, bail};

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    /// Names and aliases.
    names: Vec<String>,
    /// `a=1 b=2`, for the first name.
    parameters: String,
    /// Say nothing when it fails; the exit code does.
    is_quiet: bool,
}

/// `modprobe [-q] [-a] [--] MODULE [NAME=VALUE ...]`. With `-q` a failure has no words.
///
/// # Errors
/// A module is unknown or cannot be loaded.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let request = parse(args)?;
    load(&request).map_err(|error| if request.is_quiet { anyhow!("") } else { error })
}

fn load(request: &Request) -> Result<()> {
    Store::open()?.load(request.names.iter().map(String::as_str), &request.parameters).check()
}

/// Reads the arguments; the options are those of kmod's modprobe that callers use.
fn parse(args: &[String]) -> Result<Request> {
    let mut request = Request::default();
    let mut is_many = false;
    let mut options_ended = false;
    for arg in args {
        match arg.as_str() {
            "--" if !options_ended => options_ended = true,
            "-q" | "--quiet" if !options_ended => request.is_quiet = true,
            "-a" | "--all" if !options_ended => is_many = true,
            // Words that ask for no more than what is done anyhow.
            "-b" | "--use-blacklist" | "-s" | "--syslog" | "-v" | "--verbose" if !options_ended => {}
            "-qa" | "-aq" if !options_ended => (request.is_quiet, is_many) = (true, true),
            "-va" | "-av" | "-ab" | "-ba" if !options_ended => is_many = true,
            "-bq" | "-qb" if !options_ended => request.is_quiet = true,
            option if option.starts_with('-') && !options_ended => {
                bail!("option {option} is not known; this modprobe loads modules and does nothing else");
            }
            name if request.names.is_empty() || is_many => request.names.push(name.to_owned()),
            parameter => {
                let separator = if request.parameters.is_empty() { "" } else { " " };
                request.parameters = format!("{}{separator}{parameter}", request.parameters);
            }
        }
    }
    if request.names.is_empty() {
        bail!("no module named: modprobe [-q] [-a] [--] MODULE [NAME=VALUE ...]");
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(args: &[&str]) -> Result<Request> {
        parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn as_the_kernel_calls_it() {
        let request = request(&["-q", "--", "net-pf-10-proto-132-type-1"]).unwrap();
        assert_eq!(request.names, ["net-pf-10-proto-132-type-1"]);
        assert!(request.is_quiet && request.parameters.is_empty());
    }

    #[test]
    fn as_iptables_and_others_call_it() {
        let iptables = request(&["ip_tables", "-q"]).unwrap();
        assert_eq!((iptables.names, iptables.is_quiet), (vec!["ip_tables".to_owned()], true));
        let kube_proxy = request(&["--", "ip_vs"]).unwrap();
        assert_eq!((kube_proxy.names, kube_proxy.is_quiet), (vec!["ip_vs".to_owned()], false));
        let many = request(&["-va", "bridge", "nf_conntrack"]).unwrap();
        assert_eq!(many.names, ["bridge", "nf_conntrack"]);
    }

    #[test]
    fn parameters_follow_the_name() {
        let request = request(&["--", "nbd", "nbds_max=4", "max_part=2"]).unwrap();
        assert_eq!(
            (request.names, request.parameters.as_str()),
            (vec!["nbd".to_owned()], "nbds_max=4 max_part=2")
        );
    }

    #[test]
    fn what_it_cannot_do_is_refused() {
        for args in [&[][..], &["-q"], &["--"], &["-r", "bridge"], &["-D", "bridge"]] {
            assert!(request(args).is_err(), "{args:?}");
        }
        assert_eq!(request(&["--", "-r"]).unwrap().names, ["-r"]);
    }
}
