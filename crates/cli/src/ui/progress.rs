//! Shows on stderr how far a run is: a bar that moves on a terminal, plain lines elsewhere. Looks at counters and
//! prints; must never be waited for by the work itself.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use seriatim_ingest::{Progress, Step};

use super::{Remarks, Ui, human};

/// How often a bar is drawn: what a person takes for "at once".
const DRAW: Duration = Duration::from_millis(100);
/// How often lines look for another step. A log should not miss one, and a look costs next to nothing.
const LOOK: Duration = Duration::from_millis(20);
/// How long plain lines stay silent within a step.
const SILENCE: Duration = Duration::from_secs(5);

/// A display of one process's progress; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Display {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Display {
    /// Starts to show `progress`, unless remarks are unwanted.
    pub(crate) fn start(ui: &Ui, progress: Arc<Progress>) -> Self {
        let show = match ui.remarks() {
            Remarks::None => return Self { stop: None, thread: None },
            Remarks::Lines => show_lines,
            Remarks::Live => show_bar,
        };
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || show(&progress, &stopped));
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A display that panicked has nothing more to show; the run is not its business.
            let _ = thread.join();
        }
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy)]
struct Seen {
    step: Step,
    files: u64,
    records: u64,
    scanned: u64,
    written: u64,
    step_done: u64,
    step_total: u64,
}

impl Seen {
    fn of(progress: &Progress) -> Option<Self> {
        Some(Self {
            step: progress.step()?,
            files: progress.files.load(Relaxed),
            records: progress.records.load(Relaxed),
            scanned: progress.scanned.load(Relaxed),
            written: progress.written.load(Relaxed),
            step_done: progress.step_done.load(Relaxed),
            step_total: progress.step_total.load(Relaxed),
        })
    }

    /// Every record is scanned once and written once; each counts half.
    fn position(&self) -> u64 {
        u64::midpoint(self.scanned, self.written)
    }

    fn units(&self) -> String {
        if self.step_total > 1 { format!(" {}/{}", self.step_done, self.step_total) } else { String::new() }
    }

    /// One plain line; `begun` is how long the run has been watched.
    fn line(&self, begun: Duration) -> String {
        let mut parts = vec![format!("{}{}", self.step.name(), self.units())];
        if self.records > 0 {
            parts.push(human::counted(self.files, "file"));
            parts.push(format!("{} records", human::count(self.records)));
        }
        let position = self.position();
        if position > 0 {
            let seconds = begun.as_secs_f64();
            parts.push(format!("{} records/s", human::rate(position, seconds)));
            if position < self.records {
                let left = seconds * (self.records - position) as f64 / position as f64;
                parts.push(format!("about {} left", human::seconds(left)));
            }
        }
        parts.join(", ")
    }
}

fn show_bar(progress: &Progress, stopped: &mpsc::Receiver<()>) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    let before_the_plan = ProgressStyle::with_template("{spinner} {msg}");
    let after_it = ProgressStyle::with_template(
        "{msg:<14} [{bar:30}] {human_pos}/{human_len} records, {prefix}, {rate}, {eta} left",
    )
    .map(|style| style.progress_chars("=> ").with_key("rate", write_rate));
    set_style(&bar, before_the_plan);
    let mut after_it = Some(after_it);
    let mut told = None;
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(DRAW) {
        if let Some(trouble) = news(progress, &mut told) {
            bar.println(trouble);
        }
        let Some(seen) = Seen::of(progress) else { continue };
        // Words first: every setter may draw.
        bar.set_message(format!("{}{}", seen.step.name(), seen.units()));
        if seen.records > 0 {
            bar.set_prefix(human::counted(seen.files, "file"));
            bar.set_length(seen.records);
            bar.set_position(seen.position());
            after_it.take().into_iter().for_each(|style| set_style(&bar, style));
        } else {
            bar.tick();
        }
    }
    bar.finish_and_clear();
}

/// A trouble that was not told yet, in words.
fn news(progress: &Progress, told: &mut Option<String>) -> Option<String> {
    let trouble = progress.trouble();
    if trouble == *told {
        return None;
    }
    told.clone_from(&trouble);
    Some(trouble.map_or_else(|| "it goes on".to_owned(), |trouble| format!("waiting, and trying again: {trouble}")))
}

/// The templates above are constant; if one were wrong, indicatif's own style would show as much.
fn set_style(bar: &ProgressBar, style: Result<ProgressStyle, indicatif::style::TemplateError>) {
    if let Ok(style) = style {
        bar.set_style(style);
    }
}

fn write_rate(state: &indicatif::ProgressState, text: &mut dyn std::fmt::Write) {
    // Nothing can be done about a display that cannot be written.
    let _ = write!(text, "{} records/s", human::count(state.per_sec() as u64));
}

fn show_lines(progress: &Progress, stopped: &mpsc::Receiver<()>) {
    let begun = Instant::now();
    let mut last: Option<(Step, Instant)> = None;
    let mut told = None;
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK) {
        if let Some(trouble) = news(progress, &mut told) {
            super::to_stderr(&trouble);
        }
        let Some(seen) = Seen::of(progress) else { continue };
        if last.is_none_or(|(step, at)| step != seen.step || at.elapsed() >= SILENCE) {
            super::to_stderr(&seen.line(begun.elapsed()));
            last = Some((seen.step, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    use super::{Progress, Seen, Step};

    #[test]
    fn a_line_says_step_files_rate_and_what_is_left() {
        let progress = Progress::default();
        assert!(Seen::of(&progress).is_none(), "nothing to say before the first step");
        progress.enter(Step::Plan, 1);
        let line = |seconds| Seen::of(&progress).unwrap().line(Duration::from_secs(seconds));
        assert_eq!(line(1), "plan");
        progress.files.store(8, Relaxed);
        progress.records.store(2_000_000, Relaxed);
        progress.enter(Step::Write, 16);
        progress.step_done.store(4, Relaxed);
        progress.scanned.store(2_000_000, Relaxed);
        progress.written.store(500_000, Relaxed);
        assert_eq!(line(2), "write 4/16, 8 files, 2,000,000 records, 625,000 records/s, about 1.20 s left");
        assert_eq!(super::news(&progress, &mut None), None, "all is well");
        progress.written.store(2_000_000, Relaxed);
        assert_eq!(line(4), "write 4/16, 8 files, 2,000,000 records, 500,000 records/s");
    }
}
