//! A call's request: read to its end within limits of size, time and memory, before anything is made of it.
//!
//! What is short costs what an idle call costs. The longer ones of all callers together have a budget, or some hundred
//! calls that never end their requests would hold more than the process may; and no address has all of it.

use super::parts::{Part, Parts};
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;

/// The largest config that PID 1 takes, and its frame.
const CONFIG_MAX: usize = (4 << 20) + (64 << 10);
/// The largest request otherwise: some paths.
const REQUEST_MAX: usize = 64 << 10;
/// What nearly all requests keep to: a name or two.
const SHORT: usize = 4 << 10;
/// Longer ones at a time, 4 MiB of them.
const LONG_MAX: usize = 64;
/// Of one address, which may send each as slowly as [`LIMIT`] lets it.
const LONG_OF_ADDRESS_MAX: usize = 16;
/// Configs at a time: each is held four times over while it is taken apart.
const CONFIGS_MAX: usize = 2;
/// Of one address: whoever sends half a config leaves room for the other's.
const CONFIGS_OF_ADDRESS_MAX: usize = 1;
/// From a call's headers to its request's end.
const LIMIT: Duration = Duration::from_secs(20);

/// The longest request, by whether it is one with a config in it. A decoder makes room for what a message says of its own
/// length, so it must know this bound as well.
pub(super) fn longest(config: bool) -> usize {
    if config { CONFIG_MAX } else { REQUEST_MAX }
}

/// The budget of all calls.
#[derive(Debug)]
pub(super) struct Budget {
    long: Parts,
    configs: Parts,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            long: Parts::new(LONG_MAX, LONG_OF_ADDRESS_MAX),
            configs: Parts::new(CONFIGS_MAX, CONFIGS_OF_ADDRESS_MAX),
        }
    }
}

/// A request, and its part of the budget until it has been answered.
pub(super) struct Read {
    pub(super) bytes: Bytes,
    _part: Option<Part>,
}

impl Budget {
    /// Reads a request to its end; `config`: it is one with a config in it. `address`: what counts as one client.
    ///
    /// # Errors
    /// It is too long or too slow, was cut off, or there is no room for it now.
    pub(super) async fn read(
        &self,
        address: IpAddr,
        body: impl Body<Data = Bytes, Error: Sized>,
        config: bool,
    ) -> Result<Read, Status> {
        // Before its first byte: strangers could fill the memory with halves of configs.
        let part = config.then(|| self.configs.take(address, 1));
        if matches!(part, Some(None)) {
            return Err(Status::unavailable("another config is being applied; try again"));
        }
        let late = |_| Status::deadline_exceeded("the request has not come to its end");
        timeout(LIMIT, self.collected(address, body, longest(config), part.flatten())).await.map_err(late)?
    }

    async fn collected(
        &self,
        address: IpAddr,
        body: impl Body<Data = Bytes, Error: Sized>,
        most: usize,
        mut part: Option<Part>,
    ) -> Result<Read, Status> {
        let mut body = std::pin::pin!(body);
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Status::cancelled("the request was cut off"))?;
            let Ok(data) = frame.into_data() else { continue };
            let length = bytes.len() + data.len();
            if length > most {
                return Err(Status::resource_exhausted(format!("a request of more than {} KiB", most >> 10)));
            }
            if length > SHORT && part.is_none() {
                let full = || Status::unavailable("too many long requests are under way; try again");
                part = Some(self.long.take(address, 1).ok_or_else(full)?);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Read { bytes: bytes.into(), _part: part })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use std::sync::Arc;
    use tonic::Code;

    fn of(length: usize) -> Full<Bytes> {
        Full::new(vec![b'x'; length].into())
    }

    /// Never comes to its end after these bytes.
    fn endless(length: usize) -> impl Body<Data = Bytes, Error = std::convert::Infallible> {
        let first = tokio_stream::once(Ok(hyper::body::Frame::data(Bytes::from(vec![b'x'; length]))));
        http_body_util::StreamBody::new(tokio_stream::StreamExt::chain(first, tokio_stream::pending()))
    }

    fn address(last: usize) -> IpAddr {
        [192, 0, 2, u8::try_from(last).unwrap()].into()
    }

    async fn code(read: impl Future<Output = Result<Read, Status>>) -> Code {
        read.await.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    #[tokio::test]
    async fn each_kind_of_request_has_its_longest() {
        let budget = Budget::default();
        let read = |length, config| code(budget.read(address(1), of(length), config));
        assert_eq!(read(REQUEST_MAX, false).await, Code::Ok);
        assert_eq!(read(REQUEST_MAX + 1, false).await, Code::ResourceExhausted);
        assert_eq!(read(CONFIG_MAX, true).await, Code::Ok);
        assert_eq!(read(CONFIG_MAX + 1, true).await, Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn long_requests_fill_the_budget_and_short_ones_pass() {
        let budget = Budget::default();
        let read = |client, length| budget.read(address(client), of(length), false);
        let mut held = Vec::new();
        for n in 0..LONG_MAX {
            held.push(read(n / LONG_OF_ADDRESS_MAX, SHORT + 1).await.unwrap());
        }
        assert_eq!(code(read(99, SHORT + 1)).await, Code::Unavailable);
        assert_eq!(code(read(99, SHORT)).await, Code::Ok);
        assert_eq!(code(budget.read(address(99), of(SHORT + 1), true)).await, Code::Ok);
        held.pop();
        assert_eq!(code(read(99, SHORT + 1)).await, Code::Ok);
    }

    #[tokio::test]
    async fn one_address_leaves_room_for_others() {
        let budget = Budget::default();
        let mut held = Vec::new();
        for _ in 0..LONG_OF_ADDRESS_MAX {
            held.push(budget.read(address(1), of(SHORT + 1), false).await.unwrap());
        }
        assert_eq!(code(budget.read(address(1), of(SHORT + 1), false)).await, Code::Unavailable);
        assert_eq!(code(budget.read(address(2), of(SHORT + 1), false)).await, Code::Ok);
        let config = budget.read(address(1), of(1), true).await;
        assert!(config.is_ok());
        assert_eq!(code(budget.read(address(1), of(1), true)).await, Code::Unavailable);
        assert_eq!(code(budget.read(address(2), of(1), true)).await, Code::Ok);
        drop((config, held));
        assert!(budget.long.is_empty());
        assert!(budget.configs.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_end_is_given_up_and_gives_its_part_back() {
        let budget = Arc::new(Budget::default());
        let one = |budget: Arc<Budget>| async move {
            code(budget.read(address(1), endless(SHORT + 1), false)).await
        };
        let all: Vec<_> = (0..LONG_OF_ADDRESS_MAX).map(|_| tokio::spawn(one(budget.clone()))).collect();
        for one in all {
            assert_eq!(one.await.unwrap(), Code::DeadlineExceeded);
        }
        assert_eq!(code(budget.read(address(1), of(SHORT + 1), false)).await, Code::Ok);
    }
}
