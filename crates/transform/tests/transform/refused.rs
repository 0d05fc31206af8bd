//! What is refused, with the words that a user reads: what is wrong, where, and what to do. The
//! messages are part of the product, so they are compared as a whole where they are ours, and by
//! their core where the planner words them.

use std::sync::Arc;

use crate::common::{pick, sample, schema, transform};
use arrow::datatypes::{DataType, Field, Schema};
use seriatim_transform::{ErrorKind, Transform, TransformError};

/// Kind, `line:column`, message and help of the refusal.
fn refusal(sql: &str) -> (ErrorKind, String, String, String) {
    let error = Transform::new(sql, schema()).expect_err(sql);
    let TransformError::Sql(error) = error else {
        panic!("{sql}: {error}");
    };
    let place = error.location.map_or_else(|| "-".to_owned(), |it| format!("{}:{}", it.line, it.column));
    (error.kind, place, error.message, error.help.unwrap_or_default())
}

#[track_caller]
fn refused(sql: &str, kind: ErrorKind, place: &str, message: &str, help: &str) {
    let found = refusal(sql);
    // `*`: some place, the parser does not tell exactly which.
    let there = place == "*" || found.1 == place;
    assert!(found.0 == kind && there, "{sql}\n{found:?}, expected at {place}");
    assert!(found.2.contains(message), "{sql}\n{found:?}");
    assert!(found.3.contains(help), "{sql}\n{found:?}");
    assert!(!found.3.is_empty() || kind == ErrorKind::Syntax || kind == ErrorKind::Type, "{sql}: says what to do");
}

#[test]
fn one_message_as_a_whole() {
    let error = Transform::new("SELECT email,\n       count(*) AS n\nFROM source", schema()).expect_err("aggregate");
    assert_eq!(
        error.to_string(),
        "line 2, column 8: `count` is an aggregate function: it looks at many rows, a transform at one"
    );
    assert_eq!(error.help(), Some("give the table a `key` for distinct things; aggregate the output afterwards"));
    assert_eq!(error.kind(), Some(ErrorKind::NotRowWise));
}

#[test]
fn whatever_looks_at_other_rows() {
    let no = |sql: &str, place: &str, message: &str, help: &str| {
        refused(sql, ErrorKind::NotRowWise, place, message, help);
    };
    no("SELECT max(price) FROM source", "1:8", "`max` is an aggregate function", "greatest(a, b)");
    no("SELECT city FROM source GROUP BY city", "1:34", "GROUP BY is not row-wise: each row", "`key`");
    no("SELECT city FROM source GROUP BY ALL", "1:1", "GROUP BY is not row-wise", "`key`");
    no("SELECT city FROM source HAVING city = 'a'", "1:32", "HAVING", "WHERE");
    no(
        "SELECT row_number() OVER (ORDER BY email) FROM source",
        "1:8",
        "window function",
        "numbering is what the tables' `id` is for",
    );
    no("SELECT sum(price) OVER () FROM source", "1:8", "`sum` is used as a window function", "");
    no("SELECT lag(price) FROM source", "1:8", "window function", "");
    no(
        "SELECT city FROM source ORDER BY city",
        "1:34",
        "ORDER BY is not row-wise",
        "rows keep the order of the source",
    );
    no("SELECT DISTINCT city FROM source", "1:1", "DISTINCT is not row-wise", "`key`");
    no("SELECT city FROM source LIMIT 3", "1:31", "LIMIT or OFFSET is not row-wise", "WHERE");
    no("SELECT city FROM source OFFSET 3", "1:32", "LIMIT or OFFSET is not row-wise", "WHERE");
    no("SELECT city FROM source FETCH FIRST 3 ROWS ONLY", "1:1", "FETCH is not row-wise", "WHERE");
    no("SELECT TOP 3 city FROM source", "1:1", "TOP", "WHERE");
    no(
        "SELECT a.city FROM source a JOIN source b ON a.email = b.email",
        "1:34",
        "a join is not row-wise",
        "`references`",
    );
    no("SELECT 1 AS x FROM source, source b", "1:28", "a join is not row-wise", "`references`");
    no("SELECT city FROM source UNION ALL SELECT email FROM source", "1:1", "UNION is not row-wise", "`source.files`");
    no("SELECT city FROM source EXCEPT SELECT email FROM source", "1:1", "EXCEPT is not row-wise", "");
    no(
        "SELECT city FROM source WHERE email IN (SELECT email FROM source)",
        "1:31",
        "a sub-query in an expression",
        "x IN ('a', 'b')",
    );
    no("SELECT city FROM source WHERE EXISTS (SELECT 1 FROM source)", "*", "a sub-query in an expression", "FROM");
    no("SELECT (SELECT 1 FROM source) AS x FROM source", "*", "a sub-query in an expression", "FROM");
    no("SELECT unnest(city) FROM source", "1:8", "makes several rows of one", "`from: COLUMN[]`");
    no("SELECT city FROM source, UNNEST([1, 2])", "*", "a join", "");
    refused(
        "SELECT array_length(city) AS n FROM source",
        ErrorKind::Unsupported,
        "1:8",
        "functions of lists are not available",
        "let the list pass through",
    );
    no("SELECT upper(DISTINCT city) FROM source", "1:8", "belong to aggregation", "leave it out");
    no("WITH RECURSIVE a AS (SELECT 1 FROM source) SELECT * FROM a", "1:1", "WITH RECURSIVE", "RECURSIVE");
    no("SELECT * FROM (SELECT city FROM source ORDER BY city)", "1:49", "ORDER BY is not row-wise", "");
    no("WITH unused AS (SELECT count(*) FROM source) SELECT * FROM source", "1:24", "`count` is an aggregate", "");
    no("SELECT * FROM source TABLESAMPLE (10 PERCENT)", "*", "TABLESAMPLE", "WHERE");
}

#[test]
fn whatever_depends_on_time_or_chance() {
    for function in [
        "now()",
        "current_date",
        "current_date()",
        "CURRENT_TIMESTAMP",
        "current_time",
        "today()",
        "random()",
        "uuid()",
        "input_file_name()",
        "file_row_index()",
        "version()",
        "rand()",
        "newid()",
        "getdate()",
    ] {
        refused(
            &format!("SELECT email,\n  concat(email, {function}) AS x FROM source"),
            ErrorKind::NotRowWise,
            "2:17",
            "does not depend on the row alone",
            "constant",
        );
    }
    // A column may be called like one of them.
    let source = Arc::new(Schema::new(vec![Field::new("Current_Date", DataType::Utf8, true)]));
    let fine = Transform::new("SELECT current_date FROM source", source).expect("a column");
    assert_eq!(fine.pass_through("Current_Date"), Some("Current_Date"));
}

#[test]
fn unknown_names_with_the_nearest() {
    let no = |sql: &str, place: &str, message: &str, help: &str| {
        refused(sql, ErrorKind::UnknownName, place, message, help);
    };
    no("SELECT emial FROM source", "1:8", "unknown column `emial`", "did you mean `email`?");
    no("SELECT *\nFROM source\nWHERE  prize > 1", "3:8", "unknown column `prize`", "did you mean `price`?");
    no("SELECT \"customerid\" FROM source", "1:8", "unknown column `customerid`", "did you mean `CustomerID`?");
    no("SELECT city = \"Ulm\" AS x FROM source", "1:15", "unknown column `Ulm`", "single quotes");
    no("SELECT xyzzyx FROM source", "1:8", "unknown column `xyzzyx`", "there is: `CustomerID`, `email`");
    no("SELECT s.emial FROM source s", "1:10", "unknown column `emial`", "`email`");
    no("SELECT t.email FROM source s", "1:8", "unknown column `t`", "the table here is `s`");
    no("SELECT * EXCEPT (prise) FROM source", "1:18", "unknown column `prise` in EXCEPT", "`price`");
    no("SELECT * REPLACE (1 AS prise) FROM source", "1:24", "unknown column `prise` in REPLACE", "`price`");
    no("SELECT city FROM (SELECT email FROM source)", "1:8", "unknown column `city`", "`email`");
    no("SELECT email FROM sauce", "1:19", "unknown table `sauce`", "`source`");
    no("SELECT email FROM customers", "1:19", "unknown table `customers`", "the records are in the table `source`");
    no("SELECT email FROM db.source", "1:19", "unknown table `db.source`", "no database or schema name");
    no("SELECT 1 AS x", "1:1", "no FROM", "FROM source");
    no("SELECT uper(email) FROM source", "1:8", "unknown function `uper`", "did you mean `upper`?");
    no("SELECT frobnicate(email) FROM source", "1:8", "unknown function `frobnicate`", "DataFusion");
    let twins =
        Arc::new(Schema::new(vec![Field::new("Id", DataType::Int64, true), Field::new("ID", DataType::Int64, true)]));
    let error = Transform::new("SELECT id FROM source", Arc::clone(&twins)).expect_err("ambiguous");
    assert_eq!(error.to_string(), "line 1, column 8: `id` is ambiguous: it could be column `Id` or `ID`");
    assert_eq!(error.help(), Some("write the one that is meant in double quotes: \"Id\""));
    assert!(Transform::new("SELECT ID FROM source", twins).is_ok());
}

#[test]
fn results_that_cannot_be_stored() {
    let no = |sql: &str, place: &str, message: &str, help: &str| {
        refused(sql, ErrorKind::Type, place, message, help);
    };
    no("SELECT email, city AS email FROM source", "1:15", "two result columns are called `email`", "AS");
    no(
        "SELECT *, upper(email) AS email FROM source",
        "1:11",
        "two result columns are called `email`",
        "* REPLACE (... AS email)",
    );
    no("SELECT * FROM (SELECT email, email FROM source)", "1:30", "two result columns are called `email`", "AS");
    no("SELECT NULL AS x FROM source", "-", "the column `x` has the type Null", "CAST(NULL AS BIGINT)");
    no("SELECT at - at AS x FROM source", "-", "cannot be stored", "number");
    no("SELECT INTERVAL '1 day' AS x FROM source", "-", "cannot be stored", "timestamp");
    no(
        "SELECT * EXCEPT (CustomerID, email, city, quantity, price, amount, paid, day, at) FROM source",
        "1:1",
        "no columns",
        "at least one",
    );
    no(
        "WITH a (x, y) AS (SELECT email FROM source) SELECT * FROM a",
        "1:6",
        "names 2 columns, but there are 1",
        "all of them",
    );
}

#[test]
fn types_that_do_not_fit_are_found_where_they_are() {
    let no = |sql: &str, place: &str, message: &str| refused(sql, ErrorKind::Type, place, message, "");
    no("SELECT city,\n  email + paid AS x FROM source", "2:3", "Utf8 + Boolean");
    no("SELECT * FROM source WHERE upper(1, 2) = 'a'", "1:28", "upper");
    no("SELECT * FROM source WHERE quantity + 1", "1:28", "boolean");
    no("SELECT 1 / 0 AS x FROM source", "-", "the constant `1 / 0` cannot be computed: division by zero");
    no("SELECT quantity + CAST('abc' AS BIGINT) AS x FROM source", "-", "Cannot cast string 'abc'");
    no("SELECT 9223372036854775807 + 1 AS x FROM source", "-", "Overflow");
}

#[test]
fn what_is_no_select_or_no_sql() {
    let unsupported = |sql: &str| assert_eq!(refusal(sql).0, ErrorKind::Unsupported, "{sql}");
    let syntax = |sql: &str, place: &str, message: &str| {
        refused(sql, ErrorKind::Syntax, place, message, "");
    };
    syntax("SELECT city\nFROM source\nWHERE\n", "3:6", "an expression, found: the end of the SQL");
    syntax("SELECT (city", "1:13", "found: the end of the SQL");
    for sql in [
        "INSERT INTO source VALUES (1)",
        "DELETE FROM source",
        "DROP TABLE source",
        "CREATE TABLE a (b INT)",
        "UPDATE source SET city = 'a'",
        "EXPLAIN SELECT * FROM source",
        "VALUES (1)",
        "SELECT * FROM (VALUES (1))",
        "SELECT $1 AS x FROM source",
        "SELECT @x AS x FROM source",
        "SELECT email INTO other FROM source",
        "SELECT * RENAME (email AS mail) FROM source",
        "FROM source |> WHERE paid",
        "SELECT * FROM generate_series(1, 2)",
    ] {
        unsupported(sql);
    }
    syntax("", "-", "empty");
    syntax("-- nothing", "-", "empty");
    syntax("SELECT email FROM source; SELECT city FROM source", "1:27", "several statements");
    syntax("SELEC email FROM source", "1:1", "Expected: an SQL statement, found: SELEC");
    syntax("SELECT email\nFROM source\nWHERE )", "3:7", "Expected: an expression, found: )");
    syntax("SELECT 'open FROM source", "1:8", "Unterminated string");
    assert!(Transform::new("SELECT email FROM source;", schema()).is_ok(), "one statement may end in ;");
}

#[test]
fn too_deep_or_too_long_is_an_error_and_not_a_crash() {
    let chain = |terms: usize| format!("SELECT {} AS x FROM source", vec!["quantity"; terms].join(" + "));
    refused(&chain(300), ErrorKind::Unsupported, "1:8", "more than 200 operators deep", "nested SELECT");
    refused(&chain(20_000), ErrorKind::Unsupported, "1:8", "more than 200 operators deep", "nested SELECT");
    assert_eq!(refusal(&chain(100_000)).0, ErrorKind::Unsupported);
    let brackets = format!("SELECT {}1{} AS x FROM source", "(".repeat(5_000), ")".repeat(5_000));
    refused(&brackets, ErrorKind::Syntax, "-", "nested too deeply", "brackets");
    let nots = format!("SELECT {} paid AS x FROM source", "NOT ".repeat(5_000));
    assert!(matches!(refusal(&nots).0, ErrorKind::Syntax | ErrorKind::Unsupported));

    // The deepest that is let through is planned, and evaluated on a thread of ordinary size.
    let cte = |at: usize| format!("c{at} AS (SELECT email FROM c{} WHERE email <> '{at}')", at - 1);
    let ctes = (1..400).map(cte).collect::<Vec<_>>().join(", ");
    for sql in [
        chain(199),
        format!("SELECT quantity IN ({}) AS x FROM source", vec!["customerid"; 3_000].join(", ")),
        format!("WITH c0 AS (SELECT * FROM source), {ctes} SELECT * FROM c399"),
        format!("SELECT coalesce({}) AS x FROM source", vec!["quantity"; 1_000].join(", ")),
        format!("SELECT * FROM source WHERE {}", vec!["quantity <> 7"; 198].join(" AND ")),
        format!("SELECT {} AS x FROM source", vec!["email"; 199].join(" || ")),
    ] {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(2 << 20);
            let run = || crate::common::run_all(&transform(&sql), &sample()).map(|it| it.0.num_rows());
            let rows = thread.spawn_scoped(scope, run).expect("a thread").join().expect("no panic");
            assert!(rows.is_ok(), "{sql}: {rows:?}");
        });
    }
}

#[test]
fn a_failing_row_is_named_with_its_values() {
    let transform = transform("SELECT email, quantity AS q, CAST(email AS BIGINT) AS n, 6 / quantity AS d FROM source");
    let fails = |outputs: &[&str]| {
        let error = crate::common::run(&transform, outputs, &sample()).expect_err("a row fails");
        assert!(error.help().is_some());
        error
    };
    assert_eq!(
        fails(&["email", "d"]),
        TransformError::Row {
            row: 1,
            output: Some("d".to_owned()),
            expression: "6 / quantity".to_owned(),
            reason: "division by zero".to_owned(),
            inputs: vec![("quantity".to_owned(), "0".to_owned())],
        }
    );
    assert_eq!(
        fails(&["n"]).to_string(),
        "`CAST(email AS Int64)` fails at row 0: Cannot cast string 'ann@x.org' to value of Int64 type \
         (email = 'ann@x.org')"
    );
}

#[test]
fn a_failing_row_keeps_its_number_behind_filters() {
    let sql = "SELECT 100 / (k - 4) AS x FROM (SELECT CustomerID AS k FROM source WHERE CustomerID > 1) WHERE k > 2";
    let error = crate::common::run_all(&transform(sql), &sample()).expect_err("row 3 divides by zero");
    let TransformError::Row { row, inputs, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((*row, inputs.as_slice()), (3, [("CustomerID".to_owned(), "4".to_owned())].as_slice()));
    let error = crate::common::run_all(&transform("SELECT email FROM source WHERE 1 / quantity > 0"), &sample());
    assert!(matches!(error, Err(TransformError::Row { row: 1, output: None, .. })), "{error:?}");
}

#[test]
fn integers_that_overflow_are_errors() {
    for (sql, row) in [
        ("SELECT 9223372036854775804 + CustomerID AS x FROM source", 3),
        ("SELECT -9223372036854775806 - CustomerID AS x FROM source", 2),
        ("SELECT 4611686018427387904 * CustomerID AS x FROM source", 1),
        ("SELECT -(CustomerID - 9223372036854775807 - 2) AS x FROM source", 0),
        ("SELECT CAST(CustomerID * 100 AS TINYINT) AS x FROM source", 1),
    ] {
        let error = crate::common::run_all(&transform(sql), &sample());
        assert!(matches!(&error, Err(TransformError::Row { row: found, .. }) if *found == row), "{sql}: {error:?}");
    }
}

#[test]
fn a_batch_that_does_not_fit_is_refused() {
    let projected = transform("SELECT email, city FROM source").project(&["email", "city"]).expect("fine");
    for columns in [["email", "day"], ["city", "email"]] {
        let names = columns.map(str::to_owned);
        let error = projected.apply(&pick(&sample(), &names)).expect_err("other columns");
        assert!(matches!(&error, TransformError::Batch(_)), "{error}");
    }
    assert!(matches!(projected.apply(&sample()), Err(TransformError::Batch(_))));
    let error = transform("SELECT email FROM source").project(&["emial"]).expect_err("no such output");
    assert_eq!(error.to_string(), "the transform has no column `emial`");
    assert_eq!(error.help(), Some("did you mean `email`?"));
}

/// Symptom: every row of a batch had the first row's format, so bytes depended on how files were cut. Cause: the library takes
/// it for a constant where the value is one. Mend: only constants are accepted.
#[test]
fn g3_a_format_that_is_no_constant_is_refused() {
    for call in ["to_char('2024-02-29', email)", "date_format(day, city)"] {
        let (sql, name) = (format!("SELECT {call} AS x FROM source"), call.split('(').next().unwrap_or_default());
        let message = format!("the format of `{name}` is not a constant");
        refused(&sql, ErrorKind::NotRowWise, "1:8", &message, "CASE");
    }
}

#[test]
fn elements_of_lists_are_refused_in_words() {
    let tags = Field::new("tags", DataType::new_list(DataType::Utf8, true), true);
    let error = Transform::new("SELECT tags[1] AS tag FROM source", Arc::new(Schema::new(vec![tags])));
    let error = error.expect_err("lists only pass through");
    assert_eq!(error.kind(), Some(ErrorKind::Unsupported));
    assert!(error.to_string().ends_with("an element of a list is not supported in a transform"), "{error}");
    assert!(error.help().is_some_and(|help| help.contains("customer['email']")), "{error:?}");
}
