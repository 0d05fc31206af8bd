//! A place to plan SQL that cannot take the program down. Parsers and planners recurse over what a
//! user wrote and contain assertions: here they run on a stack of known size, and a panic comes back
//! as a message. Nothing that depends on this thread (locals, its name) may leak into a result.

use std::any::Any;
use std::thread;

/// Enough for the deepest expression that the size limits let through, in an unoptimised build too;
/// memory is only taken as it is touched.
const STACK_BYTES: usize = 512 << 20;

/// Runs `work` on a large stack and gives its result, or why it could not be had.
pub(crate) fn run<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("transform-plan".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| format!("no thread to plan it on: {error}"))?;
        thread.join().map_err(|payload| message(payload.as_ref()))
    })
}

/// What a panic said.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_owned())
}
