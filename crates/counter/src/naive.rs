//! Counters as they are often written, to be measured beside those that keep their promises: a number that is read, raised
//! and written without a guard; a row that is raised under its e-tag; a sequence of PostgreSQL. None of them knows who took
//! what, so a block that a worker took and lost is a gap. They must never be used for anything but a comparison.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::Secret;
use crate::backoff::Pauses;
use crate::error::{CounterError, CounterErrorKind, Result, Trouble};
use crate::postgres::Database;
use crate::table::{Change, Columns, TableClient};

/// A counter that gives numbers to whoever asks. Numbers begin at 1.
#[async_trait]
pub trait Naive: Send + Sync {
    /// Makes a sequence that begins at 1.
    async fn make(&self, sequence: &str) -> Result<()>;

    /// The next `count` numbers of a sequence, as one worker gets them.
    async fn take(&self, sequence: &str, count: u64) -> Result<Vec<u64>>;

    /// How often somebody else had changed the row meanwhile, and it was tried again.
    fn conflicts(&self) -> u64 {
        0
    }
}

/// A file with a number: read, raised, written, as a storage service would be asked that answers after a while. Two workers
/// that read at once give the same numbers. Do not do this.
#[derive(Debug)]
pub struct Unguarded {
    folder: PathBuf,
    answer: Duration,
}

impl Unguarded {
    /// Counters in this folder; what was read is known after `answer`.
    pub fn new(folder: PathBuf, answer: Duration) -> Self {
        Self { folder, answer }
    }

    fn path(&self, sequence: &str) -> PathBuf {
        self.folder.join(sequence)
    }
}

fn file_error(error: &std::io::Error) -> CounterError {
    CounterError::new(CounterErrorKind::Broken, format!("the file of a counter: {error}"))
}

#[async_trait]
impl Naive for Unguarded {
    async fn make(&self, sequence: &str) -> Result<()> {
        std::fs::write(self.path(sequence), "0").map_err(|error| file_error(&error))
    }

    async fn take(&self, sequence: &str, count: u64) -> Result<Vec<u64>> {
        let path = self.path(sequence);
        let text = std::fs::read_to_string(&path).map_err(|error| file_error(&error))?;
        // A reader may even find the file empty, between its being cut and its being written.
        let last: u64 = text.trim().parse().unwrap_or_default();
        tokio::time::sleep(self.answer).await;
        std::fs::write(&path, (last + count).to_string()).map_err(|error| file_error(&error))?;
        Ok((last + 1..=last + count).collect())
    }
}

/// A row in Azure Table Storage, raised under its e-tag: read, and written if nobody has changed it meanwhile.
#[derive(Debug)]
pub struct Etag {
    client: TableClient,
    conflicts: AtomicU64,
}

impl Etag {
    /// Counters in this table.
    pub fn new(client: TableClient) -> Self {
        Self { client, conflicts: AtomicU64::new(0) }
    }
}

fn columns(last: u64) -> Columns {
    let columns = json!({"Last": last.to_string(), "Last@odata.type": "Edm.Int64"});
    columns.as_object().cloned().unwrap_or_default()
}

#[async_trait]
impl Naive for Etag {
    async fn make(&self, sequence: &str) -> Result<()> {
        let insert = Change::Insert { partition: sequence.to_owned(), row: "naive".to_owned(), columns: columns(0) };
        self.client.create().await.map_err(|trouble| self.told(trouble))?;
        self.client.change(&insert).await.map_err(|trouble| self.told(trouble))
    }

    async fn take(&self, sequence: &str, count: u64) -> Result<Vec<u64>> {
        let mut backoff = Pauses::new(Duration::from_millis(2), Duration::from_millis(500));
        loop {
            let row = self.client.get(sequence, "naive").await.map_err(|trouble| self.told(trouble))?;
            let row = row.ok_or_else(|| CounterError::new(CounterErrorKind::Broken, "the row is gone"))?;
            let last: Option<u64> = row.columns.get("Last").and_then(Value::as_str).and_then(|text| text.parse().ok());
            let last = last.unwrap_or_default();
            let merge = Change::Merge {
                partition: sequence.to_owned(),
                row: "naive".to_owned(),
                etag: row.etag,
                columns: columns(last + count),
            };
            match self.client.change(&merge).await {
                Ok(()) => return Ok((last + 1..=last + count).collect()),
                Err(Trouble::Conflict(_)) => self.conflicts.fetch_add(1, Relaxed),
                Err(trouble) => return Err(self.told(trouble)),
            };
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    fn conflicts(&self) -> u64 {
        self.conflicts.load(Relaxed)
    }
}

impl Etag {
    fn told(&self, trouble: Trouble) -> CounterError {
        match trouble {
            Trouble::Final(error) => error,
            Trouble::Conflict(text) | Trouble::Passing(text) => {
                CounterError::new(CounterErrorKind::Unreachable, format!("{}: {text}", self.client.describe()))
            }
        }
    }
}

/// A sequence of PostgreSQL: `nextval`, as often as numbers are wanted, in one statement.
pub struct Sequence {
    database: Database,
    clients: Mutex<Vec<Client>>,
}

impl std::fmt::Debug for Sequence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequence").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Sequence {
    /// Sequences in the database at this address.
    pub fn new(url: &Secret) -> Result<Self> {
        Ok(Self { database: Database::new(url.expose(), &|_| None)?, clients: Mutex::default() })
    }

    /// A connection that nobody else uses, new if there is none.
    async fn client(&self) -> Result<Client> {
        let mut clients = self.clients.lock().await;
        // A connection ends with the runtime that it was made in.
        clients.retain(|client| !client.is_closed());
        if let Some(client) = clients.pop() {
            return Ok(client);
        }
        drop(clients);
        self.database.connect().await.map_err(|trouble| self.told(trouble))
    }

    fn told(&self, trouble: Trouble) -> CounterError {
        match trouble {
            Trouble::Final(error) => error,
            Trouble::Conflict(text) | Trouble::Passing(text) => {
                CounterError::new(CounterErrorKind::Unreachable, format!("{}: {text}", self.database.describe()))
            }
        }
    }
}

#[async_trait]
impl Naive for Sequence {
    async fn make(&self, sequence: &str) -> Result<()> {
        let client = self.client().await?;
        // The caller chooses the name, and it is one of letters and digits.
        let made = client.batch_execute(&format!("CREATE SEQUENCE \"{sequence}\"")).await;
        made.map_err(|error| self.told(error.into()))?;
        self.clients.lock().await.push(client);
        Ok(())
    }

    async fn take(&self, sequence: &str, count: u64) -> Result<Vec<u64>> {
        let client = self.client().await?;
        let query = "SELECT nextval(quote_ident($1)::regclass) FROM generate_series(1, $2::bigint)";
        let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&sequence, Type::TEXT), (&(count as i64), Type::INT8)];
        let rows = client.query_typed(query, &params).await.map_err(|error| self.told(error.into()))?;
        self.clients.lock().await.push(client);
        Ok(rows.iter().map(|row| row.get::<_, i64>(0) as u64).collect())
    }
}
