//! Until when this replica may write. A request is not begun, and one that is under way is not carried on, once that
//! time is over: also where the process stood still in between, since the clock is asked at every step of the request.
//! What was on the wire already names the version that it replaces, so that it changes nothing that a later writer wrote.

use std::{future::poll_fn, pin::pin, task::Poll};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Says until when this replica may write.
#[derive(Clone, Debug)]
pub(super) struct Fence(watch::Receiver<Option<Instant>>);

/// This replica may not write any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("another replica may write by now")]
pub(super) struct Over;

impl Fence {
    /// A fence, and what moves it.
    pub(super) fn new() -> (watch::Sender<Option<Instant>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    fn open(&self) -> Option<Instant> {
        self.0.borrow().filter(|until| Instant::now() < *until)
    }

    /// Does the request as long as this replica may write.
    pub(super) async fn write<T>(&self, request: impl Future<Output = T>) -> Result<T, Over> {
        let mut request = pin!(request);
        let mut moved = self.0.clone();
        moved.mark_unchanged();
        loop {
            let Some(until) = self.open() else { return Err(Over) };
            let guarded = poll_fn(|context| match self.open() {
                Some(_) => request.as_mut().poll(context).map(Ok),
                None => Poll::Ready(Err(Over)),
            });
            tokio::select! {
                biased;
                result = guarded => return result,
                () = sleep_until(until) => {}
                // The time may have been prolonged, or be over.
                changed = moved.changed() => if changed.is_err() { return Err(Over) },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };
    use tokio::time;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_request_is_done_while_the_time_lasts() {
        let (mover, fence) = Fence::new();
        assert_eq!(fence.write(async { 1 }).await, Err(Over), "nothing was won yet");
        mover.send_replace(Some(Instant::now() + SECOND));
        assert_eq!(fence.write(async { 2 }).await, Ok(2));
        time::advance(SECOND).await;
        assert_eq!(fence.write(async { 3 }).await, Err(Over));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_ends_with_the_time_and_goes_on_where_that_is_prolonged() {
        let (mover, fence) = Fence::new();
        mover.send_replace(Some(Instant::now() + SECOND));
        let slow = || time::sleep(SECOND * 3);
        assert_eq!(fence.write(slow()).await, Err(Over));
        mover.send_replace(Some(Instant::now() + SECOND));
        let prolonged = async {
            time::sleep(SECOND / 2).await;
            mover.send_replace(Some(Instant::now() + SECOND * 4));
        };
        let (done, ()) = tokio::join!(fence.write(slow()), prolonged);
        assert_eq!(done, Ok(()));
    }

    #[tokio::test]
    async fn a_process_that_stood_still_takes_no_further_step_of_its_request() {
        let (mover, fence) = Fence::new();
        mover.send_replace(Some(Instant::now() + SECOND));
        let steps = AtomicU32::new(0);
        let request = async {
            steps.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            // What is ready when the process goes on is not taken up any more.
            steps.fetch_add(1, Ordering::Relaxed);
        };
        let mut writing = Box::pin(fence.write(request));
        let first = poll_fn(|context| Poll::Ready(writing.as_mut().poll(context))).await;
        assert!(first.is_pending());
        std::thread::sleep(SECOND * 2);
        assert_eq!(writing.await, Err(Over));
        assert_eq!(steps.load(Ordering::Relaxed), 1);
    }
}
