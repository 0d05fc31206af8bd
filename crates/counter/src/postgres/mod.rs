//! Counters in PostgreSQL: a row that runs and applications lock in transactions ([`RowCounter`]), and an existing sequence
//! ([`NextvalCounter`]). What both keep is in the schema `seriatim`; [`SCHEMA`] is what makes it. Must never take for done
//! what the server has not committed.

mod connect;
mod nextval;
mod row;
mod tls;

pub use connect::{Database, Environment};
pub use nextval::NextvalCounter;
pub use row::RowCounter;

use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use crate::error::Trouble;

/// What makes the tables and the function that the counters need. It may be run again.
pub const SCHEMA: &str = include_str!("schema.sql");

/// The SQL state of a lock that was not to be had.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout TO '5s'; SET LOCAL synchronous_commit TO on";

/// A run's block, as the table of blocks has it.
struct Block {
    first: u64,
    count: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Committed,
    Released,
}

/// A number that a check in the table keeps from being negative.
fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// Begins the work of a transaction: no wait for ever, and an answer only when it is on the server's disk.
async fn settle(transaction: &Transaction<'_>) -> Result<(), Trouble> {
    Ok(transaction.batch_execute(LOCK_TIMEOUT).await?)
}

async fn block(transaction: &Transaction<'_>, name: &str, run: &str) -> Result<Option<Block>, Trouble> {
    let query = "SELECT first, count, state FROM seriatim.block WHERE name = $1 AND run = $2";
    let row = transaction.query_typed_opt(query, &[(&name, Type::TEXT), (&run, Type::TEXT)]).await?;
    Ok(row.map(|row| Block {
        first: number(row.get(0)),
        count: number(row.get(1)),
        state: match row.get::<_, &str>(2) {
            "committed" => State::Committed,
            "released" => State::Released,
            _ => State::Open,
        },
    }))
}

/// The blocks that were committed, in order.
async fn ranges(transaction: &Transaction<'_>, name: &str) -> Result<Vec<crate::Range>, Trouble> {
    let query = "SELECT run, first, count FROM seriatim.block WHERE name = $1 AND state = 'committed' ORDER BY first";
    let rows = transaction.query_typed(query, &[(&name, Type::TEXT)]).await?;
    let range = |row: &tokio_postgres::Row| crate::Range {
        run: row.get(0),
        first: number(row.get(1)),
        count: number(row.get(2)),
    };
    Ok(rows.iter().map(range).collect())
}

async fn set_state(transaction: &Transaction<'_>, name: &str, run: &str, state: &str) -> Result<(), Trouble> {
    let query = "UPDATE seriatim.block SET state = $3 WHERE name = $1 AND run = $2";
    let params =
        [(&name as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT), (&run, Type::TEXT), (&state, Type::TEXT)];
    transaction.execute_typed(query, &params).await?;
    Ok(())
}
