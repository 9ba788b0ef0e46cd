//! The stable UID of a static pod (rule 8 of the writer).
//!
//! A kubelet takes a pod with a new UID for a new pod, and one whose UID stayed for the same pod, which it then
//! changes in place. In place only a new image takes effect on every kubelet (from 1.31 they compare nothing but the
//! names and images of containers), so the UID is a function of everything but `spec.containers[].image`.
//!
//! The function is for ever: another one would restart every pod of every node once. It is FNV-1a of 128 bits over
//! the manifest's text, in RFC 9562's layout for what is application-defined (version 8). Nothing hostile is kept out
//! by it (who can write two pods that collide can as well write one pod twice), so no cryptographic hash is needed.

use crate::digest::fnv1a;
use serde_json::Value;

/// What a UID is a function of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uids {
    /// Everything but the images of `spec.containers`.
    Stable,
    /// Everything: each change is a new pod, as with the UIDs that a kubelet gives.
    OfEverything,
}

/// The UID of a pod whose `metadata` holds neither a UID nor anything that the server sets, and whose keys are
/// sorted: `xxxxxxxx-xxxx-8xxx-yxxx-xxxxxxxxxxxx`.
pub(super) fn of(mut pod: Value, uids: Uids) -> String {
    if let (Uids::Stable, Some(Value::Array(containers))) = (uids, pod.pointer_mut("/spec/containers")) {
        for image in containers.iter_mut().filter_map(|container| container.get_mut("image")) {
            *image = Value::Null;
        }
    }
    layout(fnv1a(pod.to_string().as_bytes()))
}

/// RFC 9562 section 5.8: version 8 in bits 48 to 51, variant `10` in bits 64 and 65, the hash in the others.
fn layout(hash: u128) -> String {
    let bits = hash & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |range| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_layout_is_version_8() {
        assert_eq!(layout(0), "00000000-0000-8000-8000-000000000000");
        assert_eq!(layout(u128::MAX), "ffffffff-ffff-8fff-bfff-ffffffffffff");
        assert_eq!(layout(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef), "01234567-89ab-8def-8123-456789abcdef");
    }

    /// If this fails, an update of Podium restarts every pod of every node: do not adjust the value.
    #[test]
    fn the_function_never_changes() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "default"},
            "spec": {"containers": [{"image": "x", "name": "c"}]}});
        assert_eq!(of(pod.clone(), Uids::Stable), "ffe55bb3-a5b5-8daf-b567-4a833e3c652b");
        assert_eq!(of(pod, Uids::OfEverything), "32688971-cd0a-8171-b263-ca3b2f197f04");
    }

    #[test]
    fn an_image_is_part_of_the_uid_only_when_asked_for() {
        let pod =
            |image: &str| json!({"metadata": {"name": "a"}, "spec": {"containers": [{"image": image}]}});
        assert_eq!(of(pod("x"), Uids::Stable), of(pod("y"), Uids::Stable));
        assert_ne!(of(pod("x"), Uids::OfEverything), of(pod("y"), Uids::OfEverything));
        assert_ne!(of(pod("x"), Uids::OfEverything), of(pod("x"), Uids::Stable));
    }
}
