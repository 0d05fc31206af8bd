//! An existing sequence of PostgreSQL, which an application takes IDs from with `nextval`. A block is taken by moving the
//! sequence past it, while a lock keeps everybody else out; so a block that is not used is a gap, as with `nextval`. Must
//! never take a block that another session could have a part of.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{IsolationLevel, Transaction};

use super::connect::{Database, Environment};
use super::row::attempts;
use super::{State, block, ranges, set_state, settle};
use crate::error::{Attempts, CounterError, CounterErrorKind, Result, Trouble, behind, not_reserved, other_count};
use crate::{Ask, Attempt, Counter, Look, Shape};

/// A counter on existing sequences: their names are those of the sequences, such as `app.customer_id_seq`.
#[derive(Debug)]
pub struct NextvalCounter {
    database: Database,
}

/// A sequence as the catalog has it.
struct Existing {
    /// With its schema, quoted where needed.
    name: String,
    start: i64,
    step: i64,
    least: i64,
    most: i64,
}

impl NextvalCounter {
    /// Sequences in the database at `url`; see [`Database::new`].
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

fn not_fitting(message: String) -> CounterError {
    CounterError::new(CounterErrorKind::NotFitting, message)
}

async fn existing(transaction: &Transaction<'_>, sequence: &str) -> Result<Existing, Trouble> {
    let query = "SELECT format('%I.%I', n.nspname, c.relname), s.seqstart, s.seqincrement, s.seqmin, s.seqmax \
                 FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE c.oid = to_regclass($1)";
    let row = transaction.query_typed_opt(query, &[(&sequence, Type::TEXT)]).await?;
    let row = row.ok_or_else(|| {
        not_fitting(format!("there is no sequence '{sequence}' in the database"))
            .help("correct the name, with its schema: `id: {column: ..., sequence: app.customer_id_seq}`")
    })?;
    Ok(Existing { name: row.get(0), start: row.get(1), step: row.get(2), least: row.get(3), most: row.get(4) })
}

impl Existing {
    /// The name under which its blocks are kept.
    fn key(&self) -> String {
        format!("nextval:{}", self.name)
    }

    /// The value that `nextval` would give now.
    async fn next(&self, transaction: &Transaction<'_>) -> Result<i128, Trouble> {
        let query = format!("SELECT last_value, is_called FROM {}", self.name);
        let row = transaction.query_typed_one(&query, &[]).await?;
        let (last, is_called): (i64, bool) = (row.get(0), row.get(1));
        Ok(i128::from(last) + if is_called { i128::from(self.step) } else { 0 })
    }

    /// The place of a value, counted from the sequence's start.
    fn place(&self, value: i128) -> Result<u64, Trouble> {
        let distance = value - i128::from(self.start);
        let place =
            (distance % i128::from(self.step) == 0).then(|| u64::try_from(distance / i128::from(self.step)).ok());
        Ok(place.flatten().ok_or_else(|| {
            not_fitting(format!(
                "the sequence {} would give {value}, which does not follow from its start {} and increment {}",
                self.name, self.start, self.step
            ))
            .help("somebody has set it elsewhere: set it to a value that follows, with setval")
        })?)
    }
}

async fn reserve(transaction: &Transaction<'_>, ask: &Ask) -> Result<Attempt, Trouble> {
    let found = existing(transaction, &ask.sequence).await?;
    let key = found.key();
    // The same run, asking twice at once, must not take two blocks.
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    transaction.query_typed(lock, &[(&key, Type::TEXT)]).await?;
    let before = block(transaction, &key, &ask.run).await?.filter(|block| block.state != State::Released);
    if let Some(block) = before {
        if block.count != ask.count {
            return Err(other_count(&ask.run, block.count, ask.count).into());
        }
        return Ok(Attempt::Given(block.first));
    }
    // Changes nothing, and takes a lock that `nextval` waits for, to the end of the transaction.
    let keep_out = format!("ALTER SEQUENCE {} INCREMENT BY {}", found.name, found.step);
    transaction.batch_execute(&keep_out).await.map_err(owner_needed(&found.name))?;
    let value = found.next(transaction).await?;
    let first = found.place(value)?;
    if first < ask.from {
        return Err(behind(&ask.sequence, first, ask.from)
            .help(format!(
                "move the sequence on: SELECT setval('{}', {}, false)",
                found.name,
                i128::from(found.start) + i128::from(found.step) * i128::from(ask.from)
            ))
            .into());
    }
    let last = value + i128::from(found.step) * (i128::from(ask.count) - 1);
    let last = i64::try_from(last).ok().filter(|last| (found.least..=found.most).contains(last)).ok_or_else(|| {
        not_fitting(format!("the sequence {} has no {} values left", found.name, ask.count))
            .help("give it a larger MAXVALUE (or a lower MINVALUE, if it counts down)")
    })?;
    // From here on the values are taken, also if the transaction does not come to its end.
    let advance = "SELECT setval($1::text::regclass, $2, true)";
    transaction.query_typed(advance, &[(&found.name, Type::TEXT), (&last, Type::INT8)]).await?;
    let (place, count) = (first as i64, ask.count as i64);
    let keep = "INSERT INTO seriatim.block (name, run, first, count, state) VALUES ($1, $2, $3, $4, 'open') \
                ON CONFLICT (name, run) DO UPDATE SET first = $3, count = $4, state = 'open', since = now()";
    let params: [(&(dyn ToSql + Sync), Type); 4] =
        [(&key, Type::TEXT), (&ask.run, Type::TEXT), (&place, Type::INT8), (&count, Type::INT8)];
    transaction.execute_typed(keep, &params).await?;
    Ok(Attempt::Given(first))
}

fn owner_needed(name: &str) -> impl Fn(tokio_postgres::Error) -> Trouble {
    move |error| {
        let is_forbidden = error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE);
        if is_forbidden {
            let text = format!("a block of the sequence {name} can only be taken by its owner");
            return CounterError::new(CounterErrorKind::Refused, text)
                .help("connect as the owner's role, or as a member of it (GRANT owner TO this_user)")
                .into();
        }
        error.into()
    }
}

async fn settle_block(transaction: &Transaction<'_>, sequence: &str, run: &str, to: State) -> Result<(), Trouble> {
    let key = existing(transaction, sequence).await?.key();
    match (block(transaction, &key, run).await?.map(|block| block.state), to) {
        (Some(State::Open), State::Committed) => set_state(transaction, &key, run, "committed").await,
        (Some(State::Open), _) => set_state(transaction, &key, run, "released").await,
        (None | Some(State::Released), State::Committed) => Err(not_reserved(sequence, run).into()),
        _ => Ok(()),
    }
}

async fn look(transaction: &Transaction<'_>, sequence: &str) -> Result<Look, Trouble> {
    let found = existing(transaction, sequence).await?;
    let next = found.place(found.next(transaction).await?)?;
    Ok(Look { next, open: None, ranges: ranges(transaction, &found.key()).await? })
}

async fn shape(transaction: &Transaction<'_>, sequence: &str) -> Result<Option<Shape>, Trouble> {
    let found = existing(transaction, sequence).await?;
    Ok(Some(Shape { start: found.start, step: found.step }))
}

#[async_trait]
impl Counter for NextvalCounter {
    fn describe(&self) -> String {
        self.database.describe()
    }

    async fn shape(&self, sequence: &str) -> Result<Option<Shape>> {
        attempts!(self, |transaction| shape(&transaction, sequence))
    }

    async fn try_reserve(&self, ask: &Ask) -> Result<Attempt> {
        attempts!(self, |transaction| reserve(&transaction, ask))
    }

    async fn commit(&self, sequence: &str, run: &str) -> Result<()> {
        attempts!(self, |transaction| settle_block(&transaction, sequence, run, State::Committed))
    }

    async fn release(&self, sequence: &str, run: &str) -> Result<()> {
        attempts!(self, |transaction| settle_block(&transaction, sequence, run, State::Released))
    }

    async fn look(&self, sequence: &str) -> Result<Look> {
        attempts!(self, |transaction| look(&transaction, sequence))
    }
}
