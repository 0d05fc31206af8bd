//! The transform as a pipeline uses it: SQL in, batches through, and what a user reads when it does
//! not work. One program, because each links the whole planner.

mod accepted;
mod common;
mod conditions;
mod hostile;
mod lookups;
mod refused;
mod row_wise;
