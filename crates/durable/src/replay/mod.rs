//! The replay core: it takes history and gives actions. An [`Execution`] is one living run of an orchestrator function;
//! past events rebuild its state, new events move it on, and what the code asks for comes back as the protocol's
//! actions. This folder must never do I/O, read a clock, draw random numbers, spawn, or print: the time is that of the
//! `OrchestratorStarted` events, new ids are derived from the instance's identity. A test at the end of this file bans
//! the usual suspects by name.

mod context;
mod core;
mod end;
mod events;
mod execution;
mod recorded;
mod retry;
mod section;
mod task;
mod wake;

pub use context::{ActivityOptions, OrchestrationContext, SubOrchestrationOptions};
pub use execution::{Execution, Turn};
pub use retry::RetryPolicy;
pub use section::{CriticalSection, LockRequest};
pub use task::{Task, Timer};

pub(crate) use execution::OrchestratorFn;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// What would make a replay differ from the first run, and what to use instead.
    const BANNED: &[(&str, &str)] = &[
        ("SystemTime::now", "the timestamp of OrchestratorStarted"),
        ("Instant", "the timestamp of OrchestratorStarted"),
        ("new_v4", "Core::guid"),
        ("rand::", "Core::guid"),
        ("RandomState", "a BTreeMap where the order is seen"),
        ("tokio", "the caller's runtime"),
        ("spawn", "the worker"),
        ("std::fs", "an action"),
        ("std::net", "an action"),
        ("std::thread", "the worker"),
        ("println!", "a Failure"),
        ("tracing", "the worker"),
    ];

    #[test]
    fn the_core_uses_no_clock_no_randomness_and_no_io() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/replay");
        let mut files = 0;
        for entry in fs::read_dir(&folder).expect("the folder of this file exists") {
            let path = entry.expect("a readable entry").path();
            files += 1;
            let text = fs::read_to_string(&path).expect("a source file");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
                for (word, instead) in BANNED {
                    let place = format!("{}:{}", path.display(), number + 1);
                    assert!(!line.contains(word), "{place}: `{word}` is banned here; use {instead}");
                }
            }
        }
        assert!(files >= 8, "the check must see the whole folder, it saw {files} files");
    }
}
