//! The power button: `struct input_event` as bytes of `/dev/input/event*` -> was it pressed.
//!
//! A 64-bit kernel writes 24 bytes an event: 16 of time, then type, code (u16 each) and value (i32) in the
//! machine's byte order. Only a press counts: not its repetition while held, not the release.

/// Bytes of one event.
pub const EVENT_SIZE: usize = 24;
/// What the kernel's ACPI driver calls the device (`/sys/class/input/event0/device/name`), whichever of the two
/// ways a firmware describes the button in.
pub const POWER_BUTTON: &str = "Power Button";

/// `EV_KEY`: a key's or button's state changed.
const KEY: u16 = 1;
/// `KEY_POWER`.
const POWER: u16 = 116;
const PRESSED: i32 = 1;

/// Whether the power button was pressed in these events; bytes after the last whole event are ignored.
pub fn is_power_pressed(events: &[u8]) -> bool {
    events.as_chunks::<EVENT_SIZE>().0.iter().any(|event| {
        let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event;
        u16::from_ne_bytes([t0, t1]) == KEY
            && u16::from_ne_bytes([c0, c1]) == POWER
            && i32::from_ne_bytes([v0, v1, v2, v3]) == PRESSED
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut bytes = vec![0xee; 16];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_press_counts_and_nothing_else() {
        assert!(is_power_pressed(&event(1, 116, 1)));
        for (kind, code, value) in
            [(1, 116, 0), (1, 116, 2), (1, 30, 1), (0, 0, 0), (4, 116, 1), (1, 0x7400, 1)]
        {
            assert!(!is_power_pressed(&event(kind, code, value)), "{kind} {code} {value}");
        }
    }

    #[test]
    fn a_press_is_found_among_others_and_a_cut_one_is_not() {
        let mut bytes = event(4, 4, 7);
        bytes.extend(event(1, 116, 1));
        assert!(!is_power_pressed(&bytes[..47]));
        bytes.extend([1, 0, 116]);
        assert!(is_power_pressed(&bytes));
        assert!(!is_power_pressed(&[]));
    }
}
