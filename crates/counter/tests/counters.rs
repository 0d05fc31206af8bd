//! Each counter keeps every promise, against a real service: Azurite, and a PostgreSQL server with a cluster of its own.
//! The durable entity is held to the same promises in the ingest.

use std::sync::Arc;
use std::time::Duration;

use seriatim_counter::conformance::{self as promise, Density};
use seriatim_counter::postgres::{NextvalCounter, RowCounter};
use seriatim_counter::services::{Azurite, Postgres, PostgresOptions};
use seriatim_counter::table::TableCounter;
use seriatim_counter::{Ask, Counter, CounterErrorKind};
use tokio::runtime::Runtime;

fn no_environment(_: &str) -> Option<String> {
    None
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn azurite() -> Azurite {
    Azurite::start().expect("Azurite starts: scripts/test installs it, and sets SERIATIM_NODE")
}

fn postgres() -> Postgres {
    Postgres::start(&PostgresOptions::default()).expect("PostgreSQL starts: scripts/test installs it")
}

fn table(azurite: &Azurite) -> TableCounter {
    TableCounter::new(&azurite.table("counters"), &no_environment).expect("an address").patience(Duration::from_mins(1))
}

fn row(postgres: &Postgres) -> RowCounter {
    RowCounter::new(&postgres.url(), &no_environment).expect("an address").patience(Duration::from_mins(1))
}

fn nextval(postgres: &Postgres) -> NextvalCounter {
    NextvalCounter::new(&postgres.url(), &no_environment).expect("an address").patience(Duration::from_mins(1))
}

/// A connection as an application has it.
async fn application(postgres: &Postgres) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await.expect("it runs");
    tokio::spawn(connection);
    client
}

/// Every promise of a counter, each with a sequence of its own.
async fn dense(counters: &[Arc<dyn Counter>]) {
    let counter = &*counters[0];
    promise::blocks_follow_each_other(counter, "shop.follow").await;
    promise::calls_may_be_made_again(counter, "shop.again").await;
    promise::wrong_calls_are_refused(counter, "shop.wrong").await;
    promise::a_released_block_is_given_again(counter, "shop.released", Density::Dense).await;
    promise::an_open_block_keeps_others_waiting(counter, "shop.held").await;
    promise::a_new_sequence_begins_where_it_is_told(counter, "shop.new").await;
    promise::sixteen_runs_at_once(counters, "shop.together", Density::Dense).await;
}

#[test]
fn g6_a_table_keeps_every_promise() {
    let azurite = azurite();
    let counters: Vec<Arc<dyn Counter>> = (0..4).map(|_| Arc::new(table(&azurite)) as Arc<dyn Counter>).collect();
    runtime().block_on(dense(&counters));
}

#[test]
fn g6_a_row_keeps_every_promise() {
    let postgres = postgres();
    let counters: Vec<Arc<dyn Counter>> = (0..16).map(|_| Arc::new(row(&postgres)) as Arc<dyn Counter>).collect();
    runtime().block_on(dense(&counters));
}

#[test]
fn g6_a_sequence_keeps_every_promise_but_density() {
    let postgres = postgres();
    runtime().block_on(async {
        let application = application(&postgres).await;
        for name in ["follow", "again", "wrong", "released", "new", "together"] {
            application.batch_execute(&format!("CREATE SEQUENCE {name}")).await.expect("a sequence");
        }
        let counters: Vec<Arc<dyn Counter>> =
            (0..4).map(|_| Arc::new(nextval(&postgres)) as Arc<dyn Counter>).collect();
        let counter = &*counters[0];
        promise::blocks_follow_each_other(counter, "follow").await;
        promise::calls_may_be_made_again(counter, "again").await;
        promise::wrong_calls_are_refused(counter, "wrong").await;
        promise::a_released_block_is_given_again(counter, "released", Density::Gaps).await;
        promise::sixteen_runs_at_once(&counters, "together", Density::Gaps).await;
    });
}

#[test]
fn a_service_that_is_away_is_named() {
    let (mut azurite, mut postgres) = (azurite(), postgres());
    let short = Duration::from_millis(200);
    let table = TableCounter::new(&azurite.table("counters"), &no_environment).expect("an address").patience(short);
    let row = RowCounter::new(&postgres.url(), &no_environment).expect("an address").patience(short);
    azurite.stop();
    postgres.stop();
    runtime().block_on(async {
        promise::a_service_that_is_away_is_named(&table, "the table 'counters'").await;
        promise::a_service_that_is_away_is_named(&row, &format!("127.0.0.1:{}", postgres.port())).await;
    });
}

/// A client whose connection was closed while nobody looked asks again, and nobody notices.
#[test]
fn a_connection_that_the_service_closed_is_made_again() {
    let (azurite, postgres) = (azurite(), postgres());
    runtime().block_on(async {
        let (table, row) = (table(&azurite), row(&postgres));
        for (run, first) in [("a", 0), ("b", 3)] {
            for counter in [&table as &dyn Counter, &row] {
                let ask = Ask { sequence: "s".to_owned(), run: run.to_owned(), count: 3, from: 0 };
                assert_eq!(counter.reserve(&ask, Duration::ZERO).await, Ok(first));
                counter.commit("s", run).await.expect("it is reserved");
            }
            let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'seriatim'";
            application(&postgres).await.batch_execute(others).await.expect("they end");
        }
    });
}

/// G2 with others: an application takes IDs from the same row in transactions of its own; rolled back, they are not
/// taken, and while a run has an open block it is told so.
#[test]
fn g2_an_application_takes_ids_from_the_same_row() {
    let postgres = postgres();
    runtime().block_on(async {
        let counter = row(&postgres);
        let ask = |run: &str| Ask { sequence: "s".to_owned(), run: run.to_owned(), count: 10, from: 0 };
        assert_eq!(counter.reserve(&ask("a"), Duration::ZERO).await, Ok(0));
        let mut application = application(&postgres).await;
        let take = "SELECT seriatim.take('s', 3)";
        let refused = application.query_one(take, &[]).await.expect_err("a run holds it");
        let said = refused.as_db_error().expect("the server says it");
        assert_eq!(said.code().code(), "55006");
        assert!(said.message().contains("held by run a"), "{said}");
        counter.commit("s", "a").await.expect("it is reserved");
        let transaction = application.transaction().await.expect("a transaction");
        assert_eq!(transaction.query_one(take, &[]).await.expect("it is free").get::<_, i64>(0), 10);
        transaction.rollback().await.expect("nothing is taken");
        assert_eq!(application.query_one(take, &[]).await.expect("it is free").get::<_, i64>(0), 10);
        assert_eq!(counter.reserve(&ask("b"), Duration::ZERO).await, Ok(13));
        counter.commit("s", "b").await.expect("it is reserved");
    });
}

/// G1 with others: while applications draw single values, runs take blocks of the same sequence; nobody gets another's.
#[test]
fn g1_nextval_never_falls_into_a_block() {
    let postgres = postgres();
    runtime().block_on(async {
        let counter = Arc::new(nextval(&postgres));
        application(&postgres)
            .await
            .batch_execute("CREATE SEQUENCE s START 100 INCREMENT 5")
            .await
            .expect("a sequence");
        let shape = counter.shape("s").await.expect("it is there").expect("it has one");
        assert_eq!((shape.start, shape.step), (100, 5));
        let mut others = Vec::new();
        for _ in 0..3 {
            let client = application(&postgres).await;
            others.push(tokio::spawn(async move {
                let mut drawn = Vec::new();
                for _ in 0..200 {
                    drawn.push(client.query_one("SELECT nextval('s')", &[]).await.expect("a value").get::<_, i64>(0));
                }
                drawn
            }));
        }
        let mut given = Vec::new();
        for run in 0..20 {
            let ask = Ask { sequence: "s".to_owned(), run: run.to_string(), count: 10, from: 0 };
            let first = counter.reserve(&ask, Duration::ZERO).await.expect("nobody is waited for") as i64;
            given.extend((first..first + 10).map(|place| 100 + 5 * place));
            counter.commit("s", &run.to_string()).await.expect("it is reserved");
        }
        for other in others {
            given.extend(other.await.expect("it does not panic"));
        }
        given.sort_unstable();
        let all: Vec<i64> = (0..given.len() as i64).map(|place| 100 + 5 * place).collect();
        assert_eq!(given, all, "each value once");
    });
}

#[test]
fn a_sequence_that_does_not_fit_is_refused() {
    let postgres = postgres();
    runtime().block_on(async {
        let application = application(&postgres).await;
        let make = "CREATE SEQUENCE small MAXVALUE 5; CREATE ROLE guest LOGIN PASSWORD 'guest'; \
                    CREATE SEQUENCE \"Other\"; GRANT ALL ON SCHEMA public TO guest";
        application.batch_execute(make).await.expect("they are made");
        let counter = nextval(&postgres);
        let ask = |sequence: &str, count| Ask { sequence: sequence.to_owned(), run: "a".to_owned(), count, from: 0 };
        let error = counter.try_reserve(&ask("small", 6)).await.expect_err("it ends before");
        assert_eq!(error.kind, CounterErrorKind::NotFitting);
        assert!(error.message.contains("no 6 values left"), "{error}");
        let error = counter.try_reserve(&ask("public.none", 1)).await.expect_err("it is not there");
        assert!(error.message.contains("no sequence 'public.none'"), "{error}");
        // A user who may not do it is told what is missing.
        let grant = "GRANT USAGE ON SCHEMA seriatim TO guest; GRANT ALL ON ALL TABLES IN SCHEMA seriatim TO guest";
        application.batch_execute(grant).await.expect("the schema is there");
        let url = postgres.url().replace(postgres.password(), "guest").replace("//seriatim:", "//guest:");
        let guest = NextvalCounter::new(&url, &no_environment).expect("an address");
        let error = guest.try_reserve(&ask("small", 1)).await.expect_err("it is another's");
        assert_eq!(error.kind, CounterErrorKind::Refused);
        assert!(error.message.contains("by its owner"), "{error}");
    });
}

/// The password is in the address, and the address is in nothing that people see.
#[test]
fn credentials_are_never_shown() {
    let postgres = postgres();
    runtime().block_on(async {
        let wrong = postgres.url().replace(postgres.password(), "canary-7f3a");
        let counter = RowCounter::new(&wrong, &no_environment).expect("an address");
        let error = counter.look("s").await.expect_err("the password is wrong");
        assert_eq!(error.kind, CounterErrorKind::Refused);
        for text in [format!("{error:?}"), format!("{counter:?}"), counter.describe()] {
            assert!(!text.contains("canary"), "{text}");
        }
    });
    for url in ["postgresql://u:canary-7f3a@h:port/d", "postgresql://u:canary-7f3a@h/d?canary=1", "canary-7f3a"] {
        let error = RowCounter::new(url, &no_environment).expect_err("it is no address");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    let azurite = azurite();
    runtime().block_on(async {
        let url = format!("{}?sv=2019-02-02&sig=canary-7f3a", azurite.table("counters"));
        let counter = TableCounter::new(&url, &no_environment).expect("an address");
        let error = counter.look("s").await.expect_err("the signature is wrong");
        assert_eq!(error.kind, CounterErrorKind::Refused, "{error}");
        for text in [format!("{error:?}"), format!("{counter:?}"), counter.describe()] {
            assert!(!text.contains("canary"), "{text}");
        }
    });
}

/// TLS by libpq's modes: who asks for the name gets no connection to a server with another one.
#[test]
fn tls_is_as_strict_as_it_is_told() {
    let made = rcgen::generate_simple_self_signed(vec!["db.example".to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let folder = tempfile::tempdir().expect("a folder");
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, &certificate).expect("it can be written");
    let options = PostgresOptions { tls: Some((certificate, key)), ..PostgresOptions::default() };
    let postgres = Postgres::start(&options).expect("PostgreSQL starts: scripts/test installs it");
    let with = |query: &str| format!("{}?{query}", postgres.url());
    let root = format!("sslrootcert={}", authority.display());
    runtime().block_on(async {
        for (query, works) in [
            ("sslmode=disable".to_owned(), true),
            ("sslmode=require".to_owned(), true),
            (format!("sslmode=verify-ca&{root}"), true),
            (format!("sslmode=require&{root}"), true),
            // The certificate is of another host.
            (format!("sslmode=verify-full&{root}"), false),
            // No public authority knows it.
            ("sslmode=verify-ca".to_owned(), false),
            ("sslmode=verify-full".to_owned(), false),
        ] {
            let counter = RowCounter::new(&with(&query), &no_environment).expect("an address");
            let looked = counter.look("s").await;
            match looked {
                Ok(_) => assert!(works, "{query} lets it pass"),
                Err(error) => {
                    assert!(!works, "{query}: {error}");
                    assert_eq!(error.kind, CounterErrorKind::Refused, "{query}: {error}");
                }
            }
        }
    });
    let plain = self::postgres();
    runtime().block_on(async {
        let counter =
            RowCounter::new(&format!("{}?sslmode=require", plain.url()), &no_environment).expect("an address");
        let error = counter.look("s").await.expect_err("it has no TLS");
        assert!(error.message.contains("TLS"), "{error}");
    });
}
