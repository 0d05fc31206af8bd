//! The store on disk: one SQLite database, `hub.db`, with a write-ahead log that is synced at every commit
//! (`journal_mode=WAL`, `synchronous=FULL`). One row for each event of a history, each message, activity, timer and
//! entity; histories only grow. What an execution was started with is apart from its state, so that a large input is
//! written once. This module must never leave `synchronous=FULL`: an answer is a promise.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row, ToSql, params};
use seriatim_durable::proto;

use super::squeeze::squeezed;
use super::{HistoryReader, Store, StoreError};
use crate::core::{
    ActivityRecord, ActivitySeq, Batch, EntityId, EntityRecord, ExecutionNo, HistoryRange, InstanceId, InstanceState,
    MessageSeq, OperationRecord, Snapshot, StoredEntity, StoredExecution, TimerRecord, TimerSeq, Write,
};

/// `SRTM` in ASCII: says that a database is a hub's.
const APPLICATION_ID: i64 = 0x5352_544d;

/// Version of the tables below. A later version of this crate migrates; an earlier one refuses.
const FORMAT: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE hub (id INTEGER PRIMARY KEY CHECK (id = 1), hub_id BLOB NOT NULL, counter INTEGER NOT NULL) STRICT;
    CREATE TABLE executions (execution INTEGER PRIMARY KEY, instance TEXT NOT NULL UNIQUE, start BLOB NOT NULL) STRICT;
    CREATE TABLE states (execution INTEGER PRIMARY KEY, state BLOB NOT NULL) STRICT;
    CREATE TABLE history (execution INTEGER NOT NULL, position INTEGER NOT NULL, event BLOB NOT NULL,
                          PRIMARY KEY (execution, position)) STRICT, WITHOUT ROWID;
    CREATE TABLE inbox (execution INTEGER NOT NULL, message INTEGER NOT NULL, event BLOB NOT NULL,
                        PRIMARY KEY (execution, message)) STRICT, WITHOUT ROWID;
    CREATE TABLE activities (activity INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;
    CREATE TABLE timers (timer INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;
    CREATE TABLE entities (entity TEXT PRIMARY KEY, state TEXT, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE operations (message INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;
";

/// Statements that are kept prepared: all of those below fit.
const PREPARED: usize = 32;

/// A store in one SQLite database; see the module's documentation.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    connection: Connection,
}

impl SqliteStore {
    /// Opens the database at `path`, or makes one whose hub derives its ids from `hub_id`. The caller sees to it that
    /// nobody else writes to it.
    pub fn open(path: &Path, hub_id: u128) -> Result<Self, StoreError> {
        let failed = |action| move |source| StoreError::Database { action, path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(failed("open"))?;
        let id: i64 =
            connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed("read"))?;
        let format: i64 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed("read"))?;
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed("read"))?;
        let is_new = tables == 0 && id == 0;
        if !is_new && id != APPLICATION_ID {
            return Err(StoreError::Foreign { path: path.to_owned() });
        }
        if format > FORMAT {
            return Err(StoreError::TooNew { path: path.to_owned(), found: format, known: FORMAT });
        }
        let mode = configure(&connection).map_err(failed("configure"))?;
        if mode != "wal" {
            return Err(StoreError::NoLog { path: path.to_owned(), mode });
        }
        if is_new {
            create(&connection, hub_id).map_err(failed("create the tables of"))?;
        }
        Ok(Self { path: path.to_owned(), connection })
    }

    fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        move |source| StoreError::Database { action, path: self.path.clone(), source }
    }

    /// One transaction for all of them.
    fn write(&mut self, group: &[Batch]) -> Result<(), StoreError> {
        let transaction = self.connection.unchecked_transaction().map_err(self.failed("write to"))?;
        let mut buffer = Vec::new();
        for write in squeezed(group) {
            apply(&transaction, write, &mut buffer).map_err(self.failed("write to"))?;
        }
        if let Some(last) = group.last() {
            let mut statement =
                transaction.prepare_cached("UPDATE hub SET counter = ?1").map_err(self.failed("write to"))?;
            statement.execute(params![last.counter as i64]).map_err(self.failed("write to"))?;
        }
        transaction.commit().map_err(self.failed("sync"))
    }

    /// All rows of a query, decoded by `decode`.
    fn rows<T>(&self, sql: &str, decode: impl Fn(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>, StoreError> {
        let mut statement = self.connection.prepare(sql).map_err(self.failed("read"))?;
        let rows = statement.query_map([], |row| decode(row)).map_err(self.failed("read"))?;
        rows.collect::<Result<_, _>>().map_err(self.failed("read"))
    }

    fn decode<M: Message + Default>(
        &self,
        table: &str,
        key: impl std::fmt::Display,
        bytes: &[u8],
    ) -> Result<M, StoreError> {
        decode(&self.path, table, key, bytes)
    }

    fn load_executions(&self) -> Result<Vec<StoredExecution>, StoreError> {
        let sql = "SELECT execution, instance, start, state FROM executions JOIN states USING (execution)";
        let rows = self.rows(sql, |row| Ok((number(row, 0)?, text(row, 1)?, bytes(row, 2)?, bytes(row, 3)?)))?;
        rows.into_iter()
            .map(|(execution, instance, start, state)| {
                Ok(StoredExecution {
                    execution: ExecutionNo(execution),
                    start: self.decode::<proto::ExecutionStartedEvent>("executions", execution, &start)?,
                    state: self.decode::<InstanceState>("states", execution, &state)?,
                    instance: InstanceId::from(instance),
                })
            })
            .collect()
    }

    fn load_entities(&self) -> Result<Vec<StoredEntity>, StoreError> {
        let sql = "SELECT entity, state, record FROM entities";
        let rows = self.rows(sql, |row| Ok((text(row, 0)?, row.get::<_, Option<String>>(1)?, bytes(row, 2)?)))?;
        rows.into_iter()
            .map(|(entity, state, record)| {
                Ok(StoredEntity {
                    record: self.decode::<EntityRecord>("entities", &entity, &record)?,
                    entity: EntityId::parse(&entity).map_err(StoreError::Other)?,
                    state: state.map(Arc::from),
                })
            })
            .collect()
    }

    /// A table of one number and one record, in order of the number.
    fn load_numbered<M: Message + Default>(&self, table: &str, key: &str) -> Result<Vec<(u64, M)>, StoreError> {
        let sql = format!("SELECT {key}, record FROM {table} ORDER BY {key}");
        let rows = self.rows(&sql, |row| Ok((number(row, 0)?, bytes(row, 1)?)))?;
        rows.into_iter().map(|(key, record)| Ok((key, self.decode(table, key, &record)?))).collect()
    }
}

/// Gives the journal mode that the database has then. SQLite keeps the old one, and calls that no error, where the disk
/// fails it.
fn configure(connection: &Connection) -> rusqlite::Result<String> {
    let mode = {
        let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
        let mut rows = statement.query([])?;
        let mode = rows.next()?.map(|row| row.get::<_, String>(0)).transpose()?;
        // The change is committed after its row. Who stops at the row never hears of a sync that failed then.
        while rows.next()?.is_some() {}
        mode.unwrap_or_default()
    };
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A checkpoint of a thousand pages takes milliseconds; ten times as many are as fast to read and cost a tenth of
    // the checkpoints.
    connection.pragma_update(None, "wal_autocheckpoint", 10_000)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    Ok(mode)
}

/// The tables and what says that they are there, in one transaction: a crash leaves either an empty database or a hub's.
fn create(connection: &Connection, hub_id: u128) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.execute("INSERT INTO hub VALUES (1, ?1, 0)", params![hub_id.to_be_bytes().as_slice()])?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)? as u64)
}

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    row.get(column)
}

fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    row.get(column)
}

fn decode<M: Message + Default>(
    path: &Path,
    table: &str,
    key: impl std::fmt::Display,
    bytes: &[u8],
) -> Result<M, StoreError> {
    M::decode(bytes).map_err(|source| StoreError::Damaged {
        what: format!("row {key} of table {table} in {}", path.display()),
        source,
    })
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Snapshot, StoreError> {
        let hub =
            self.rows("SELECT hub_id, counter FROM hub", |row| Ok((row.get::<_, [u8; 16]>(0)?, number(row, 1)?)))?;
        let Some((hub_id, counter)) = hub.into_iter().next() else {
            return Err(StoreError::Foreign { path: self.path.clone() });
        };
        let inbox = self.rows("SELECT execution, message, event FROM inbox ORDER BY execution, message", |row| {
            Ok((number(row, 0)?, number(row, 1)?, bytes(row, 2)?))
        })?;
        let messages = inbox
            .into_iter()
            .map(|(execution, message, event)| {
                let event = self.decode::<proto::HistoryEvent>("inbox", message, &event)?;
                Ok((ExecutionNo(execution), MessageSeq(message), event))
            })
            .collect::<Result<_, StoreError>>()?;
        let activities = self.load_numbered::<ActivityRecord>("activities", "activity")?;
        let timers = self.load_numbered::<TimerRecord>("timers", "timer")?;
        let operations = self.load_numbered::<OperationRecord>("operations", "message")?;
        Ok(Snapshot {
            hub_id: u128::from_be_bytes(hub_id),
            counter,
            executions: self.load_executions()?,
            messages,
            activities: activities.into_iter().map(|(seq, record)| (ActivitySeq(seq), record)).collect(),
            timers: timers.into_iter().map(|(seq, record)| (TimerSeq(seq), record)).collect(),
            entities: self.load_entities()?,
            operations: operations.into_iter().map(|(seq, record)| (MessageSeq(seq), record)).collect(),
        })
    }

    fn commit(&mut self, group: &[Batch]) -> Result<(), StoreError> {
        let outcome = self.write(group);
        if outcome.is_err() {
            // The last connection that closes would sync the log once more and believe that sync, whatever the failed
            // one has lost. What is on disk now stays as it is for who opens it next.
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
        outcome
    }

    fn reader(&self) -> Result<Box<dyn HistoryReader>, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(self.failed("open"))?;
        // Tidying up is the writer's, who knows whether it may.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(self.failed("configure"))?;
        Ok(Box::new(SqliteReader { path: self.path.clone(), connection }))
    }

    fn close(&mut self) -> Result<(), StoreError> {
        let checkpoint = |row: &Row<'_>| row.get::<_, i64>(0);
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], checkpoint)
            .map(|_| ())
            .map_err(self.failed("checkpoint"))
    }
}

struct SqliteReader {
    path: PathBuf,
    connection: Connection,
}

impl HistoryReader for SqliteReader {
    fn read(&mut self, range: HistoryRange) -> Result<Vec<proto::HistoryEvent>, StoreError> {
        let failed = |source| StoreError::Database { action: "read", path: self.path.clone(), source };
        let sql = "SELECT position, event FROM history WHERE execution = ?1 AND position < ?2 ORDER BY position";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let len = i64::try_from(range.len).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![range.execution.0 as i64, len]).map_err(failed)?;
        let mut events = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let position = number(row, 0).map_err(failed)?;
            let event = row.get_ref(1).map_err(failed)?.as_blob().map_err(|e| failed(e.into()))?;
            events.push(decode::<proto::HistoryEvent>(&self.path, "history", position, event)?);
        }
        Ok(events)
    }
}

/// Encodes a message into the buffer, which is used again and again.
fn encoded<'a>(buffer: &'a mut Vec<u8>, message: &impl Message) -> &'a [u8] {
    buffer.clear();
    message.encode(buffer).expect("a vector grows as far as it has to");
    buffer
}

fn run(connection: &Connection, sql: &str, values: &[&dyn ToSql]) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute(values).map(|_| ())
}

/// Carries out a write that concerns an execution; all others are [`apply_record`]'s.
fn apply(connection: &Connection, write: &Write, buffer: &mut Vec<u8>) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn ToSql]| run(connection, sql, values);
    match write {
        Write::PutExecution { execution, instance, start, state } => {
            let key = execution.0 as i64;
            let start = encoded(buffer, start.as_ref());
            run("INSERT INTO executions VALUES (?1, ?2, ?3)", params![key, instance.as_str(), start])?;
            run("INSERT INTO states VALUES (?1, ?2)", params![key, encoded(buffer, state)])
        }
        Write::PutState { execution, state } => {
            let state = encoded(buffer, state);
            run("UPDATE states SET state = ?2 WHERE execution = ?1", params![execution.0 as i64, state])
        }
        Write::DeleteExecution { execution } => {
            let key = execution.0 as i64;
            run("DELETE FROM executions WHERE execution = ?1", params![key])?;
            run("DELETE FROM states WHERE execution = ?1", params![key])?;
            run("DELETE FROM inbox WHERE execution = ?1", params![key])?;
            run("DELETE FROM history WHERE execution = ?1", params![key])
        }
        Write::AppendHistory { execution, first, events } => {
            let mut statement = connection.prepare_cached("INSERT INTO history VALUES (?1, ?2, ?3)")?;
            for (position, event) in (*first..).zip(events) {
                statement.execute(params![execution.0 as i64, position as i64, encoded(buffer, event)])?;
            }
            Ok(())
        }
        Write::PutMessage { execution, message, event } => {
            let event = encoded(buffer, event.as_ref());
            run("INSERT INTO inbox VALUES (?1, ?2, ?3)", params![execution.0 as i64, message.0 as i64, event])
        }
        Write::DeleteMessages { execution, up_to } => {
            let sql = "DELETE FROM inbox WHERE execution = ?1 AND message <= ?2";
            run(sql, params![execution.0 as i64, up_to.0 as i64])
        }
        other => apply_record(connection, other, buffer),
    }
}

/// Carries out a write of one row of a table of records.
fn apply_record(connection: &Connection, write: &Write, buffer: &mut Vec<u8>) -> rusqlite::Result<()> {
    let put = |sql: &str, key: u64, record: &[u8]| run(connection, sql, params![key as i64, record]);
    let delete = |sql: &str, key: u64| run(connection, sql, params![key as i64]);
    match write {
        Write::PutActivity { activity, record } => {
            put("INSERT INTO activities VALUES (?1, ?2)", activity.0, encoded(buffer, record.as_ref()))
        }
        Write::DeleteActivity { activity } => delete("DELETE FROM activities WHERE activity = ?1", activity.0),
        Write::PutTimer { timer, record } => {
            put("INSERT INTO timers VALUES (?1, ?2)", timer.0, encoded(buffer, record.as_ref()))
        }
        Write::DeleteTimer { timer } => delete("DELETE FROM timers WHERE timer = ?1", timer.0),
        Write::PutEntity { entity, state, record } => {
            let record = encoded(buffer, record);
            let sql = "INSERT OR REPLACE INTO entities VALUES (?1, ?2, ?3)";
            run(connection, sql, params![entity.as_str(), state.as_deref(), record])
        }
        Write::DeleteEntity { entity } => {
            run(connection, "DELETE FROM entities WHERE entity = ?1", params![entity.as_str()])
        }
        Write::PutOperation { message, record } => {
            put("INSERT INTO operations VALUES (?1, ?2)", message.0, encoded(buffer, record.as_ref()))
        }
        Write::DeleteOperation { message } => delete("DELETE FROM operations WHERE message = ?1", message.0),
        Write::PutExecution { .. }
        | Write::PutState { .. }
        | Write::DeleteExecution { .. }
        | Write::AppendHistory { .. }
        | Write::PutMessage { .. }
        | Write::DeleteMessages { .. } => unreachable!("`apply` carries these out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no test from outside can see: with anything less than this, a commit returns before it is on disk.
    #[test]
    fn a_commit_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("hub.db"), 1).unwrap();
        let setting = |name: &str| {
            let value = store.connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
            value.unwrap()
        };
        assert_eq!(setting("synchronous"), rusqlite::types::Value::Integer(2), "FULL");
        assert_eq!(setting("journal_mode"), rusqlite::types::Value::Text("wal".to_owned()));
    }
}
