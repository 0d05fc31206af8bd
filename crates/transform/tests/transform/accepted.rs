//! What a data engineer may write, and what comes out. Each case is one feature of the SQL, on the
//! five sample records; the expected values are worked out by hand.

use crate::common::{column, outputs, run, run_all, sample, schema, texts, transform};
use arrow::datatypes::{DataType, TimeUnit};

fn check(expression: &str, expected: [&str; 5]) {
    assert_eq!(column(&format!("SELECT {expression} AS x FROM source")), expected, "{expression}");
}

#[test]
fn expressions_give_the_values_of_sql() {
    check("quantity + 1", ["4", "1", "NULL", "-1", "6"]);
    check("-quantity", ["-3", "0", "NULL", "2", "-5"]);
    check("CustomerID % 2 = 0", ["false", "true", "false", "true", "false"]);
    check(
        "CASE WHEN quantity > 0 THEN 'some' WHEN quantity = 0 THEN 'none' END",
        ["some", "none", "NULL", "NULL", "some"],
    );
    check("CASE city WHEN 'Ulm' THEN 1 ELSE 2 END", ["1", "2", "2", "2", "2"]);
    check(
        "CAST(CustomerID AS VARCHAR) || '-' || email",
        ["1-ann@x.org", "2-BOB@x.org", "3-cy@y.org", "4-dee@y.org", "5-12"],
    );
    check("TRY_CAST(email AS BIGINT)", ["NULL", "NULL", "NULL", "NULL", "12"]);
    check("price::BIGINT", ["1", "2", "3", "4", "0"]);
    check("email LIKE '%@x.org'", ["true", "true", "false", "false", "false"]);
    check("email ILIKE 'b%'", ["false", "true", "false", "false", "false"]);
    check("email ~ '^[a-z]+@'", ["true", "false", "true", "true", "false"]);
    check("regexp_replace(email, '@.*', '')", ["ann", "BOB", "cy", "dee", "12"]);
    check("quantity BETWEEN 0 AND 3", ["true", "true", "NULL", "false", "false"]);
    check("quantity IN (3, 5)", ["true", "false", "NULL", "false", "true"]);
    check("quantity NOT IN (CustomerID, 3)", ["false", "true", "NULL", "true", "false"]);
    check("city IS NULL", ["false", "false", "true", "false", "false"]);
    check("quantity IS DISTINCT FROM 3", ["false", "true", "true", "true", "true"]);
    check("coalesce(city, 'nowhere')", ["Ulm", "Bonn", "nowhere", "Köln", ""]);
    check("nullif(city, '')", ["Ulm", "Bonn", "NULL", "Köln", "NULL"]);
    check("greatest(CustomerID, quantity)", ["3", "2", "3", "4", "5"]);
}

#[test]
fn the_function_library_is_there() {
    check("upper(city)", ["ULM", "BONN", "NULL", "KÖLN", ""]);
    check("UPPER(CITY)", ["ULM", "BONN", "NULL", "KÖLN", ""]);
    check("character_length(city)", ["3", "4", "NULL", "4", "0"]);
    check("substr(email, 1, 2)", ["an", "BO", "cy", "de", "12"]);
    check("SUBSTRING(email FROM 2 FOR 2)", ["nn", "OB", "y@", "ee", "2"]);
    check("split_part(email, '@', 1)", ["ann", "BOB", "cy", "dee", "12"]);
    check("POSITION('@' IN email)", ["4", "4", "3", "4", "0"]);
    check("TRIM(BOTH '1' FROM email)", ["ann@x.org", "BOB@x.org", "cy@y.org", "dee@y.org", "2"]);
    check("round(price)", ["2.0", "2.0", "3.0", "4.0", "-1.0"]);
    check("abs(price)", ["1.5", "2.0", "3.25", "4.0", "0.5"]);
    check("EXTRACT(YEAR FROM day)", ["2024"; 5]);
    check("date_trunc('month', at)", ["2024-10-01T00:00:00"; 5]);
    check("day + INTERVAL '1 month'", ["2024-11-04"; 5]);
    check("at - INTERVAL '1' HOUR", ["2024-10-03T23:00:00"; 5]);
    check("to_char(day, '%d.%m.%Y')", ["04.10.2024"; 5]);
    check("encode(sha256(city), 'hex') IS NULL", ["false", "false", "true", "false", "false"]);
    check("md5('a')", ["0cc175b9c0f1b6a831c399e269772661"; 5]);
    check("encode(city, 'hex')", ["556c6d", "426f6e6e", "NULL", "4bc3b66c6e", ""]);
    check("DATE '2024-10-04' = day", ["true"; 5]);
}

#[test]
fn rows_are_filtered_in_order_and_the_mask_says_which() {
    let transform = transform("SELECT email, quantity FROM source WHERE quantity <> 0");
    assert!(transform.filters_rows());
    let (batch, mask) = run_all(&transform, &sample()).expect("fine");
    assert_eq!(texts(&batch, 1), ["3", "-2", "5"]);
    let kept: Vec<bool> = mask.expect("rows are dropped").iter().flatten().collect();
    assert_eq!(kept, [true, false, false, true, true], "a null condition drops the row");
}

#[test]
fn a_filter_that_keeps_all_gives_no_mask() {
    let transform = transform("SELECT email FROM source WHERE CustomerID > 0");
    assert!(transform.filters_rows());
    let (batch, mask) = run_all(&transform, &sample()).expect("fine");
    assert_eq!((batch.num_rows(), mask), (5, None));
}

#[test]
fn a_filter_that_is_always_true_is_none() {
    assert!(!transform("SELECT * FROM source WHERE 1 = 1").filters_rows());
}

#[test]
fn all_rows_can_be_dropped() {
    let transform = transform("SELECT email, 1 / quantity AS q FROM source WHERE price > 100");
    let (batch, mask) = run_all(&transform, &sample()).expect("nothing is evaluated");
    assert_eq!(batch.num_rows(), 0);
    assert_eq!(mask.expect("a mask").true_count(), 0);
}

#[test]
fn wildcards_can_leave_out_and_replace() {
    let all = transform("SELECT * FROM source");
    assert_eq!(all.schema(), schema());
    let some = transform("SELECT * EXCEPT (EMAIL, price) FROM source");
    assert_eq!(outputs(&some), ["CustomerID", "city", "quantity", "amount", "paid", "day", "at"]);
    let some = transform("SELECT s.* EXCLUDE (email), s.email AS mail FROM source AS s");
    assert_eq!(outputs(&some).last().map(String::as_str), Some("mail"));
    let replaced = transform("SELECT * REPLACE (upper(email) AS Email) FROM source");
    assert_eq!(outputs(&replaced), outputs(&all));
    assert_eq!(texts(&run_all(&replaced, &sample()).expect("fine").0, 1)[0], "ANN@X.ORG");
    assert_eq!(replaced.pass_through("email"), None);
    assert_eq!(outputs(&transform("FROM source")), outputs(&all));
}

#[test]
fn nested_selects_and_with_are_chains() {
    let nested = "WITH big AS (SELECT CustomerID AS id, quantity * 2 AS twice FROM source WHERE quantity > 0), \
                  bigger (id, n) AS (SELECT id, twice FROM big) \
                  SELECT b.n + 1 AS m, b.id FROM (SELECT * FROM bigger WHERE n > 6) AS b";
    let transform = transform(nested);
    let (batch, mask) = run_all(&transform, &sample()).expect("fine");
    assert_eq!((texts(&batch, 0), texts(&batch, 1)), (vec!["11".to_owned()], vec!["5".to_owned()]));
    let kept: Vec<bool> = mask.expect("rows are dropped").iter().flatten().collect();
    assert_eq!(kept, [false, false, false, false, true]);
    assert_eq!(transform.pass_through("id"), Some("CustomerID"));
    assert_eq!(transform.source_columns(&["id"]), ["CustomerID", "quantity"]);
}

#[test]
fn what_the_sql_names_is_told_from_what_it_takes_along() {
    for (sql, named) in [
        ("SELECT * FROM source", &[][..]),
        ("SELECT customerid FROM source", &["CustomerID"]),
        ("SELECT * EXCEPT (email) FROM source", &["email"]),
        ("SELECT * REPLACE (upper(email) AS email) FROM source WHERE paid", &["email", "paid"]),
        ("SELECT s.city AS town, 'price' AS text FROM source AS s", &["city"]),
        ("WITH some AS (SELECT email, day FROM source) SELECT * EXCEPT (day) FROM some", &["email", "day"]),
    ] {
        assert_eq!(transform(sql).named_columns(), named, "{sql}");
    }
}

#[test]
fn names_ignore_case_unless_quoted() {
    assert_eq!(column("SELECT customerid FROM Source"), ["1", "2", "3", "4", "5"]);
    assert_eq!(outputs(&transform("SELECT customerid, S.EMAIL FROM source s")), ["CustomerID", "email"]);
    assert_eq!(outputs(&transform("SELECT customerid AS MyId, \"email\" \"E Mail\" FROM source")), ["MyId", "E Mail"]);
    // An alias of an inner SELECT that differs only in case is found too.
    assert_eq!(outputs(&transform("SELECT myid FROM (SELECT CustomerID AS MyId FROM source)")), ["MyId"]);
}

#[test]
fn a_column_without_an_alias_is_called_as_it_is_written() {
    assert_eq!(outputs(&transform("SELECT upper(city), quantity + 1 FROM source")), ["upper(city)", "quantity + 1"]);
    assert_eq!(column("SELECT \"upper(city)\" FROM (SELECT upper(city) FROM source)")[0], "ULM");
}

#[test]
fn a_where_protects_its_select_and_an_inner_one_the_outer() {
    assert_eq!(column("SELECT 6 / quantity AS x FROM source WHERE quantity <> 0"), ["2", "-3", "1"]);
    assert_eq!(
        column("SELECT 6 / quantity AS x FROM (SELECT * FROM source WHERE quantity <> 0) WHERE 6 / quantity > 0"),
        ["2", "1"]
    );
    assert_eq!(column("SELECT CustomerID FROM source WHERE quantity <> 0 AND 6 / quantity > 0"), ["1", "5"]);
    check("quantity = 0 OR 6 / quantity > 0", ["true", "true", "NULL", "false", "true"]);
    check("CASE WHEN quantity <> 0 THEN 6 / quantity ELSE 0 END", ["2", "0", "0", "-3", "1"]);
    check("coalesce(nullif(quantity, 0), 1)", ["3", "1", "1", "-2", "5"]);
    check("nvl(quantity, 10 / CustomerID)", ["3", "0", "3", "-2", "5"]);
    check("paid IN (paid, 6 / quantity > 0) IS NULL AND false", ["false"; 5]);
}

#[test]
fn columns_are_needed_only_where_they_are_used() {
    let transform = transform("SELECT email AS mail, city, quantity * price AS total FROM source WHERE paid");
    assert_eq!(transform.source_columns(&["mail"]), ["email", "paid"]);
    assert_eq!(transform.source_columns(&["total", "mail"]), ["email", "quantity", "price", "paid"]);
    assert_eq!(transform.source_columns(&["nothing"]), ["paid"]);
    assert_eq!(transform.pass_through("mail"), Some("email"));
    assert_eq!(transform.pass_through("total"), None);
    assert_eq!(transform.pass_through("email"), None);
    let (batch, _) = run(&transform, &["total", "mail"], &sample()).expect("fine");
    assert_eq!(batch.schema().field(0).name(), "total");
    assert_eq!(texts(&batch, 1), ["BOB@x.org", "dee@y.org"]);
}

#[test]
fn an_error_in_a_column_that_nobody_asks_for_does_not_matter() {
    let transform = transform("SELECT email, 1 / quantity AS q FROM source");
    assert!(run(&transform, &["email"], &sample()).is_ok());
    assert!(run(&transform, &["q"], &sample()).is_err());
}

#[test]
fn constants_need_no_columns() {
    let transform = transform("SELECT 'shop' AS origin, CAST(NULL AS BIGINT) AS nothing FROM source");
    assert!(transform.source_columns(&["origin"]).is_empty());
    let (batch, _) = run_all(&transform, &sample()).expect("fine");
    assert_eq!(texts(&batch, 0), ["shop"; 5]);
    assert_eq!(texts(&batch, 1), ["NULL"; 5]);
    assert_eq!(run(&transform, &[], &sample()).expect("fine").0.num_rows(), 5);
}

#[test]
fn result_types_are_plain_and_nullable_as_inferred() {
    let sql = "SELECT CustomerID AS a, substr(email, 1, 1) AS b, CAST(city AS VARCHAR) AS c, \
               amount * 2 AS d, to_timestamp(email) AS e, CAST(at AS TIMESTAMP WITH TIME ZONE) AS f, \
               CustomerID + 1 AS g, md5(email) AS h, arrow_cast(city, 'Dictionary(Int32, Utf8)') AS i, \
               arrow_cast(city, 'Utf8View') AS j FROM source";
    let transform = transform(sql);
    let schema = transform.schema();
    let types: Vec<&DataType> = schema.fields().iter().map(|it| it.data_type()).collect();
    assert_eq!(types[0], &DataType::Int64);
    for text in [1, 2, 7, 8, 9] {
        assert_eq!(types[text], &DataType::Utf8, "{}", schema.field(text));
    }
    assert!(matches!(types[3], DataType::Decimal128(..)));
    assert_eq!(types[4], &DataType::Timestamp(TimeUnit::Nanosecond, None));
    assert_eq!(types[5], &DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())));
    assert!(!schema.field(0).is_nullable() && !schema.field(6).is_nullable());
    assert!(schema.field(1).is_nullable());
    let (batch, _) = run(&transform, &["b", "i", "j", "h", "f"], &sample()).expect("fine");
    assert_eq!(texts(&batch, 2), ["Ulm", "Bonn", "NULL", "Köln", ""]);
}
