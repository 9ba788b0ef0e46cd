//! What the kernel says when a device appears: bytes of its netlink messages -> [`Uevent`].
//!
//! A message is a header and `KEY=value` fields, each ended by NUL. Only the fields that Podium uses are kept.
//! Reading the socket is `sys::device`'s work.

/// A message of the kernel about one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change`, `bind`, …
    pub action: String,
    /// Below /sys: `/devices/pci0000:00/0000:00:05.0`.
    pub path: String,
    /// `pci`, `input`, …
    pub subsystem: String,
    /// What its driver is found by.
    pub modalias: Option<String>,
    /// Its node below /dev: `input/event0`.
    pub node: Option<String>,
}

impl Uevent {
    /// Reads one message: `add@/devices/…`, NUL, then the fields. `None` for what is not of this form, as the
    /// messages that user programs send to each other on the same socket (`libudev…`).
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut fields = message.split(|byte| *byte == 0);
        let header = std::str::from_utf8(fields.next()?).ok()?;
        header.split_once('@').filter(|(_, path)| path.starts_with('/'))?;
        let mut event = Self::default();
        for field in fields.filter_map(|field| std::str::from_utf8(field).ok()) {
            let Some((key, value)) = field.split_once('=') else { continue };
            match key {
                "ACTION" => value.clone_into(&mut event.action),
                "DEVPATH" => value.clone_into(&mut event.path),
                "SUBSYSTEM" => value.clone_into(&mut event.subsystem),
                "MODALIAS" => event.modalias = Some(value.to_owned()),
                "DEVNAME" => event.node = Some(value.to_owned()),
                _ => {}
            }
        }
        (!event.action.is_empty() && !event.path.is_empty()).then_some(event)
    }

    /// The modalias to load a driver for: that of a device which has just appeared.
    pub fn wants_driver(&self) -> Option<&str> {
        self.modalias.as_deref().filter(|modalias| self.action == "add" && !modalias.is_empty())
    }

    /// The number of the event device (`/dev/input/event<n>`) which has just appeared.
    pub fn new_event_device(&self) -> Option<u32> {
        if self.action != "add" || self.subsystem != "input" {
            return None;
        }
        self.node.as_deref()?.strip_prefix("input/event")?.parse().ok()
    }

    /// Whether it is a network card which has just appeared; pods' interfaces have no device behind them.
    pub fn is_new_card(&self) -> bool {
        self.action == "add" && self.subsystem == "net" && !self.path.starts_with("/devices/virtual/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DISK: &[u8] = b"add@/devices/pci0000:00/0000:00:05.0/virtio3\0ACTION=add\0\
        DEVPATH=/devices/pci0000:00/0000:00:05.0/virtio3\0SUBSYSTEM=virtio\0\
        MODALIAS=virtio:d00000002v00001AF4\0SEQNUM=1234\0";
    const BUTTON: &[u8] = b"add@/devices/LNXSYSTM:00/LNXPWRBN:00/input/input0/event0\0ACTION=add\0\
        DEVPATH=/devices/LNXSYSTM:00/LNXPWRBN:00/input/input0/event0\0SUBSYSTEM=input\0MAJOR=13\0MINOR=64\0\
        DEVNAME=input/event0\0SEQNUM=1235\0";

    #[test]
    fn a_card_is_told_from_a_pods_interface() {
        let card = |path: &str, action: &str| Uevent {
            action: action.into(),
            path: path.into(),
            subsystem: "net".into(),
            ..Uevent::default()
        };
        assert!(card("/devices/pci0000:00/0000:00:03.0/virtio0/net/eth0", "add").is_new_card());
        assert!(!card("/devices/pci0000:00/0000:00:03.0/virtio0/net/eth0", "remove").is_new_card());
        assert!(!card("/devices/virtual/net/veth12", "add").is_new_card());
        assert!(!Uevent::parse(DISK).unwrap().is_new_card());
    }

    #[test]
    fn a_new_device_asks_for_its_driver() {
        let event = Uevent::parse(DISK).unwrap();
        assert_eq!(event.path, "/devices/pci0000:00/0000:00:05.0/virtio3");
        assert_eq!(event.wants_driver(), Some("virtio:d00000002v00001AF4"));
        assert_eq!(event.new_event_device(), None);
        for action in ["remove", "change", "bind"] {
            let event = Uevent { action: action.into(), ..event.clone() };
            assert_eq!(event.wants_driver(), None, "{action}");
        }
    }

    #[test]
    fn a_new_event_device_is_known_by_its_node() {
        let event = Uevent::parse(BUTTON).unwrap();
        assert_eq!((event.new_event_device(), event.wants_driver()), (Some(0), None));
        let other = Uevent { subsystem: "drm".into(), ..event.clone() };
        assert_eq!(other.new_event_device(), None);
        let gone = Uevent { action: "remove".into(), ..event.clone() };
        assert_eq!(gone.new_event_device(), None);
        let mouse = Uevent { node: Some("input/mouse0".into()), ..event };
        assert_eq!(mouse.new_event_device(), None);
    }

    #[test]
    fn what_is_no_message_of_the_kernel_is_refused() {
        for message in [
            &b""[..],
            b"\0",
            b"libudev\0\xfe\xed\xca\xfe\0ACTION=add\0DEVPATH=/x\0",
            b"add@devices\0ACTION=add\0DEVPATH=/x\0",
            b"add@/devices/x\0DEVPATH=/devices/x\0",
            b"add@/devices/x\0ACTION=add\0",
            b"\xff@/x\0ACTION=add\0DEVPATH=/x\0",
        ] {
            assert_eq!(Uevent::parse(message), None, "{:?}", String::from_utf8_lossy(message));
        }
        let broken_field = b"add@/x\0ACTION=add\0DEVPATH=/x\0NAME=\xff\0none\0MODALIAS=a=b\0";
        assert_eq!(Uevent::parse(broken_field).unwrap().wants_driver(), Some("a=b"));
    }

    proptest! {
        #[test]
        fn bytes_never_panic(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(event) = Uevent::parse(&message) {
                prop_assert!(message.contains(&b'@') && !event.action.is_empty());
            }
        }
    }
}
