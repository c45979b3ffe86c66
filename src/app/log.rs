//! The process's log: lines on the standard error, for people or as JSON.

use crate::config::{Level, Log};
use std::io::{IsTerminal as _, stderr};
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Starts logging. Where something logs already, as in tests, that stays.
pub(super) fn start(options: &Log) {
    let levels = &options.log_output_level;
    let rooms =
        levels.rooms.iter().map(|(room, level)| (format!("{}::{room}", env!("CARGO_PKG_NAME")), filter(*level)));
    let targets = Targets::new().with_default(filter(levels.default)).with_targets(rooms);
    let lines = fmt::layer().with_writer(stderr);
    let layer = match options.log_as_json {
        true => lines.json().flatten_event(true).boxed(),
        false => lines.with_ansi(stderr().is_terminal()).boxed(),
    };
    let _ = tracing_subscriber::registry().with(layer.with_filter(targets)).try_init();
    for scope in &levels.unknown {
        tracing::info!("--log-output-level: there is no {scope} here");
    }
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::None => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}
