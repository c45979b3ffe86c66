//! Results for people, as an aligned table, and for programs, as JSON.

use serde_json::{Value, json};
use std::fmt;

/// Results of one kind.
#[derive(Debug)]
pub(crate) struct Table {
    title: &'static str,
    columns: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

/// One result.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// A name.
    Text(String),
    /// A number of things.
    Count(u64),
    /// Seconds, shown as milliseconds.
    Seconds(f64),
    /// Bytes, shown as MiB or KiB.
    Memory(i64),
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(title: &'static str, columns: &'static [&'static str]) -> Self {
        Self { title, columns, rows: Vec::new() }
    }

    /// Adds a row: a cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column of {:?}", self.title);
        self.rows.push(cells);
    }

    /// The rows as objects, with seconds and bytes.
    pub(crate) fn json(&self) -> Value {
        let object = |row: &Vec<Cell>| -> Value {
            self.columns.iter().zip(row).map(|(column, cell)| ((*column).to_owned(), cell.json())).collect()
        };
        let rows: Vec<Value> = self.rows.iter().map(object).collect();
        json!({"title": self.title, "rows": rows})
    }
}

impl Cell {
    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Count(count) => json!(count),
            Self::Seconds(seconds) => json!(seconds),
            Self::Memory(bytes) => json!(bytes),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.pad(text),
            Self::Count(count) => f.pad(&grouped(*count)),
            Self::Seconds(seconds) => f.pad(&format!("{:.*} ms", if *seconds < 0.01 { 3 } else { 0 }, seconds * 1e3)),
            Self::Memory(bytes) if bytes.abs() < 1 << 20 => f.pad(&format!("{:.1} KiB", *bytes as f64 / 1024.0)),
            Self::Memory(bytes) => f.pad(&format!("{:.1} MiB", *bytes as f64 / f64::from(1 << 20))),
        }
    }
}

/// A number with a comma at each thousand.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|g| str::from_utf8(g).unwrap_or_default()).collect();
    groups.join(",")
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        writeln!(f, "{}\n", self.title)?;
        let texts: Vec<Vec<String>> = self.rows.iter().map(|r| r.iter().map(ToString::to_string).collect()).collect();
        let width = |at: usize| texts.iter().map(|r| r[at].len()).chain([self.columns[at].len()]).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let head = self.columns.iter().map(|c| (*c).to_owned()).collect();
        for row in std::iter::once(&head).chain(&texts) {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
            writeln!(f, "  {}", cells.join("  "))?;
        }
        Ok(())
    }
}
