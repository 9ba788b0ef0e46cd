//! What operators do: services, and the end of the node's life.

use super::caller::Caller;
use super::facts::Facts;
use super::upstream::Target;
use podium_init::control::Action;
use podium_wire::machine::ResetRequest;
use podium_wire::machine::reset_request::WipeMode;
use serde_json::{Value, json};
use std::sync::PoisonError;
use tonic::Status;

/// What a container's node cannot do itself.
const IN_CONTAINER: &str = "method is not supported in container mode";

/// By these the node is reached: who stops one over the network may have no way back to start it.
const WAYS_IN: [&str; 3] = ["api", "apid", "dhcpcd"];

/// Starts, stops or restarts a service; the answer is for people.
pub(super) async fn service(
    facts: &Facts,
    caller: &Caller,
    id: &str,
    action: Action,
) -> Result<String, Status> {
    if action == Action::Stop && WAYS_IN.contains(&id) {
        return Err(Status::failed_precondition(format!(
            "the node is reached by {id}, so it is not stopped over the network; restart it, or stop it on the node \
             itself: init ctl service stop {id}"
        )));
    }
    let request = json!({"request": "service", "name": id, "action": action.word()});
    let asked = facts.upstream.ask(Target::init(caller.acts_as()), &request).await;
    facts.forget_services().await;
    asked?;
    let done = match action {
        Action::Start => "started",
        Action::Stop => "stopped",
        Action::Restart => "restarted",
    };
    Ok(format!("Service {id:?} is being {done}"))
}

/// Ends the node's life; the answer is the id under which its events are told.
pub(super) async fn end(facts: &Facts, caller: &Caller, request: &Value) -> Result<String, Status> {
    if facts.setup().container {
        return Err(Status::failed_precondition(IN_CONTAINER));
    }
    let mut id = [0; 16];
    // Before the request: its events may come before its answer.
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Status::internal(format!("a random id: {error}")))?;
    let id = format!("{:032x}", u128::from_be_bytes(id));
    let before = {
        let mut actor = facts.actor.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *actor, id.clone())
    };
    match facts.upstream.ask(Target::init(caller.acts_as()), request).await {
        Ok(_) => Ok(id),
        Err(refused) => {
            *facts.actor.lock().unwrap_or_else(PoisonError::into_inner) = before;
            Err(refused.into())
        }
    }
}

/// What PID 1 is asked for. Disks of users are none of its business.
pub(super) fn reset(request: &ResetRequest) -> Result<Value, Status> {
    if !request.user_disks_to_wipe.is_empty() || request.mode() == WipeMode::UserDisks {
        return Err(Status::invalid_argument(
            "a Podium node wipes no disk but its own; leave user disks out",
        ));
    }
    let mut wanted = json!({"request": "reset", "reboot": request.reboot});
    if !request.system_partitions_to_wipe.is_empty() {
        let labels: Vec<&str> = request
            .system_partitions_to_wipe
            .iter()
            .filter(|partition| partition.wipe)
            .map(|partition| partition.label.as_str())
            .collect();
        wanted["partitions"] = json!(labels);
    }
    Ok(wanted)
}
