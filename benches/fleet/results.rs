//! What was measured, as tables and as figures by name.

use crate::{
    Before, Options, Outcome,
    process::used,
    proxies::Received,
    server::Server,
    table::{Cell, Table},
};
use std::collections::BTreeMap;

/// All that was measured in a run.
pub(crate) struct Results {
    start: Table,
    connect: Table,
    steps: Table,
    day: Table,
    /// What is drawn.
    pub(crate) figures: BTreeMap<String, f64>,
}

impl Results {
    pub(crate) fn new() -> Self {
        Self {
            start: Table::new(
                "The control plane starts",
                &["services", "endpoints", "objects", "ready after", "cpu", "resident", "peak"],
            ),
            connect: Table::new(
                "The proxies connect and get everything",
                &[
                    "what",
                    "proxies",
                    "all after",
                    "messages",
                    "resources",
                    "received",
                    "cpu",
                    "cpu a proxy",
                    "cpu a GB",
                    "resident",
                    "more a proxy",
                    "peak",
                    "cpu of the proxies",
                ],
            ),
            steps: Table::new(
                "Something changes (the middle of the rounds)",
                &[
                    "change",
                    "seen by",
                    "p50",
                    "p99",
                    "last",
                    "messages",
                    "resources",
                    "received",
                    "cpu",
                    "peak",
                    "cpu of the proxies",
                ],
            ),
            day: Table::new("A day of changes", &["changes so far", "messages", "received", "cpu", "resident", "peak"]),
            figures: BTreeMap::new(),
        }
    }

    pub(crate) fn tables(&self) -> [&Table; 4] {
        [&self.start, &self.connect, &self.steps, &self.day]
    }

    /// What a part of a day of changes came to.
    pub(crate) fn part(&mut self, changes: usize, outcome: &Outcome) {
        let total = total(&outcome.received);
        self.day.row(vec![
            Cell::Count(changes as u64),
            Cell::Count(total.messages),
            memory(total.bytes),
            Cell::Seconds(outcome.server),
            memory(outcome.resident),
            memory(outcome.peak),
        ]);
    }

    pub(crate) fn start(&mut self, options: &Options, objects: usize, server: &Server) {
        let now = used(server.pid);
        self.figures.insert("CPU seconds to start".into(), now.cpu);
        self.figures.insert("MiB after the start".into(), now.resident as f64 / f64::from(1 << 20));
        self.start.row(vec![
            Cell::Count(options.services as u64),
            Cell::Count(options.endpoints as u64),
            Cell::Count(objects as u64),
            Cell::Seconds(server.ready_after.map_or(0.0, |d| d.as_secs_f64())),
            Cell::Seconds(now.cpu),
            memory(now.resident),
            memory(now.peak),
        ]);
    }

    /// What it took that so many proxies did this, all of them after so many seconds.
    pub(crate) fn connect(&mut self, (what, clients): (&str, usize), all: f64, before: &Before, outcome: &Outcome) {
        let (total, cpu) = (total(&outcome.received), outcome.server);
        let more = outcome.resident.saturating_sub(before.server.resident) / clients.max(1) as u64;
        self.figures.insert(format!("CPU ms a proxy to {what}"), cpu / clients as f64 * 1e3);
        self.figures.insert(format!("KiB a proxy after it was to {what}"), more as f64 / 1024.0);
        self.connect.row(vec![
            Cell::Text(what.to_owned()),
            Cell::Count(clients as u64),
            Cell::Seconds(all),
            Cell::Count(total.messages),
            Cell::Count(total.resources),
            memory(total.bytes),
            Cell::Seconds(cpu),
            Cell::Seconds(cpu / clients as f64),
            Cell::Seconds(cpu / (total.bytes.max(1) as f64 / 1e9)),
            memory(outcome.resident),
            memory(more),
            memory(outcome.peak),
            Cell::Seconds(outcome.own),
        ]);
    }

    pub(crate) fn step(&mut self, name: &str, mut rounds: Vec<Outcome>) {
        rounds.sort_by(|a, b| a.server.total_cmp(&b.server));
        let middle = rounds.swap_remove(rounds.len() / 2);
        let at = |part: f64| {
            let last = middle.seconds.len().checked_sub(1)?;
            Some(middle.seconds[((last + 1) as f64 * part).ceil() as usize - 1])
        };
        self.figures.insert(format!("CPU ms when {name} changes"), middle.server * 1e3);
        self.figures
            .insert(format!("ms until the 99th of 100 has it when {name} changes"), at(0.99).unwrap_or(0.0) * 1e3);
        let seconds = |part| at(part).map_or(Cell::Text("-".into()), Cell::Seconds);
        let total = total(&middle.received);
        let by_kind: Vec<String> = middle.received.iter().map(|(kind, r)| format!("{kind} {}", r.messages)).collect();
        self.steps.row(vec![
            Cell::Text(name.to_owned()),
            Cell::Count(middle.seconds.len() as u64),
            seconds(0.5),
            seconds(0.99),
            seconds(1.0),
            Cell::Text(by_kind.join(" ")),
            Cell::Count(total.resources + total.removed),
            Cell::Count(total.bytes),
            Cell::Seconds(middle.server),
            memory(middle.peak),
            Cell::Seconds(middle.own),
        ]);
    }
}

fn memory(bytes: u64) -> Cell {
    Cell::Memory(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn total(received: &BTreeMap<&'static str, Received>) -> Received {
    received.values().fold(Received::default(), |all, one| Received {
        messages: all.messages + one.messages,
        resources: all.resources + one.resources,
        removed: all.removed + one.removed,
        bytes: all.bytes + one.bytes,
    })
}
