//! A message in pieces: hyper asks for the next piece only once the reader has made room for the one before.
//!
//! What hyper has been given, h2 holds until its reader takes it, without whatever the body counts; and hyper gives h2
//! a piece as soon as there is room for its first byte. So the last piece of a message is small: until the reader has
//! taken all that comes before it, the body is there, and with it all that the call counts.

use hyper::body::Bytes;

/// Bytes of a piece, which is one frame of HTTP/2 as every client takes it.
pub(super) const PIECE: usize = 16 << 10;
/// Of the last one.
pub(super) const LAST: usize = 256;

/// What is left of a message.
#[derive(Debug, Default)]
pub(super) struct Pieces(Bytes);

impl Pieces {
    pub(super) fn new(message: Bytes) -> Self {
        Self(message)
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The next piece; with the last one nothing of the message is held any more.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let left = self.0.len();
        let piece = match left {
            0 => return None,
            1..=LAST => left,
            _ => PIECE.min(left - LAST),
        };
        // Copied: a part of the message would hold all of it for as long as it waits.
        let copy = Bytes::copy_from_slice(&self.0.split_to(piece));
        if self.0.is_empty() {
            self.0 = Bytes::new();
        }
        Some(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_are_the_message_and_the_last_one_is_small() {
        for size in [0, 1, LAST - 1, LAST, LAST + 1, PIECE, PIECE + LAST, PIECE + LAST + 1, 1 << 20] {
            let message: Vec<u8> = (0..=250).cycle().take(size).collect();
            let mut pieces = Pieces::new(message.clone().into());
            let all: Vec<Bytes> = std::iter::from_fn(|| pieces.next()).collect();
            assert_eq!(all.concat(), message, "{size}");
            assert!(all.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE), "{size}");
            assert!(all.last().is_none_or(|last| last.len() <= LAST), "{size}");
            assert_eq!(pieces.bytes(), 0, "{size}");
        }
    }

    #[test]
    fn a_piece_that_waits_does_not_hold_the_message() {
        struct Held(std::sync::Arc<Vec<u8>>);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let message = std::sync::Arc::new(vec![7; 3 * PIECE]);
        let mut pieces = Pieces::new(Bytes::from_owner(Held(message.clone())));
        let all: Vec<Bytes> = std::iter::from_fn(|| pieces.next()).collect();
        assert_eq!(std::sync::Arc::strong_count(&message), 1, "{} pieces wait", all.len());
    }
}
