//! The single writer: takes changes from all sources, makes the next snapshot of them, and publishes it.
//!
//! The first change after quiet is published at once. What arrives while a snapshot is being made is gathered and
//! makes the next one, so a burst costs few snapshots and a single change no wait.

use crate::{model::Change, snapshot::Snapshot};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task, time,
};

/// Batches of changes that may wait before those who bring more have to.
const QUEUE: usize = 1024;

/// Waiting before a publish, as istiod does it; without these there is none.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Publish when so long nothing changed (`PILOT_DEBOUNCE_AFTER`).
    pub quiet: Option<Duration>,
    /// Publish at the latest so long after the first change (`PILOT_DEBOUNCE_MAX`).
    pub at_most: Option<Duration>,
}

/// A store that starts with this snapshot: where changes go in, where snapshots come out, and what must run.
pub fn new(initial: Snapshot, options: Options) -> (Writer, Reader, Task) {
    let (sender, messages) = mpsc::channel(QUEUE);
    let (publisher, snapshots) = watch::channel(Arc::new(initial));
    let counters = Arc::new(Counters::default());
    let reader = Reader { snapshots, counters: counters.clone() };
    (Writer { sender }, reader, Task { messages, publisher, counters, options })
}

/// Where changes go in.
#[derive(Clone, Debug)]
pub struct Writer {
    sender: mpsc::Sender<Message>,
}

/// Where snapshots come out.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The newest snapshot.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What the store did so far.
    pub counters: Arc<Counters>,
}

/// What the store did so far.
#[derive(Debug, Default)]
pub struct Counters {
    changes: AtomicU64,
    publishes: AtomicU64,
    last: AtomicU64,
}

impl Counters {
    /// Changes taken in.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Snapshots published.
    pub fn publishes(&self) -> u64 {
        self.publishes.load(Ordering::Relaxed)
    }

    /// How long the last snapshot took to make.
    pub fn last_publish(&self) -> Duration {
        Duration::from_micros(self.last.load(Ordering::Relaxed))
    }
}

/// The store's task has ended, so nothing can be published any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the store has stopped")]
pub struct Stopped;

#[derive(Debug)]
enum Message {
    Changes(Vec<Change>),
    /// Asks to be told when all that was sent before is published.
    Mark(oneshot::Sender<()>),
}

impl Writer {
    /// Hands over changes; the newest of an object wins. Waits only while the store is far behind.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), Stopped> {
        self.sender.send(Message::Changes(changes)).await.map_err(|_| Stopped)
    }

    /// Waits until all that this writer handed over is published.
    pub async fn published(&self) -> Result<(), Stopped> {
        let (tell, told) = oneshot::channel();
        self.sender.send(Message::Mark(tell)).await.map_err(|_| Stopped)?;
        told.await.map_err(|_| Stopped)
    }
}

/// The store's own work.
#[derive(Debug)]
pub struct Task {
    messages: mpsc::Receiver<Message>,
    publisher: watch::Sender<Arc<Snapshot>>,
    counters: Arc<Counters>,
    options: Options,
}

impl Task {
    /// Publishes until the last writer is gone.
    pub async fn run(mut self) {
        while let Some(first) = self.messages.recv().await {
            let mut batch = Batch::default();
            batch.add(first);
            self.gather(&mut batch).await;
            self.publish(batch).await;
        }
    }

    /// Adds what is there by now, and with `quiet` what comes until then.
    async fn gather(&mut self, batch: &mut Batch) {
        let started = time::Instant::now();
        while let Some(quiet) = self.options.quiet.filter(|_| !batch.changes.is_empty()) {
            let left = self.options.at_most.map_or(quiet, |m| m.saturating_sub(started.elapsed()).min(quiet));
            match time::timeout(left, self.messages.recv()).await {
                Ok(Some(message)) if !left.is_zero() => batch.add(message),
                Ok(Some(message)) => {
                    batch.add(message);
                    break;
                }
                Ok(None) | Err(_) => break,
            }
        }
        while let Ok(message) = self.messages.try_recv() {
            batch.add(message);
        }
    }

    async fn publish(&mut self, batch: Batch) {
        let Batch { changes, marks } = batch;
        if !changes.is_empty() {
            let started = Instant::now();
            let count = changes.len() as u64;
            let current = self.publisher.borrow().clone();
            let next = task::spawn_blocking(move || current.apply(changes)).await;
            // A change that cannot be applied is a bug, and no world can be trusted after it.
            self.publisher.send_replace(Arc::new(next.expect("applying changes does not fail")));
            self.counters.changes.fetch_add(count, Ordering::Relaxed);
            self.counters.publishes.fetch_add(1, Ordering::Relaxed);
            let took = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.counters.last.store(took, Ordering::Relaxed);
            tracing::debug!(changes = count, micros = took, "published a snapshot");
        }
        for mark in marks {
            // Whoever asked may have gone.
            let _ = mark.send(());
        }
    }
}

#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    marks: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn add(&mut self, message: Message) {
        match message {
            Message::Changes(changes) => self.changes.extend(changes),
            Message::Mark(mark) => self.marks.push(mark),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{Kind, ObjectRef},
        model::State,
        problem::{FieldPath, Problem},
    };

    const AT_ONCE: Options = Options { quiet: None, at_most: None };

    /// A change that shows in a snapshot by what it says of the object.
    fn says(name: &str, message: &str) -> Vec<Change> {
        let object = ObjectRef::new(Kind::SERVICE, "shop", name);
        let problems = vec![Problem::error(&object, FieldPath::default(), message)];
        vec![Change { object, state: State::Bad, problems, raw: None }]
    }

    fn said(reader: &Reader) -> Vec<String> {
        let snapshot = reader.snapshots.borrow().clone();
        snapshot.problems.values().flat_map(|p| p.iter()).map(|p| format!("{} {}", p.object.name, p.message)).collect()
    }

    #[tokio::test]
    async fn what_comes_before_a_publish_makes_one_snapshot_and_the_newest_wins() {
        let (writer, reader, task) = new(Snapshot::default(), AT_ONCE);
        for (name, message) in [("a", "1"), ("b", "1"), ("a", "2")] {
            writer.apply(says(name, message)).await.unwrap();
        }
        let running = tokio::spawn(task.run());
        writer.published().await.unwrap();
        assert_eq!(said(&reader), ["a 2", "b 1"]);
        assert_eq!((reader.counters.publishes(), reader.counters.changes()), (1, 3));
        drop(writer);
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_change_after_quiet_does_not_wait() {
        let (writer, mut reader, task) = new(Snapshot::default(), AT_ONCE);
        tokio::spawn(task.run());
        for round in 1..4 {
            let started = time::Instant::now();
            writer.apply(says("a", &round.to_string())).await.unwrap();
            reader.snapshots.changed().await.unwrap();
            assert!(started.elapsed() < Duration::from_millis(5));
            assert_eq!(reader.snapshots.borrow_and_update().generation, round);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_debounce_changes_gather_until_quiet_and_no_longer_than_the_limit() {
        let millis = Duration::from_millis;
        let (writer, reader, task) =
            new(Snapshot::default(), Options { quiet: Some(millis(100)), at_most: Some(millis(250)) });
        tokio::spawn(task.run());
        let started = time::Instant::now();
        for round in 0..5 {
            writer.apply(says("a", &round.to_string())).await.unwrap();
            time::sleep(millis(80)).await;
        }
        assert_eq!(reader.counters.publishes(), 1, "the limit came before quiet");
        writer.published().await.unwrap();
        assert_eq!(said(&reader), ["a 4"]);
        assert_eq!(reader.counters.publishes(), 2);
        assert!(started.elapsed() < millis(520), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_mark_without_changes_publishes_nothing() {
        let (writer, reader, task) = new(Snapshot::default(), AT_ONCE);
        tokio::spawn(task.run());
        writer.published().await.unwrap();
        assert_eq!(reader.snapshots.borrow().generation, 0);
    }

    #[tokio::test]
    async fn a_writer_learns_that_the_store_stopped() {
        let (writer, _reader, task) = new(Snapshot::default(), AT_ONCE);
        drop(task);
        assert_eq!(writer.apply(Vec::new()).await, Err(Stopped));
        assert_eq!(writer.published().await, Err(Stopped));
    }
}
