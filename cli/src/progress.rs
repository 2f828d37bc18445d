//! How far a long command is, for a person at a terminal.

use crate::{clock, output};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Instant;

/// A bar on standard error; nothing where that is no terminal, or a program reads the output.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// What is counted, in the plural.
    what: &'static str,
    started: Instant,
    json: bool,
}

impl Progress {
    /// A bar of so many units, whatever they are; without a length it only shows a count.
    pub(crate) fn start(what: &'static str, length: Option<u64>, json: bool) -> Self {
        let bar = if json || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr())
        };
        let template = match length {
            // How many there are is not known before the end: the bar goes by something else.
            Some(_) => "{bar:30} {percent:>3} %  {msg}  {eta} left",
            None => "{spinner} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            bar,
            what,
            started: clock::now(),
            json,
        }
    }

    /// So many are done since the start, which is this position of the bar.
    pub(crate) fn done(&self, count: u64, position: u64) {
        let seconds = (clock::now() - self.started).as_secs_f64().max(0.001);
        self.bar.set_position(position);
        let rate = count as f64 / seconds;
        let what = self.what;
        self.bar
            .set_message(format!("{count} {what}, {rate:.0} a second"));
    }

    /// Says something above the bar. A program finds it in the summary.
    pub(crate) fn say(&self, text: &str) {
        if !self.json {
            self.bar.suspend(|| output::note(text));
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
