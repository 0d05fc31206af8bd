//! A counter that is a row: whoever takes IDs locks it in a transaction, so the IDs have no gaps, and an application can
//! take its own from the same row. A run's block is beside it. Must never move the row before a block is committed.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{IsolationLevel, Transaction};

use super::connect::{Database, Environment};
use super::{Block, State, block, number, ranges, set_state, settle};
use crate::error::{Attempts, CounterError, CounterErrorKind, Result, Trouble, behind, not_reserved, other_count};
use crate::{Ask, Attempt, Counter, Look, Open, end_of};

/// A counter in a row.
#[derive(Debug)]
pub struct RowCounter {
    database: Database,
}

/// Where a sequence stands.
struct Standing {
    next: u64,
    open: Option<Open>,
}

/// Runs a call's attempts, each in a transaction of its own, until one succeeds or the patience is at its end.
macro_rules! attempts {
    ($self:ident, |$transaction:ident| $call:expr) => {{
        let mut attempts = Attempts::new($self.database.patience);
        loop {
            let attempt = async {
                let mut connection = $self.database.connection().await?;
                let builder = connection.client()?.build_transaction();
                let $transaction = builder.isolation_level(IsolationLevel::ReadCommitted).start().await?;
                settle(&$transaction).await?;
                let done = $call.await?;
                $transaction.commit().await?;
                Ok(done)
            };
            match attempt.await {
                Ok(done) => return Ok(done),
                Err(trouble) => attempts.after(trouble, &$self.database.describe()).await?,
            }
        }
    }};
}
pub(super) use attempts;

impl RowCounter {
    /// A counter in the database at `url`; see [`Database::new`].
    pub fn new(url: &str, env: Environment<'_>) -> Result<Self> {
        Ok(Self { database: Database::new(url, env)? })
    }

    /// The same, with calls that try for as long as `patience`; default: 15 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.database = self.database.patience(patience);
        self
    }
}

/// The row, locked until the transaction ends.
async fn locked(transaction: &Transaction<'_>, name: &str) -> Result<Option<Standing>, Trouble> {
    read(transaction, name, "FOR UPDATE").await
}

async fn read(transaction: &Transaction<'_>, name: &str, lock: &str) -> Result<Option<Standing>, Trouble> {
    let query = format!(
        "SELECT next, run, count, to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
         FROM seriatim.counter WHERE name = $1 {lock}"
    );
    let row = transaction.query_typed_opt(&query, &[(&name, Type::TEXT)]).await?;
    Ok(row.map(|row| {
        let next = number(row.get(0));
        let open = row.get::<_, Option<String>>(1).map(|run| Open {
            run,
            first: next,
            count: number(row.get::<_, Option<i64>>(2).unwrap_or_default()),
            since: row.get::<_, Option<String>>(3).unwrap_or_default(),
        });
        Standing { next, open }
    }))
}

async fn reserve(transaction: &Transaction<'_>, ask: &Ask) -> Result<Attempt, Trouble> {
    let from = end_of(&ask.sequence, ask.from, 0)?;
    let begin = "INSERT INTO seriatim.counter (name, next) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    transaction.execute_typed(begin, &[(&ask.sequence, Type::TEXT), (&from, Type::INT8)]).await?;
    let standing = locked(transaction, &ask.sequence).await?;
    let standing = standing.ok_or_else(|| Trouble::Conflict("the row was removed meanwhile".to_owned()))?;
    if let Some(block) = block(transaction, &ask.sequence, &ask.run).await? {
        check_again(&standing, &block, ask)?;
        return Ok(Attempt::Given(block.first));
    }
    if let Some(open) = standing.open {
        return Ok(Attempt::Held(open));
    }
    if standing.next < ask.from {
        return Err(behind(&ask.sequence, standing.next, ask.from).into());
    }
    end_of(&ask.sequence, standing.next, ask.count)?;
    let (first, count) = (standing.next as i64, ask.count as i64);
    let mark = "UPDATE seriatim.counter SET run = $2, count = $3, since = now() WHERE name = $1";
    let params: [(&(dyn ToSql + Sync), Type); 3] =
        [(&ask.sequence, Type::TEXT), (&ask.run, Type::TEXT), (&count, Type::INT8)];
    transaction.execute_typed(mark, &params).await?;
    let keep = "INSERT INTO seriatim.block (name, run, first, count, state) VALUES ($1, $2, $3, $4, 'open')";
    let params: [(&(dyn ToSql + Sync), Type); 4] =
        [(&ask.sequence, Type::TEXT), (&ask.run, Type::TEXT), (&first, Type::INT8), (&count, Type::INT8)];
    transaction.execute_typed(keep, &params).await?;
    Ok(Attempt::Given(standing.next))
}

/// A block that is asked for again must be the run's still, and as large.
fn check_again(standing: &Standing, block: &Block, ask: &Ask) -> Result<(), Trouble> {
    if block.count != ask.count {
        return Err(other_count(&ask.run, block.count, ask.count).into());
    }
    let is_held = standing.open.as_ref().is_some_and(|open| open.run == ask.run);
    if block.state == State::Open && !is_held { Err(not_reserved(&ask.sequence, &ask.run).into()) } else { Ok(()) }
}

/// The run's block if it is open; `None` if it is committed, or if there is none.
async fn open_block(transaction: &Transaction<'_>, name: &str, run: &str) -> Result<Option<Block>, Trouble> {
    let standing = locked(transaction, name).await?;
    let Some(block) = block(transaction, name, run).await? else { return Ok(None) };
    if block.state != State::Open {
        return Ok(Some(block));
    }
    match standing.and_then(|standing| standing.open) {
        Some(open) if open.run == run && open.first == block.first => Ok(Some(block)),
        _ => Err(CounterError::new(
            CounterErrorKind::Broken,
            format!("run '{run}' has an open block of the sequence '{name}', and the counter's row does not say so"),
        )
        .help("somebody has changed the row by hand: if others have taken IDs since, the run's IDs are given twice")
        .into()),
    }
}

async fn commit(transaction: &Transaction<'_>, name: &str, run: &str) -> Result<(), Trouble> {
    let block = open_block(transaction, name, run).await?.ok_or_else(|| not_reserved(name, run))?;
    if block.state != State::Open {
        return Ok(());
    }
    let advance =
        "UPDATE seriatim.counter SET next = next + count, run = NULL, count = NULL, since = NULL WHERE name = $1";
    transaction.execute_typed(advance, &[(&name, Type::TEXT)]).await?;
    set_state(transaction, name, run, "committed").await
}

async fn release(transaction: &Transaction<'_>, name: &str, run: &str) -> Result<(), Trouble> {
    let block = open_block(transaction, name, run).await?;
    if block.is_none_or(|block| block.state != State::Open) {
        return Ok(());
    }
    let clear = "UPDATE seriatim.counter SET run = NULL, count = NULL, since = NULL WHERE name = $1";
    transaction.execute_typed(clear, &[(&name, Type::TEXT)]).await?;
    let forget = "DELETE FROM seriatim.block WHERE name = $1 AND run = $2";
    transaction.execute_typed(forget, &[(&name, Type::TEXT), (&run, Type::TEXT)]).await?;
    Ok(())
}

async fn look(transaction: &Transaction<'_>, name: &str) -> Result<Look, Trouble> {
    let Some(standing) = read(transaction, name, "").await? else { return Ok(Look::default()) };
    Ok(Look { next: standing.next, open: standing.open, ranges: ranges(transaction, name).await? })
}

#[async_trait]
impl Counter for RowCounter {
    fn describe(&self) -> String {
        self.database.describe()
    }

    async fn try_reserve(&self, ask: &Ask) -> Result<Attempt> {
        attempts!(self, |transaction| reserve(&transaction, ask))
    }

    async fn commit(&self, sequence: &str, run: &str) -> Result<()> {
        attempts!(self, |transaction| commit(&transaction, sequence, run))
    }

    async fn release(&self, sequence: &str, run: &str) -> Result<()> {
        attempts!(self, |transaction| release(&transaction, sequence, run))
    }

    async fn look(&self, sequence: &str) -> Result<Look> {
        attempts!(self, |transaction| look(&transaction, sequence))
    }
}
