//! Replay: what waits in quarantine is ingested once more, by a pipeline that lets it pass or with what was mended, exactly
//! once, with the next IDs; what still fails stays the record that it was.

use std::path::Path;

use seriatim_ingest::{Project, RunReport, quarantine, replay, who};
use seriatim_pipeline::model::{Check, Limit, OnNullKey, Pipeline, Severity};

use crate::cells::{Cell, Kind};
use crate::checks::{check, with_checks, write_numbers};
use crate::crash::{Death, crash_options, live_on, shop, write_parts};
use crate::files::{Column, Layout, write};
use crate::harness::{Failed, Place, audit, options, quarantined, run, run_project};
use crate::outputs::{assert_same_tree, read_table, tree};
use crate::rng::{Rng, scaled, seed};
use crate::store::Shared;

fn things(place: &Place) -> Vec<(i128, String)> {
    let rows = read_table(&place.output().join("things")).rows;
    let pair = |row: &Vec<Cell>| match (&row[0], &row[1]) {
        (Cell::Int(id), Cell::Text(key)) => (*id, key.clone()),
        other => panic!("{other:?}"),
    };
    rows.iter().map(pair).collect()
}

pub(crate) fn replayed(place: &Place, pipeline: &Pipeline, mended: &[&str]) -> Result<Option<RunReport>, Failed> {
    let mended: Vec<String> = mended.iter().map(|&pattern| pattern.to_owned()).collect();
    match replay(&place.project(pipeline), &mended) {
        Ok(None) => Ok(None),
        Ok(Some(project)) => run_project(place, &project, &options(2)).map(Some),
        Err(error) => Err(Failed {
            message: error.message,
            help: error.help.unwrap_or_default(),
            exit_code: error.kind.exit_code(),
        }),
    }
}

/// One run: `a` and `c` are things, four records wait.
fn place_with_quarantine() -> (Place, Pipeline) {
    let place = Place::new();
    write_numbers(
        &place,
        "1.parquet",
        &[(Some("a"), Some(5)), (Some("b"), Some(200)), (None, Some(7)), (Some("x"), Some(-1))],
    );
    write_numbers(&place, "2.parquet", &[(Some("b"), Some(300)), (Some("c"), Some(6))]);
    // As many as do fail: of those that wait, more may fail again.
    let at_most = Some(Limit::Share { per_million: 500_000 });
    let strict = with_checks(vec![Check { at_most, ..check("small", "n BETWEEN 0 AND 99", Severity::Quarantine) }]);
    let report = run(&place, &strict, &options(2)).expect("the run is done");
    assert_eq!((report.quarantined, things(&place)), (4, vec![(1, "a".to_owned()), (2, "c".to_owned())]));
    (place, strict)
}

#[test]
fn g2_g4_g7_what_a_later_pipeline_lets_pass_gets_the_next_ids() {
    let (place, strict) = place_with_quarantine();
    let waits = quarantine(&place.project(&strict)).expect("it can be looked at");
    let reasons: Vec<(u64, &str)> = waits.reasons.iter().map(|r| (r.records, r.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [(3, "check 'small' fails: n BETWEEN 0 AND 99"), (1, "the key of table 'things' (key) is null"),]
    );

    // As strict as before: nothing passes, and all of it waits again, as the records that they were.
    let report = replayed(&place, &strict, &[]).expect("the run is done").expect("something waits");
    assert_eq!((report.replay, report.records, report.quarantined), (true, 4, 4));
    assert_eq!(quarantine(&place.project(&strict)).expect("it can be looked at").records, 4);

    let loose = with_checks(vec![check("not-negative", "n >= 0", Severity::Quarantine)]);
    let report = replayed(&place, &loose, &[]).expect("the run is done").expect("something waits");
    assert_eq!((report.records, report.quarantined, report.tables[1].rows), (4, 2, 2));
    assert_eq!(things(&place), [(1, "a".to_owned()), (2, "c".to_owned()), (3, "b".to_owned())]);
    let waits = quarantine(&place.project(&loose)).expect("it can be looked at");
    assert_eq!(waits.records, 2);
    let all = quarantined(&place, &["n".to_owned()]);
    let last: Vec<(String, u64, String)> =
        all.iter().rev().take(2).map(|q| (q.file.clone(), q.row, q.why.clone())).collect();
    assert_eq!(
        last,
        [
            ("data/1.parquet".to_owned(), 3, "check not-negative".to_owned()),
            ("data/1.parquet".to_owned(), 2, "things".to_owned()),
        ]
    );
    audit(&place, &loose, 2).expect("the audit passes");

    // A thing that came out of quarantine is told with its place in the source.
    let found = who(&place.project(&loose), "things", 3).expect("it is there");
    assert_eq!((found.source_file.as_deref(), found.source_row, found.run), (Some("data/1.parquet"), Some(1), 3));
    assert_eq!(found.source_values.len(), 2, "{:?}", found.source_values);
    assert_eq!(found.remark.as_deref(), Some("run 2 set the record aside, and run 3 took it out of quarantine"));

    // The pipeline goes on, also with what its source has now.
    write_numbers(&place, "3.parquet", &[(Some("b"), Some(1)), (Some("d"), Some(2))]);
    run(&place, &loose, &options(2)).expect("the run is done");
    assert_eq!(things(&place).last(), Some(&(4, "d".to_owned())));
    let mut no_keys = loose.clone();
    no_keys.tables[0].on_null_key = OnNullKey::Null;
    no_keys.checks.clear();
    replayed(&place, &no_keys, &[]).expect("the run is done").expect("something waits");
    assert_eq!(things(&place).last(), Some(&(5, "x".to_owned())));
    assert!(replayed(&place, &no_keys, &[]).expect("no error").is_none(), "nothing waits any more");
    audit(&place, &no_keys, 2).expect("the audit passes");
}

/// Writes mended records: `_file`, `_row`, key and number.
fn write_mended(folder: &Path, records: &[(&str, u64, &str, i64)]) {
    let columns = [
        Column::new("_file", Kind::Text),
        Column::new("_row", Kind::U64),
        Column::new("key", Kind::Text),
        Column::new("n", Kind::I64),
    ];
    let text = |text: &str| Cell::Text(text.to_owned());
    let record = |&(file, row, key, n): &(&str, u64, &str, i64)| {
        vec![text(file), Cell::Int(i128::from(row)), text(key), Cell::Int(i128::from(n))]
    };
    let records: Vec<_> = records.iter().map(record).collect();
    write(&folder.join("mended/m.parquet"), &columns, &records, &Layout::default());
}

#[test]
fn g2_g7_mended_records_take_the_places_of_those_that_wait() {
    let (place, strict) = place_with_quarantine();
    write_mended(place.path(), &[("data/2.parquet", 0, "b", 30), ("data/1.parquet", 2, "e", 7)]);
    let report = replayed(&place, &strict, &["mended/*.parquet"]).expect("the run is done").expect("something waits");
    assert_eq!((report.records, report.quarantined), (4, 2));
    // In the order of the source: e's record comes before b's.
    let expected = [(1, "a"), (2, "c"), (3, "e"), (4, "b")].map(|(id, key)| (id, key.to_owned()));
    assert_eq!(things(&place), expected);
    audit(&place, &strict, 2).expect("the audit passes");
    let refused = |mended: &[(&str, u64, &str, i64)], said: &str| {
        write_mended(place.path(), mended);
        let failed = replayed(&place, &strict, &["mended/*.parquet"]).expect_err(said);
        assert!(failed.message.contains(said), "{failed:?}");
    };
    let kept = || tree(&place.output().join("_seriatim/replay"));
    let before = kept();
    refused(&[("data/1.parquet", 2, "e", 7)], "no record of data/1.parquet, row 2 waits in quarantine");
    assert_same_tree(&before, &kept(), &"a replay that is refused leaves nothing");
    refused(&[("data/1.parquet", 1, "b", 1), ("data/1.parquet", 1, "b", 2)], "row 1 is mended twice");
    let columns = [Column::new("key", Kind::Text)];
    write(&place.path().join("mended/m.parquet"), &columns, &[vec![Cell::Null]], &Layout::default());
    let failed = replayed(&place, &strict, &["mended/*.parquet"]).expect_err("it has no place");
    assert!(failed.message.contains("mended/m.parquet has no column '_file'"), "{failed:?}");
    assert_eq!(things(&place), expected);
}

#[test]
fn g2_g7_what_waits_in_object_storage_is_replayed_from_there() {
    let place = Shared::new().machine();
    write_numbers(&place, "1.parquet", &[(Some("a"), Some(5)), (Some("b"), Some(200)), (None, Some(7))]);
    let strict = with_checks(vec![check("small", "n < 100", Severity::Quarantine)]);
    assert_eq!(run(&place, &strict, &options(2)).expect("the run is done").quarantined, 2);
    write_mended(place.path(), &[("data/1.parquet", 2, "c", 7)]);
    let report = replayed(&place, &strict, &["mended/m.parquet"]).expect("the run is done").expect("something waits");
    assert_eq!((report.records, report.quarantined), (2, 1));
    let loose = with_checks(Vec::new());
    let report = replayed(&place, &loose, &[]).expect("the run is done").expect("something waits");
    assert_eq!((report.records, report.quarantined, report.tables[0].total_rows), (1, 0, 3));
    assert!(replayed(&place, &loose, &[]).expect("no error").is_none(), "nothing waits any more");
    audit(&place, &loose, 2).expect("the audit passes");
    let found = who(&place.project(&loose), "things", 2).expect("it is there");
    assert_eq!((found.source_file.as_deref(), found.source_row), (Some("data/1.parquet"), Some(2)));
}

#[test]
fn g2_two_replays_of_the_same_records_are_one() {
    let (place, _) = place_with_quarantine();
    let loose = with_checks(Vec::new());
    let project = |place: &Place| replay(&place.project(&loose), &[]).expect("no error").expect("something waits");
    let (first, second) = (project(&place), project(&place));
    run_project(&place, &first, &options(2)).expect("the run is done");
    let before = tree(&place.output());
    let again = run_project(&place, &second, &options(2)).expect("there is nothing left to do");
    assert_eq!(again.number, None);
    assert_same_tree(&before, &tree(&place.output()), &"the second replay");
    // One with something mended has another file, and meets the same records.
    let (place, strict) = place_with_quarantine();
    let plain = project(&place);
    write_mended(place.path(), &[("data/1.parquet", 1, "b", 2)]);
    let mended =
        replay(&place.project(&strict), &["mended/m.parquet".to_owned()]).expect("no error").expect("some wait");
    run_project(&place, &mended, &options(2)).expect("the run is done");
    let failed = run_project(&place, &plain, &options(2)).expect_err("they were replayed");
    assert!(failed.message.contains("run 2 has replayed these records in the meantime"), "{failed:?}");
}

/// Two runs of the shop, in which some records are set aside.
fn shop_with_quarantine(seed: u64) -> Place {
    let place = Place::new();
    for parts in [0..3, 3..5] {
        write_parts(place.path(), seed, parts);
        run(&place, &shop(), &crash_options()).expect("the run is done");
    }
    place
}

/// The shop without one of its checks, over what waits; over its source if nothing does.
fn shop_again(place: &Place) -> Project {
    let mut shop = shop();
    shop.checks.remove(0);
    let project = place.project(&shop);
    replay(&project, &[]).expect("no error").unwrap_or(project)
}

#[test]
fn g5_a_replay_that_dies_at_any_durable_step_ends_with_the_same_bytes() {
    let seed = seed("g5_a_replay_that_dies_at_any_durable_step_ends_with_the_same_bytes");
    let options = crash_options();
    let place = shop_with_quarantine(seed);
    let (ended, steps) = live_on(&place, &shop_again(&place), &options, Death::Never);
    let report = ended.expect("it never dies").expect("the run is done");
    assert!(report.replay && report.tables[2].rows > 0 && report.quarantined > 0, "{report:?}");
    audit(&place, &shop(), 2).expect("the audit passes");
    let expected = tree(&place.output());
    let mut deaths: Vec<Death> =
        (1..=steps).flat_map(|step| [false, true].map(|committed| Death::At { step, committed })).collect();
    println!("{steps} durable steps in a replay");
    Rng::new(seed).shuffle(&mut deaths);
    deaths.truncate(scaled(16) as usize);
    for death in deaths {
        let place = shop_with_quarantine(seed);
        let waiting = || quarantine(&place.project(&shop())).expect("it can be looked at").files;
        let before = waiting();
        if live_on(&place, &shop_again(&place), &options, death).0.is_none() {
            // As the program does it: what was interrupted comes first, and a replay that had not begun is begun.
            let ended = |project: &Project| {
                let (ended, _) = live_on(&place, project, &options, Death::Never);
                ended.expect("it never dies").unwrap_or_else(|e| panic!("died at {death:?}: {e:?}"));
            };
            ended(&place.project(&shop()));
            if waiting() == before {
                ended(&shop_again(&place));
            }
        }
        assert_same_tree(&expected, &tree(&place.output()), &format!("died at {death:?}"));
    }
}
