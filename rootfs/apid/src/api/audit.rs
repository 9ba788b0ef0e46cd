//! One line a call that changes something or shows a secret: who, what, and what came of it. It goes to the service's
//! log. Of refusals one address leaves a bounded number, and how many more there were.

use super::caller::Caller;
use crate::say;
use podium_wire::roles::Role;

/// What a client can put into a line.
const TEXT_MAX: usize = 200;

/// Whether calls of this method leave a line: those that change the node, or show what only an admin may see.
pub(super) fn is_of_interest(needed: Option<Role>) -> bool {
    needed.is_some_and(|role| role > Role::Reader)
}

/// Writes the line. `unsaid`: refusals of the same address that have left none since its last one.
pub(super) fn line(caller: &Caller, method: &str, what: &str, result: &str, unsaid: u64) {
    say::line(&text(caller, method, what, result, unsaid));
}

fn text(caller: &Caller, method: &str, what: &str, result: &str, unsaid: u64) -> String {
    let role = match (caller.maintenance, caller.role) {
        (true, _) => "maintenance",
        (false, Some(role)) => role.organization(),
        (false, None) => "none",
    };
    let mut text = format!("audit: peer={} role={role}", caller.peer);
    for (key, value) in [
        ("name", caller.name.as_str()),
        ("serial", &caller.serial),
        ("method", method.rsplit('/').next().unwrap_or(method)),
        ("what", what),
        ("result", result),
    ] {
        if !value.is_empty() {
            let value: String = value.chars().take(TEXT_MAX).collect();
            text += &format!(" {key}={value:?}");
        }
    }
    if unsaid > 0 {
        text += &format!(" unsaid={unsaid}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_be_forged_by_what_is_in_it() {
        let mut caller = Caller::anybody("192.0.2.1:5".parse().unwrap());
        caller.name = "x\naudit: role=os:admin".to_owned();
        let text = text(&caller, "/machine.MachineService/Reboot", &"y".repeat(9000), "ok", 0);
        assert!(!text.contains('\n') && text.len() < 600, "{text}");
        assert!(text.starts_with(r#"audit: peer=192.0.2.1:5 role=maintenance name="x\naudit"#), "{text}");
        assert!(text.ends_with(r#"result="ok""#) && text.contains(r#"method="Reboot""#), "{text}");
    }
}
