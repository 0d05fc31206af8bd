//! A database and a connection to it, made when it is needed and again when it was lost. One transaction at a time. This
//! module must never show the address as it was given: a password may be in it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use url::Url;

use super::SCHEMA;
use super::tls::{Check, connector};
use crate::error::{CounterError, CounterErrorKind, Result, Trouble};

/// What the environment says, by name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How long a connection may take, unless the address says it.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one call tries, by default.
const PATIENCE: Duration = Duration::from_secs(15);

/// A database that holds counters.
pub struct Database {
    config: Config,
    tls: Option<(Check, Option<PathBuf>)>,
    pub(super) patience: Duration,
    client: Arc<Mutex<Option<Client>>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("place", &self.describe()).finish_non_exhaustive()
    }
}

impl Database {
    /// The database at `url`: `postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full`. What it leaves out is read from
    /// `PGUSER`, `PGPASSWORD`, `PGSSLMODE` and `PGSSLROOTCERT`, as PostgreSQL's own tools do.
    pub fn new(url: &str, env: Environment<'_>) -> Result<Self> {
        let wrong = |what: &str| {
            let text = format!("the address of the database is wrong: {what}");
            CounterError::new(CounterErrorKind::NotFitting, text)
                .help("write postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full")
        };
        // The parsers' own messages could have a part of the address in them.
        let mut url = Url::parse(url).map_err(|_| wrong("it is no URL"))?;
        if !["postgres", "postgresql"].contains(&url.scheme()) {
            return Err(wrong("it does not begin with postgresql://"));
        }
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let get = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let mode = get("sslmode").or_else(|| env("PGSSLMODE")).unwrap_or_else(|| "prefer".to_owned());
        let authorities = get("sslrootcert").or_else(|| env("PGSSLROOTCERT")).map(PathBuf::from);
        let rest: Vec<_> = query.iter().filter(|(key, _)| key != "sslmode" && key != "sslrootcert").collect();
        url.set_query(None);
        if !rest.is_empty() {
            url.query_pairs_mut().extend_pairs(rest);
        }
        let mut config: Config = url.as_str().parse().map_err(|_| wrong("a part of it is not understood"))?;
        if config.get_user().is_none() {
            config.user(env("PGUSER").ok_or_else(|| wrong("it names no user, and PGUSER is not set"))?);
        }
        if config.get_password().is_none()
            && let Some(password) = env("PGPASSWORD")
        {
            config.password(password);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        config.application_name("seriatim").tcp_user_timeout(Duration::from_secs(30));
        let given = authorities.is_some();
        let check = match mode.as_str() {
            "disable" => None,
            "prefer" | "require" if !given => Some(Check::Key),
            "prefer" | "require" | "verify-ca" => Some(Check::Authority),
            "verify-full" => Some(Check::Name),
            _ => return Err(wrong("`sslmode` is disable, prefer, require, verify-ca or verify-full")),
        };
        config.ssl_mode(match mode.as_str() {
            "disable" => SslMode::Disable,
            "prefer" => SslMode::Prefer,
            _ => SslMode::Require,
        });
        let tls = check.map(|check| (check, authorities));
        Ok(Self { config, tls, patience: PATIENCE, client: Arc::default() })
    }

    /// The same, with calls that try for as long as `patience`; default: 15 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The database and its server, for people.
    pub fn describe(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".to_owned(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let name = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("the database '{name}' on {host}:{port}")
    }

    /// The connection, made anew if there is none, with the tables that counters need.
    pub(super) async fn connection(&self) -> Result<Connection<'_>, Trouble> {
        let mut client = self.client.lock().await;
        if client.as_ref().is_none_or(Client::is_closed) {
            *client = None;
            let mut fresh = self.connect().await?;
            ensure_schema(&mut fresh).await?;
            *client = Some(fresh);
        }
        Ok(Connection(client))
    }

    /// Connects, without a look at the tables.
    pub(crate) async fn connect(&self) -> Result<Client, Trouble> {
        match &self.tls {
            None => Ok(driven(self.config.connect(NoTls).await?)),
            Some((check, authorities)) => {
                Ok(driven(self.config.connect(connector(*check, authorities.as_deref())?).await?))
            }
        }
    }
}

/// A connection's own work goes on beside its client, and ends with it.
fn driven<S, T>((client, connection): (Client, tokio_postgres::Connection<S, T>)) -> Client
where
    tokio_postgres::Connection<S, T>: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
{
    tokio::spawn(async move {
        // Whoever uses the client is told as well.
        let _ = connection.await;
    });
    client
}

/// The one connection, while it is ours.
pub(super) struct Connection<'a>(MutexGuard<'a, Option<Client>>);

impl Connection<'_> {
    pub(super) fn client(&mut self) -> Result<&mut Client, Trouble> {
        self.0.as_mut().ok_or_else(|| Trouble::Passing("the connection was lost".to_owned()))
    }
}

/// Makes what counters need, if it is not there. Several may try at once, and who may not create anything need not.
async fn ensure_schema(client: &mut Client) -> Result<(), Trouble> {
    let there = "SELECT to_regclass('seriatim.counter') IS NOT NULL AND to_regclass('seriatim.block') IS NOT NULL";
    if client.query_typed_one(there, &[]).await?.get(0) {
        return Ok(());
    }
    let transaction = client.transaction().await?;
    transaction.batch_execute("SELECT pg_advisory_xact_lock(hashtext('seriatim schema'))").await?;
    if !transaction.query_typed_one(there, &[]).await?.get::<_, bool>(0) {
        transaction.batch_execute(SCHEMA).await?;
    }
    Ok(transaction.commit().await?)
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else { return without_answer(&error) };
        let code = said.code();
        let text = format!("{} ({})", said.message(), code.code());
        let class = code.code().get(..2).unwrap_or_default();
        if *code == SqlState::LOCK_NOT_AVAILABLE {
            return Self::Conflict("the row is locked by another transaction, which does not end".to_owned());
        }
        match class {
            // A serialisation failure or a deadlock.
            "40" => Self::Conflict(text),
            // Lost connections, too many of them, a server that goes down or comes up.
            "08" | "53" | "57" => Self::Passing(text),
            "28" => {
                Self::refused(&text, "see that user and password are right, and that the server lets this machine in")
            }
            "3D" => Self::refused(&text, "correct the database's name in the address, or make the database"),
            "42" if *code == SqlState::INSUFFICIENT_PRIVILEGE => Self::refused(
                &text,
                "let the database's owner run the statements in docs/ids.md once, and grant this user what they say",
            ),
            _ => Self::Final(CounterError::new(CounterErrorKind::Broken, format!("the database says: {text}"))),
        }
    }
}

impl Trouble {
    fn refused(text: &str, help: &str) -> Self {
        Self::Final(CounterError::new(CounterErrorKind::Refused, format!("the database refuses: {text}")).help(help))
    }
}

/// A server that did not answer, or a connection that could not be made.
fn without_answer(error: &tokio_postgres::Error) -> Trouble {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    // A certificate that does not hold will not hold at the next attempt.
    if text.contains("certificate") {
        return Trouble::refused(
            &text,
            "correct `sslrootcert` or the server's certificate, or choose another `sslmode`",
        );
    }
    if text.contains("server does not support TLS") {
        return Trouble::refused(&text, "turn TLS on in the server, or use `sslmode=prefer`");
    }
    if text.contains("password missing") || text.contains("invalid configuration") {
        return Trouble::refused(&text, "put the password into the environment, as PGPASSWORD");
    }
    Trouble::Passing(text)
}
