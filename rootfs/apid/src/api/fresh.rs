//! An answer that is shared by all who ask for it at about the same time, so that it is made at most so often, however
//! many ask. Nobody is given one that began to be made long before the question.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How old an answer may be when it is asked for: nobody sees it, and twenty a second cost little.
const FRESH: Duration = Duration::from_millis(50);

/// See the file's doc.
#[derive(Debug)]
pub(super) struct Fresh<T>(Mutex<Option<(Instant, Arc<T>)>>);

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Fresh<T> {
    /// The last answer, or the one that `make` makes. Those who ask while it is made get the next one together.
    pub(super) async fn get<E>(&self, make: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        if let Some((begun, answer)) = &*last
            && *begun + FRESH >= asked
        {
            return Ok(answer.clone());
        }
        let begun = Instant::now();
        let answer = Arc::new(make.await?);
        *last = Some((begun, answer.clone()));
        Ok(answer)
    }

    /// What was answered does not hold any more.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn what_is_fresh_is_made_once_and_what_is_forgotten_or_failed_again() {
        let (fresh, made) = (Fresh::default(), AtomicUsize::new(0));
        let get = || async {
            let make = async { Ok::<_, ()>(made.fetch_add(1, Ordering::Relaxed)) };
            *fresh.get(make).await.unwrap()
        };
        assert_eq!(fresh.get(async { Err::<usize, _>("why") }).await, Err("why"));
        let begun = Instant::now();
        let first = get().await;
        let second = get().await;
        // A host that is slow makes it twice.
        assert!(second == first || begun.elapsed() > FRESH, "{first} {second}");
        fresh.forget().await;
        assert!(get().await > second);
    }
}
