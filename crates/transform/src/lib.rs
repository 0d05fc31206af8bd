//! Row-wise SQL over record batches: one SELECT, planned once with DataFusion's planner, then
//! evaluated on Arrow batches without an execution engine.
//!
//! What comes out for a row depends on that row alone: not on its neighbours, on where a file was cut
//! into chunks, on the clock, on chance, on the machine, or on how often it is evaluated. Whatever
//! cannot promise that is refused when the SQL is planned. This crate reads no files and keeps no
//! state between batches.
//!
//! # The SQL
//! Joins of look-ups on their keys, projection, wildcards (`*`, `* EXCEPT (a)`, `* REPLACE (e AS a)`), aliases, WHERE, nested SELECTs
//! in FROM, WITH, CASE, casts, and the scalar functions of `datafusion-functions`.
//!
//! - **Names.** A column or table name matches to the letter; an unquoted one also matches if it
//!   differs in case only and just one name fits, so `customerid` finds `CustomerID`. Result columns
//!   are called exactly as their alias is written; an expression without one is called as it is
//!   written (`upper(city)`); a plain column keeps its name.
//! - **Clock and chance.** The library's functions are immutable (kept) but for `random`, `uuid`,
//!   `input_file_name` and `file_row_index` (volatile) and `now`, `current_date`, `current_time` and
//!   their aliases (stable: they read the clock): refused. `version` is called immutable and changes
//!   with the program: refused. The functions that read the session's time zone (`to_timestamp`,
//!   casts to a timestamp with time zone) are kept, because the time zone is pinned to UTC.
//! - **Errors are errors.** Integer `+`, `-`, `*` and negation that overflow, integer division by
//!   zero, and casts that fail stop the evaluation, with the row; `TRY_CAST` gives NULL. Floating
//!   point follows IEEE 754. Overflow inside a library function is that function's affair.
//! - **Protection.** A WHERE is evaluated before the columns of its SELECT, and an inner SELECT
//!   before an outer one, on the rows that are left: `WHERE x <> 0` protects `1 / x`. AND and OR
//!   evaluate their right side for the rows that the left side leaves open, CASE its branches for
//!   the rows that reach them. Columns that nobody asks for are not evaluated, filters always are.
//! - **Types.** Dictionaries, run-end encoding and views are read as the plain values that they hold,
//!   and never come out.

mod check;
mod condition;
mod context;
mod error;
mod expressions;
mod guard;
mod joins;
mod lookup;
mod lower;
mod names;
mod plan;
mod projected;
mod stack;
mod transform;
mod types;

pub use condition::Condition;
pub use error::{ErrorKind, Location, SqlError, TransformError};
pub use lookup::Lookup;
pub use projected::Projected;
pub use transform::Transform;
