//! Look-ups. Symptom to be feared: a small table beside the source is changed while a run is under way, and half of the
//! records see the old rows and half the new ones. What is proved: a run sees the rows that it was planned with or fails,
//! and what it gives is the same however it is cut, whoever does it, and whatever it is interrupted by.

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use seriatim_ingest::{Paths, RunnerOptions, check, plan, who};
use seriatim_pipeline::model::{Lookup, OnNullKey, Pipeline};

use crate::cells::{Cell, Kind};
use crate::crash::{Death, crash_options, live_on};
use crate::files::{Column, Layout, write};
use crate::harness::{Failed, Place, audit, keyed, options, pipeline, run};
use crate::outputs::{assert_same_tree, read_table, tree};
use crate::rng::{Rng, scaled, seed};

const JOIN: &str = "SELECT s.*, c.region, coalesce(c.name, 'unknown') AS country_name \
                    FROM source AS s LEFT JOIN countries AS c ON s.country = c.code";

const COUNTRIES: &str = "code,name,region\nDE,Germany,EU\nFR,France,EU\nUS,United States,NA\n";

fn lookup(name: &str, files: &str, key: &[&str]) -> Lookup {
    Lookup {
        name: name.to_owned(),
        files: vec![files.to_owned()],
        key: key.iter().map(|&key| key.to_owned()).collect(),
        columns: std::collections::BTreeMap::default(),
    }
}

/// Regions are things, and so are orders that refer to them.
fn joined(transform: &str) -> Pipeline {
    let regions = keyed("regions", &["region"], &[], &[]);
    let orders = keyed("orders", &["order_no"], &["regions"], &["country_name"]);
    let mut pipeline = pipeline(vec![regions, orders]);
    pipeline.transform = Some(transform.to_owned());
    pipeline.lookups = vec![lookup("countries", "lookups/countries.csv", &["code"])];
    pipeline
}

fn put_orders(place: &Place, name: &str, rows: &[(&str, Option<&str>)]) {
    let columns = [Column::new("order_no", Kind::Text), Column::new("country", Kind::Text)];
    let text = |value: &str| Cell::Text(value.to_owned());
    let record = |(no, country): &(&str, Option<&str>)| vec![text(no), country.map_or(Cell::Null, text)];
    let records: Vec<Vec<Cell>> = rows.iter().map(record).collect();
    write(&place.path().join("data").join(name), &columns, &records, &Layout { row_group: 2, ..Layout::default() });
}

fn put(place: &Place, name: &str, content: &str) {
    let path = place.path().join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders can be made");
    fs::write(path, content).expect("the file can be written");
}

const ORDERS: [(&str, Option<&str>); 5] =
    [("o1", Some("FR")), ("o2", Some("XX")), ("o3", None), ("o4", Some("US")), ("o5", Some("DE"))];

fn shop() -> Place {
    let place = Place::new();
    put_orders(&place, "a.parquet", &ORDERS);
    put(&place, "lookups/countries.csv", COUNTRIES);
    place
}

fn names(place: &Place) -> Vec<String> {
    let read = read_table(&place.output().join("orders"));
    let at = read.header.iter().position(|name| name == "country_name").expect("a column");
    let text = |row: &Vec<Cell>| if let Cell::Text(text) = &row[at] { text.clone() } else { panic!("{row:?}") };
    read.rows.iter().map(text).collect()
}

fn go(place: &Place, pipeline: &Pipeline) -> seriatim_ingest::RunReport {
    let report = run(place, pipeline, &options(2)).unwrap_or_else(|e| panic!("{e:?}"));
    audit(place, pipeline, 2).expect("the audit passes");
    report
}

fn refused(place: &Place, pipeline: &Pipeline) -> Failed {
    let before = tree(&place.output());
    let failed = run(place, pipeline, &options(2)).expect_err("the run must fail");
    assert_same_tree(&before, &tree(&place.output()), &"a failed run publishes nothing");
    failed
}

#[test]
fn a_left_join_keeps_all_records_and_an_inner_one_counts_what_it_drops() {
    let place = shop();
    let pipeline = joined(JOIN);
    let found = check(&place.project(&pipeline)).expect("it fits");
    assert_eq!(found.tables[1].columns.last().map(|(name, ..)| name.as_str()), Some("country_name"));
    let planned = plan(&place.project(&pipeline), &options(2)).expect("it can be planned");
    let files: Vec<_> = planned.lookups.iter().map(|l| (l.lookup.as_str(), l.file.as_str(), l.rows)).collect();
    assert_eq!(files, [("countries", "lookups/countries.csv", 3)]);
    let report = go(&place, &pipeline);
    assert_eq!((report.filtered, report.tables[0].rows, report.tables[0].null_keys), (0, 2, 2));
    assert_eq!(names(&place), ["France", "unknown", "unknown", "United States", "Germany"]);
    let order = who(&place.project(&pipeline), "regions", 2).expect("it is there");
    assert_eq!((order.source_row, order.remark), (Some(3), None));

    // What was changed since counts for new records only.
    put(&place, "lookups/countries.csv", &COUNTRIES.replace("Germany", "Deutschland"));
    put_orders(&place, "b.parquet", &[("o6", Some("DE"))]);
    go(&place, &pipeline);
    assert_eq!(names(&place)[4..], ["Germany", "Deutschland"]);

    let place = shop();
    let report = go(&place, &joined(&JOIN.replace("LEFT JOIN", "JOIN")));
    assert_eq!((report.filtered, report.tables[1].rows), (2, 3));
    assert_eq!(names(&place), ["France", "United States", "Germany"]);
}

/// The same bytes with any number of workers, chunks and row groups; quarantine sees the source's columns only.
#[test]
fn g5_however_it_is_cut_and_whoever_does_it_the_bytes_are_the_same() {
    let mut rng = Rng::at(seed("lookups"), &[1]);
    let countries = ["DE", "FR", "US", "XX", "YY"];
    let numbers: Vec<String> = (0..400).map(|n| format!("o{n}")).collect();
    let rows: Vec<(&str, Option<&str>)> =
        numbers.iter().map(|no| (no.as_str(), Some(rng.pick(&countries)).filter(|_| rng.percent(90)))).collect();
    let mut pipeline = joined(&format!("{JOIN} WHERE c.code IS NOT NULL OR s.country = 'XX'"));
    pipeline.tables[0].on_null_key = OnNullKey::Quarantine;
    let mut first = None;
    for _ in 0..scaled(6) {
        let place = Place::new();
        put_orders(&place, "a.parquet", &rows[..150]);
        put_orders(&place, "b.parquet", &rows[150..]);
        put(&place, "lookups/countries.csv", COUNTRIES);
        let options = RunnerOptions {
            chunk_rows: rng.pick(&[3, 50, 131_072]),
            paths: rng.pick(&[Paths::General, Paths::Pages]),
            ..options(rng.pick(&[1, 2, 5]))
        };
        let report = run(&place, &pipeline, &options).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(report.records, report.filtered + report.quarantined + report.tables[1].rows);
        audit(&place, &pipeline, 2).expect("the audit passes");
        let rows = ["regions", "orders"].map(|table| read_table(&place.output().join(table)).rows);
        let expected = first.get_or_insert_with(|| rows.clone());
        assert_eq!(*expected, rows, "with {options:?}");
    }
}

#[test]
fn forms_of_files_keys_of_several_columns_and_globs() {
    let place = shop();
    put(&place, "lookups/cities/a.ndjson", "{\"country\": \"DE\", \"no\": 1, \"city\": \"Bonn\"}\n");
    put(&place, "lookups/cities/b.ndjson", "{\"country\": \"FR\", \"no\": 1, \"city\": \"Lyon\"}\n");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("name", Arc::new(StringArray::from(vec!["Germany", "France"]))),
        ("people", Arc::new(Int64Array::from(vec![83, 68]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("one length");
    let file = fs::File::create(place.path().join("lookups/people.parquet")).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("it is written");
    writer.close().expect("it is written");
    let mut pipeline = joined(
        "SELECT s.order_no, c.region, concat(cities.city, ' ', people.people) AS country_name FROM source s \
         JOIN countries c ON c.code = s.country \
         JOIN cities ON cities.no = 1 AND cities.country = c.code \
         LEFT JOIN people ON people.name = c.name",
    );
    pipeline.lookups.push(lookup("cities", "lookups/cities/*.ndjson", &["country", "no"]));
    pipeline.lookups.push(lookup("people", "lookups/people.parquet", &["name"]));
    let report = go(&place, &pipeline);
    assert_eq!(report.filtered, 3);
    assert_eq!(names(&place), ["Lyon 68", "Bonn 83"]);
}

#[test]
fn keys_that_are_null_or_twice_and_other_mistakes_are_told_with_their_place() {
    let place = shop();
    let pipeline = joined(JOIN);
    let says = |content: &str, words: &[&str]| {
        put(&place, "lookups/countries.csv", content);
        let failed = refused(&place, &pipeline);
        let said = format!("{}; {}", failed.message, failed.help);
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
    };
    says(
        &format!("{COUNTRIES}FR,Frankreich,EU\n"),
        &["lookups/countries.csv, row 3: the key of look-up 'countries' is there twice: code = FR", "row 1)"],
    );
    says(&format!("{COUNTRIES},Nowhere,EU\n"), &["lookups/countries.csv, row 3", "is null in column 'code'"]);
    says("cod,name,region\nDE,a,b\n", &["look-up 'countries' has no column 'code'", "did you mean 'cod'"]);
    says("code,name\nDE,a\n", &["transform: ", "unknown column `region`"]);
    says("code,name,region\n\"DE\n", &["look-up 'countries': "]);
    fs::remove_file(place.path().join("lookups/countries.csv")).expect("it is there");
    let failed = refused(&place, &pipeline);
    assert!(failed.help.contains("lookups.countries.files"), "{failed:?}");
    put(&place, "lookups/countries.csv", COUNTRIES);
    let failed = refused(&place, &joined("SELECT *, 'a' AS region, 'b' AS country_name FROM source"));
    assert!(failed.message.contains("nothing joins the look-up `countries`"), "{failed:?}");
    let mut large = "code,name,region\n".to_owned();
    for n in 0..1_200_000 {
        let _ = writeln!(large, "K{n},a name that is long enough to fill memory {n},EU");
    }
    put(&place, "lookups/countries.csv", &large);
    let failed = refused(&place, &pipeline);
    assert!(failed.message.contains("more than 64 MiB"), "{failed:?}");
    put(&place, "lookups/countries.csv", COUNTRIES);
    go(&place, &pipeline);
}

fn write_twice(place: &Place, run: usize) {
    let rows: Vec<(String, Option<&str>)> = (0..60)
        .map(|n| (format!("{run}-{n}"), [Some("DE"), Some("FR"), None, Some("ZZ"), Some("US")][n % 5]))
        .collect();
    let rows: Vec<(&str, Option<&str>)> = rows.iter().map(|(no, country)| (no.as_str(), *country)).collect();
    put_orders(place, &format!("{run}.parquet"), &rows);
    put(place, "lookups/countries.csv", &COUNTRIES.replace("Germany", &format!("Germany {run}")));
}

#[test]
fn g5_a_run_with_look_ups_that_dies_at_any_durable_step_ends_with_the_same_bytes() {
    let seed = seed("g5_a_run_with_look_ups_that_dies_at_any_durable_step_ends_with_the_same_bytes");
    let options = RunnerOptions { chunk_rows: 25, ..crash_options() };
    let pipeline = joined(JOIN);
    let undisturbed = Place::new();
    let steps = [0, 1].map(|run| {
        write_twice(&undisturbed, run);
        let (ended, steps) = live_on(&undisturbed, &undisturbed.project(&pipeline), &options, Death::Never);
        ended.expect("it never dies").expect("the run is done");
        steps
    });
    let expected = tree(&undisturbed.output());
    let mut deaths: Vec<(usize, Death)> = Vec::new();
    for (run, steps) in steps.into_iter().enumerate() {
        let at = |step| [false, true].map(|committed| (run, Death::At { step, committed }));
        deaths.extend((1..=steps).flat_map(at));
    }
    Rng::new(seed).shuffle(&mut deaths);
    deaths.truncate(scaled(16) as usize);
    for (in_run, death) in deaths {
        let place = Place::new();
        for run in [0, 1] {
            write_twice(&place, run);
            let deaths = [death].into_iter().filter(|_| run == in_run).chain([Death::Never]);
            for death in deaths {
                if let (Some(ended), _) = live_on(&place, &place.project(&pipeline), &options, death) {
                    ended.unwrap_or_else(|e| panic!("died at {death:?}: {e:?}"));
                }
            }
        }
        assert_same_tree(&expected, &tree(&place.output()), &format!("died in run {in_run} at {death:?}"));
    }
}

#[test]
fn g5_a_run_that_is_taken_up_sees_the_rows_that_it_was_planned_with_or_fails() {
    let pipeline = joined(JOIN);
    let options = RunnerOptions { chunk_rows: 2, ..crash_options() };
    let place = shop();
    let project = place.project(&pipeline);
    assert!(live_on(&place, &project, &options, Death::Before("scan")).0.is_none(), "it dies");
    // As many bytes as before.
    put(&place, "lookups/countries.csv", &COUNTRIES.replace("France", "FRANCE"));
    let failed = refused(&place, &pipeline);
    assert!(failed.message.contains("lookups/countries.csv has changed since the run was planned"), "{failed:?}");
    go(&place, &pipeline);
    assert_eq!(names(&place)[0], "FRANCE");

    // The same content under another time is the same, and files may also be added.
    for (content, others, is_same) in [(COUNTRIES, false, true), (COUNTRIES, true, false)] {
        let place = shop();
        let mut pipeline = pipeline.clone();
        pipeline.lookups[0].files = vec!["lookups/*.csv".to_owned()];
        assert!(live_on(&place, &place.project(&pipeline), &options, Death::Before("scan")).0.is_none(), "it dies");
        put(&place, "lookups/countries.csv", content);
        if others {
            put(&place, "lookups/more.csv", "code,name,region\nXX,More,EU\n");
        }
        let found = run(&place, &pipeline, &options);
        assert_eq!(found.is_ok(), is_same, "{found:?}");
        assert!(is_same || found.is_err_and(|e| e.message.contains("more.csv has changed")), "the file is named");
    }

    // Once all rows are written, nobody needs them.
    let place = shop();
    assert!(live_on(&place, &place.project(&pipeline), &options, Death::Before("publish")).0.is_none(), "it dies");
    fs::remove_file(place.path().join("lookups/countries.csv")).expect("it is there");
    run(&place, &pipeline, &options).expect("the run comes to its end");
    assert_eq!(names(&place)[0], "France");
}
