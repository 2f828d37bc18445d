//! How far an import is, for a person at a terminal.

use crate::{clock, output};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A bar on standard error; nothing where that is no terminal, or a program reads the output.
pub(super) struct Progress {
    bar: ProgressBar,
    bytes_read: Arc<AtomicU64>,
    started: Instant,
    json: bool,
}

impl Progress {
    pub(super) fn start(length: u64, bytes_read: Arc<AtomicU64>, json: bool) -> Self {
        let bar = if json || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr())
        };
        // How many rows there are is not known before the end: the bar goes by bytes.
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {eta} left");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self {
            bar,
            bytes_read,
            started: clock::now(),
            json,
        }
    }

    /// So many rows are done.
    pub(super) fn rows(&self, rows: u64) {
        let seconds = (clock::now() - self.started).as_secs_f64().max(0.001);
        self.bar
            .set_position(self.bytes_read.load(Ordering::Relaxed));
        self.bar.set_message(format!(
            "{rows} rows, {:.0} a second",
            rows as f64 / seconds
        ));
    }

    /// Says something above the bar. A program finds it in the summary.
    pub(super) fn say(&self, text: &str) {
        if !self.json {
            self.bar.suspend(|| output::note(text));
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
