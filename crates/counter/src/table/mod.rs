//! A counter in Azure Table Storage: for each sequence a partition with one row that says where it stands, and one row
//! for each run. Both change in one transaction, under the version (e-tag) of the first, so a lost answer is found out by
//! the run's row. Must never move the sequence before a block is committed.
//!
//! | row | columns |
//! |---|---|
//! | `counter` | `Next` the next place; `Run`, `Count`, `Since` the open block, empty if there is none |
//! | `run-<run>` | `First`, `Count` its block; `State`: `open` or `committed` |

mod batch;
mod client;
mod credential;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

pub use client::{Change, Columns, Counts, Row, TableClient};
pub use credential::{Credential, Environment, KeyCredential};

use crate::error::{Attempts, CounterError, CounterErrorKind, Result, Trouble, behind, not_reserved, other_count};
use crate::{Ask, Attempt, Counter, Look, Open, Range, end_of};

const COUNTER: &str = "counter";
/// How long one call tries, by default.
const PATIENCE: Duration = Duration::from_secs(15);

/// A counter in a table.
#[derive(Debug)]
pub struct TableCounter {
    client: TableClient,
    patience: Duration,
}

/// Where a sequence stands, and the version of the row that says so.
struct Standing {
    next: u64,
    open: Option<Open>,
    etag: String,
}

/// A run's block.
struct Block {
    first: u64,
    count: u64,
    committed: bool,
    etag: String,
}

impl TableCounter {
    /// A counter in the table at `url`; see [`TableClient::new`].
    pub fn new(url: &str, env: Environment<'_>) -> Result<Self> {
        Ok(Self { client: TableClient::new(url, env)?, patience: PATIENCE })
    }

    /// The same, with calls that try for as long as `patience`; default: 15 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The client, with what it has met.
    pub fn client(&self) -> &TableClient {
        &self.client
    }

    async fn standing(&self, sequence: &str) -> Result<Option<Standing>, Trouble> {
        let Some(row) = self.client.get(sequence, COUNTER).await? else { return Ok(None) };
        let text = |name: &str| row.columns.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (next, run) = (self.number(&row.columns, "Next")?, text("Run"));
        let open = if run.is_empty() {
            None
        } else {
            Some(Open { run, first: next, count: self.number(&row.columns, "Count")?, since: text("Since") })
        };
        Ok(Some(Standing { next, open, etag: row.etag }))
    }

    async fn block(&self, sequence: &str, run: &str) -> Result<Option<Block>, Trouble> {
        let Some(row) = self.client.get(sequence, &row_of(run)).await? else { return Ok(None) };
        let committed = row.columns.get("State").and_then(Value::as_str) == Some("committed");
        let first = self.number(&row.columns, "First")?;
        Ok(Some(Block { first, count: self.number(&row.columns, "Count")?, committed, etag: row.etag }))
    }

    fn number(&self, columns: &Columns, name: &str) -> Result<u64, Trouble> {
        // 64-bit numbers are texts in the service's JSON.
        let value = columns.get(name);
        let number = value.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
        number.ok_or_else(|| {
            let text = format!("a row of {} has no number in its column {name}", self.client.describe());
            Trouble::Final(CounterError::new(CounterErrorKind::Broken, text).help("somebody has changed it by hand"))
        })
    }

    /// Makes the row of a sequence, and the table if it is not there. Somebody else may do so at the same time.
    async fn begin(&self, sequence: &str, from: u64) -> Result<(), Trouble> {
        let insert = || Change::Insert {
            partition: sequence.to_owned(),
            row: COUNTER.to_owned(),
            columns: counter_columns(from, "", 0, ""),
        };
        match self.client.change(&insert()).await {
            Err(Trouble::Conflict(text)) if text.contains("404") => {
                self.client.create().await?;
                self.client.change(&insert()).await
            }
            other => other,
        }
    }

    async fn reserve_once(&self, ask: &Ask) -> Result<Attempt, Trouble> {
        end_of(&ask.sequence, ask.from, ask.count)?;
        if let Some(block) = self.block(&ask.sequence, &ask.run).await? {
            if block.count != ask.count {
                return Err(other_count(&ask.run, block.count, ask.count).into());
            }
            return Ok(Attempt::Given(block.first));
        }
        let Some(standing) = self.standing(&ask.sequence).await? else {
            self.begin(&ask.sequence, ask.from).await?;
            return Err(Trouble::Conflict("the sequence has just begun".to_owned()));
        };
        match standing.open {
            // Its row came between the two looks.
            Some(open) if open.run == ask.run => {
                return Err(Trouble::Conflict("the row was changed meanwhile".to_owned()));
            }
            Some(open) => return Ok(Attempt::Held(open)),
            None if standing.next < ask.from => return Err(behind(&ask.sequence, standing.next, ask.from).into()),
            None => {}
        }
        end_of(&ask.sequence, standing.next, ask.count)?;
        let since = format!("{:.0}", jiff::Timestamp::now());
        let block = json!({
            "First": standing.next.to_string(), "First@odata.type": "Edm.Int64",
            "Count": ask.count.to_string(), "Count@odata.type": "Edm.Int64",
            "State": "open", "Since": since,
        });
        let changes = [
            Self::merge(
                &ask.sequence,
                COUNTER,
                standing.etag,
                counter_columns(standing.next, &ask.run, ask.count, &since),
            ),
            Change::Insert {
                partition: ask.sequence.clone(),
                row: row_of(&ask.run),
                columns: block.as_object().cloned().unwrap_or_default(),
            },
        ];
        self.client.change_all(&changes).await?;
        Ok(Attempt::Given(standing.next))
    }

    fn merge(sequence: &str, row: &str, etag: String, columns: Columns) -> Change {
        Change::Merge { partition: sequence.to_owned(), row: row.to_owned(), etag, columns }
    }

    async fn commit_once(&self, sequence: &str, run: &str) -> Result<(), Trouble> {
        let block = self.block(sequence, run).await?.ok_or_else(|| not_reserved(sequence, run))?;
        if block.committed {
            return Ok(());
        }
        let standing = self.own(sequence, run).await?;
        let state = json!({"State": "committed"});
        let changes = [
            Self::merge(sequence, COUNTER, standing.etag, counter_columns(block.first + block.count, "", 0, "")),
            Self::merge(sequence, &row_of(run), block.etag, state.as_object().cloned().unwrap_or_default()),
        ];
        self.client.change_all(&changes).await
    }

    async fn release_once(&self, sequence: &str, run: &str) -> Result<(), Trouble> {
        let Some(block) = self.block(sequence, run).await?.filter(|block| !block.committed) else { return Ok(()) };
        let standing = self.own(sequence, run).await?;
        let changes = [
            Self::merge(sequence, COUNTER, standing.etag, counter_columns(standing.next, "", 0, "")),
            Change::Delete { partition: sequence.to_owned(), row: row_of(run), etag: block.etag },
        ];
        self.client.change_all(&changes).await
    }

    /// Where the sequence stands, whose open block is the run's.
    async fn own(&self, sequence: &str, run: &str) -> Result<Standing, Trouble> {
        let standing = self.standing(sequence).await?;
        if let Some(standing) = standing.filter(|standing| standing.open.as_ref().is_some_and(|open| open.run == run)) {
            return Ok(standing);
        }
        // The same call, made twice at once, may have done it between the two looks.
        match self.block(sequence, run).await? {
            Some(block) if !block.committed => Err(not_reserved(sequence, run).into()),
            _ => Err(Trouble::Conflict("the row was changed meanwhile".to_owned())),
        }
    }

    async fn look_once(&self, sequence: &str) -> Result<Look, Trouble> {
        let Some(standing) = self.standing(sequence).await? else { return Ok(Look::default()) };
        let mut ranges = Vec::new();
        for row in self.client.list(sequence, "run-").await? {
            if row.get("State").and_then(Value::as_str) == Some("committed") {
                let name = row.get("RowKey").and_then(Value::as_str).unwrap_or_default();
                ranges.push(Range {
                    run: name.trim_start_matches("run-").to_owned(),
                    first: self.number(&row, "First")?,
                    count: self.number(&row, "Count")?,
                });
            }
        }
        ranges.sort_by_key(|range| range.first);
        Ok(Look { next: standing.next, open: standing.open, ranges })
    }
}

/// Makes attempts of a call until one succeeds or the patience is at its end.
macro_rules! attempts {
    ($self:ident, $call:expr) => {{
        let mut attempts = Attempts::new($self.patience);
        loop {
            match $call.await {
                Ok(done) => return Ok(done),
                Err(trouble) => attempts.after(trouble, &$self.client.describe()).await?,
            }
        }
    }};
}

#[async_trait]
impl Counter for TableCounter {
    fn describe(&self) -> String {
        self.client.describe()
    }

    async fn try_reserve(&self, ask: &Ask) -> Result<Attempt> {
        attempts!(self, self.reserve_once(ask))
    }

    async fn commit(&self, sequence: &str, run: &str) -> Result<()> {
        attempts!(self, self.commit_once(sequence, run))
    }

    async fn release(&self, sequence: &str, run: &str) -> Result<()> {
        attempts!(self, self.release_once(sequence, run))
    }

    async fn look(&self, sequence: &str) -> Result<Look> {
        attempts!(self, self.look_once(sequence))
    }
}

fn row_of(run: &str) -> String {
    format!("run-{run}")
}

fn counter_columns(next: u64, run: &str, count: u64, since: &str) -> Columns {
    let columns = json!({
        "Next": next.to_string(), "Next@odata.type": "Edm.Int64",
        "Count": count.to_string(), "Count@odata.type": "Edm.Int64",
        "Run": run, "Since": since,
    });
    columns.as_object().cloned().unwrap_or_default()
}
