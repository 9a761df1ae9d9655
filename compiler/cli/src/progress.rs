//! A progress bar that shows itself only when the work takes more than a second, on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Once;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(1);

/// Counts to a total; may be told from any thread.
pub struct Bar {
    bar: ProgressBar,
    start: Instant,
    shown: Once,
}

impl Bar {
    /// Work in `total` pieces.
    pub fn new(what: &str, total: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{msg:24} {bar:32} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Bar { bar, start: Instant::now(), shown: Once::new() }
    }

    /// `done` pieces are done.
    pub fn at(&self, done: usize) {
        if self.start.elapsed() > PATIENCE {
            self.shown.call_once(|| self.bar.set_draw_target(ProgressDrawTarget::stderr()));
        }
        self.bar.set_position(done as u64);
    }
}

impl Bar {
    /// `done` of `total` pieces are done, where the total was not known before.
    pub fn of(&self, done: usize, total: usize) {
        self.bar.set_length(total as u64);
        self.at(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
