//! What waits to be written of one service's output: bounded, and what is newest stays.

use std::collections::VecDeque;

/// Bytes that wait for one service: as much as a whole file, and some seconds of a service that is busy telling.
pub const QUEUE_MAX: usize = 1 << 20;

/// What comes in pieces is put together up to this, in bytes: a part of a few bytes costs ten times that.
const PART: usize = 64 << 10;

/// Bytes in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    parts: VecDeque<Vec<u8>>,
    len: usize,
    lost: u64,
}

/// The oldest part of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Bytes that had to go before it.
    pub lost: u64,
    /// The part.
    pub bytes: Vec<u8>,
}

impl Queue {
    /// Adds bytes; the oldest parts make room and are counted as lost.
    pub fn push(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        match self.parts.back_mut() {
            Some(last) if last.len() + bytes.len() <= PART => last.extend_from_slice(bytes),
            _ => self.parts.push_back(bytes.to_vec()),
        }
        while self.len > QUEUE_MAX && self.parts.len() > 1 {
            let Some(oldest) = self.parts.pop_front() else { return };
            self.len = self.len.saturating_sub(oldest.len());
            self.lost = self.lost.saturating_add(u64::try_from(oldest.len()).unwrap_or(u64::MAX));
        }
    }

    /// Takes the oldest part, with what was lost before it.
    pub fn pop(&mut self) -> Option<Taken> {
        let bytes = self.parts.pop_front()?;
        self.len = self.len.saturating_sub(bytes.len());
        Some(Taken { lost: std::mem::take(&mut self.lost), bytes })
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_make_room_and_are_counted() {
        let mut queue = Queue::default();
        queue.push(b"old");
        queue.push(&vec![b'x'; QUEUE_MAX]);
        let taken = queue.pop().unwrap();
        assert_eq!((taken.lost, taken.bytes.len()), (3, QUEUE_MAX));
        assert_eq!((queue.pop(), queue.is_empty(), queue.len()), (None, true, 0));
        queue.push(b"a");
        assert_eq!(queue.pop().unwrap(), Taken { lost: 0, bytes: b"a".to_vec() }, "told once");
    }

    #[test]
    fn many_small_pieces_are_few_parts() {
        let mut queue = Queue::default();
        (0..QUEUE_MAX).for_each(|_| queue.push(b"x"));
        assert_eq!((queue.len(), queue.parts.len(), queue.lost), (QUEUE_MAX, QUEUE_MAX / PART, 0));
    }

    proptest! {
        /// Whatever is pushed and taken: bounded, in order, and every byte is taken, lost or waiting.
        #[test]
        fn nothing_is_lost_without_being_counted(
            steps in prop::collection::vec(prop::option::of(1_usize..200_000), 0..60)
        ) {
            let (mut queue, mut given, mut got) = (Queue::default(), 0, 0);
            for step in steps {
                match step {
                    Some(length) => {
                        queue.push(&vec![0; length]);
                        given += length as u64;
                    }
                    None => got += queue.pop().map_or(0, |taken| taken.lost + taken.bytes.len() as u64),
                }
                prop_assert!(queue.len() <= QUEUE_MAX);
                prop_assert_eq!(given, got + queue.lost + queue.len() as u64);
            }
        }
    }
}
