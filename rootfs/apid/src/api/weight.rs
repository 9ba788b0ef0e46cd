//! What answers weigh that their readers have not taken: resources with whole manifests, lists of thousands of rows.
//!
//! A light message costs what a call costs. The heavier ones of all callers together have a room, or some hundred
//! readers that take nothing would hold more than the process may; and no address has all of it. A message has its
//! place before it is made, and keeps it until its reader has asked for what follows.

use super::parts::{Part, Parts};
use prost::Message;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::Status;

/// Bytes on the wire that a message may have without a place of its own.
const LIGHT: usize = 8 << 10;
/// A message is held as it is and as it is sent.
const TIMES: usize = 2;
/// Bytes of all.
const ROOM: usize = 20 << 20;
/// Of one address.
const ROOM_OF_ADDRESS: usize = 5 << 20;
/// How long a message waits for its place: longer than readers that take nothing are borne (`connection::STALL_LIMIT`).
const PATIENCE: Duration = Duration::from_secs(90);
/// Messages that wait in one stream, beside the one that is sent.
const WAITING_MAX: usize = 2;

/// The room for answers.
pub(super) fn room() -> Parts {
    Parts::new(ROOM, ROOM_OF_ADDRESS)
}

/// What a message of so many bytes takes of the room; one that is larger than an address's part has all of that.
fn weight(bytes: usize) -> usize {
    bytes.saturating_mul(TIMES).min(ROOM_OF_ADDRESS)
}

fn full() -> Status {
    Status::resource_exhausted("answers that nobody takes fill the room for them; try again")
}

/// One call's way to the room. Clones are the same call's.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    room: Parts,
    address: IpAddr,
    /// Of an answer that is one message, until it has been sent.
    held: Arc<Mutex<Option<Part>>>,
}

impl Scale {
    pub(super) fn new(room: Parts, address: IpAddr) -> Self {
        Self { room, address, held: Arc::default() }
    }

    /// A place for a message of so many bytes; a light one needs none.
    ///
    /// # Errors
    /// There was none for a while.
    async fn place(&self, bytes: usize) -> Result<Option<Part>, Status> {
        if bytes <= LIGHT {
            return Ok(None);
        }
        timeout(PATIENCE, self.room.wait(self.address, weight(bytes))).await.map(Some).map_err(|_| full())
    }

    /// A place for the one message of an answer that is made after it, kept to the end of the call; `message` is what it
    /// will be.
    ///
    /// # Errors
    /// There was none for a while.
    pub(super) async fn of_answer(&self, message: &impl Message) -> Result<(), Status> {
        let held = self.place(message.encoded_len()).await?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(())
    }

    /// The same for a message that is made already: while it waited it would weigh.
    ///
    /// # Errors
    /// There is none now.
    pub(super) fn of_made(&self, message: &impl Message) -> Result<(), Status> {
        let bytes = message.encoded_len();
        if bytes > LIGHT {
            let held = self.room.take(self.address, weight(bytes)).ok_or_else(full)?;
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        }
        Ok(())
    }

    /// A stream of messages, each with its place.
    pub(super) fn stream<T>(&self) -> (Sender<T>, Weighed<T>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Sender { scale: self.clone(), sender }, Weighed { receiver, held: None })
    }
}

/// The end of a stream that is told to.
#[derive(Debug)]
pub(super) struct Sender<T> {
    scale: Scale,
    sender: mpsc::Sender<Item<T>>,
}

type Item<T> = (Result<T, Status>, Option<Part>);

/// Nobody reads any more.
#[derive(Debug)]
pub(super) struct Gone;

impl<T> Sender<T> {
    /// Sends a message that is made once there is a place for so many bytes. Where there is none, the stream ends and
    /// says so.
    pub(super) async fn send(&self, bytes: usize, make: impl FnOnce() -> T) -> Result<(), Gone> {
        let placed = tokio::select! {
            placed = self.scale.place(bytes) => placed,
            () = self.sender.closed() => return Err(Gone),
        };
        match placed {
            Ok(held) => self.sender.send((Ok(make()), held)).await.map_err(|_| Gone),
            Err(status) => {
                self.refuse(status).await;
                Err(Gone)
            }
        }
    }

    /// The last word.
    pub(super) async fn refuse(&self, status: Status) {
        // A client that has gone knows it by itself.
        drop(self.sender.send((Err(status), None)).await);
    }

    /// Returns when nobody reads any more.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}

/// The end that is read: asked for the next message, the one before it has been sent.
#[derive(Debug)]
pub(super) struct Weighed<T> {
    receiver: mpsc::Receiver<Item<T>>,
    held: Option<Part>,
}

impl<T> Stream for Weighed<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.held = None;
        let item = ready!(self.receiver.poll_recv(context));
        Poll::Ready(item.map(|(message, held)| {
            self.held = held;
            message
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt;
    use tonic::Code;

    fn scale(room: &Parts, last: u8) -> Scale {
        Scale::new(room.clone(), [192, 0, 2, last].into())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_part_and_all_have_the_whole() {
        let room = room();
        let heavy = ROOM_OF_ADDRESS / TIMES;
        let first = scale(&room, 1).place(heavy).await.unwrap();
        assert!(first.is_some());
        let refused = scale(&room, 1).place(LIGHT + 1).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(scale(&room, 1).place(LIGHT).await.unwrap().is_none(), "a light one needs none");
        let mut others = Vec::new();
        for last in 2..=4 {
            others.push(scale(&room, last).place(heavy).await.unwrap());
        }
        assert_eq!(scale(&room, 9).place(LIGHT + 1).await.unwrap_err().code(), Code::ResourceExhausted);
        others.pop();
        assert!(
            scale(&room, 9).place(usize::MAX).await.unwrap().is_some(),
            "one that is too large for it has all of it"
        );
        drop((first, others));
        assert!(room.is_empty());
    }

    #[test]
    fn a_message_that_is_made_does_not_wait() {
        let room = room();
        let message = "x".repeat(ROOM_OF_ADDRESS);
        scale(&room, 1).of_made(&String::new()).unwrap();
        let first = scale(&room, 1);
        first.of_made(&message).unwrap();
        let refused = scale(&room, 1).of_made(&message).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        drop(first);
        assert!(room.is_empty(), "its place goes with its call");
    }

    #[tokio::test]
    async fn who_waits_has_the_next_place() {
        let room = room();
        let first = scale(&room, 1).place(usize::MAX).await.unwrap();
        let waits = scale(&room, 1);
        let waiting = tokio::spawn(async move { waits.place(LIGHT + 1).await.map(|held| held.is_some()) });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert!(waiting.await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn a_message_has_its_place_until_the_next_one_is_asked_for() {
        let room = room();
        let (sender, mut stream) = scale(&room, 1).stream();
        sender.send(LIGHT + 1, || 1).await.unwrap();
        sender.send(1, || 2).await.unwrap();
        let bytes = || room.taken();
        assert_eq!(bytes(), TIMES * (LIGHT + 1));
        assert_eq!(stream.next().await.unwrap().unwrap(), 1);
        assert_eq!(bytes(), TIMES * (LIGHT + 1), "it is being sent");
        assert_eq!(stream.next().await.unwrap().unwrap(), 2);
        assert_eq!(bytes(), 0);
        sender.send(LIGHT + 1, || 3).await.unwrap();
        drop(stream);
        assert_eq!(bytes(), 0, "whoever goes leaves nothing behind");
        assert!(sender.send(1, || 4).await.is_err());
    }
}
