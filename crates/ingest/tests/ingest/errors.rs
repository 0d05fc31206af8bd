//! What goes wrong around a run: each mistake is one error that names the file and the remedy, and leaves the output
//! byte for byte as it was.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};

use seriatim_ingest::{RunStatus, check, plan, verify};
use seriatim_pipeline::model::{OnConflict, OnNullKey, Pipeline};

use crate::cells::{Cell, Kind};
use crate::files::{Column, Layout, write};
use crate::harness::{Failed, Place, audit, keyed, options, pipeline, run};
use crate::oracle::Record;
use crate::outputs::{assert_same_tree, read_table, tree};

/// A place whose `data` holds `name` with these keys.
fn put(place: &Place, name: &str, keys: &[&str]) {
    let columns = [Column::new("key", Kind::Text), Column::new("n", Kind::I64)];
    let record = |(n, key): (usize, &&str)| vec![Cell::Text((*key).to_owned()), Cell::Int(n as i128)];
    let records: Vec<Record> = keys.iter().enumerate().map(record).collect();
    write(&place.path().join("data").join(name), &columns, &records, &Layout::default());
}

fn things() -> Pipeline {
    pipeline(vec![keyed("things", &["key"], &[], &["n"])])
}

/// A place where one run has published two things.
fn published() -> Place {
    let place = Place::new();
    put(&place, "a.parquet", &["x", "y"]);
    run(&place, &things(), &options(2)).expect("the first run is done");
    place
}

/// A run that must fail, saying all of `words` in its message or its advice, and leave the output as it is. Then
/// `mend` removes the cause, and the run goes through and the audit passes.
fn fails(place: &Place, pipeline: &Pipeline, words: &[&str], mend: impl FnOnce() -> Pipeline) -> Failed {
    let before = tree(&place.output());
    let failed = run(place, pipeline, &options(2)).expect_err("the run must fail");
    let said = format!("{}\n{}", failed.message, failed.help);
    for word in words {
        assert!(said.contains(word), "the error names {word}: {failed:?}");
    }
    assert!(!failed.help.is_empty(), "the error says what to do: {failed:?}");
    assert_same_tree(&before, &tree(&place.output()), &"a failed run leaves the output as it was");
    let mended = mend();
    run(place, &mended, &options(2)).expect("the mended run is done");
    audit(place, &mended, 2).expect("the audit passes");
    failed
}

#[test]
fn a_missing_file_is_named() {
    let place = published();
    let mut pipeline = things();
    pipeline.source.files = vec!["data/a.parquet".to_owned(), "data/nowhere.parquet".to_owned()];
    let failed = fails(&place, &pipeline, &["nowhere.parquet", "source.files"], || {
        put(&place, "nowhere.parquet", &["z"]);
        pipeline.clone()
    });
    assert_eq!(failed.exit_code, 1);
}

#[test]
fn a_glob_without_any_match_is_named() {
    let place = Place::new();
    let failed = fails(&place, &things(), &["data/*.parquet", "source.files"], || {
        put(&place, "a.parquet", &["x"]);
        things()
    });
    assert_eq!(failed.exit_code, 1);
}

#[test]
fn a_file_that_is_not_parquet_is_named() {
    let place = published();
    let bad = place.path().join("data/b.parquet");
    for content in ["", "a", "PAR1", "PAR1PAR1", "key,n\nx,1\n", "PAR1 some text of some length PAR1"] {
        fs::write(&bad, content).expect("the file can be written");
        fails(&place, &things(), &["b.parquet"], || {
            fs::remove_file(&bad).expect("the file can be removed");
            things()
        });
    }
}

#[test]
fn a_truncated_file_is_named_wherever_it_was_cut() {
    let place = published();
    let bad = place.path().join("data/b.parquet");
    put(&place, "b.parquet", &["new"; 500]);
    let whole = fs::read(&bad).expect("the file is there");
    for length in [1, 3, 4, 100, whole.len() / 2, whole.len() - 9, whole.len() - 4, whole.len() - 1] {
        fs::write(&bad, &whole[..length]).expect("the file can be written");
        fails(&place, &things(), &["b.parquet"], || {
            fs::remove_file(&bad).expect("the file can be removed");
            things()
        });
    }
}

#[test]
fn a_file_whose_pages_are_damaged_is_named_and_nothing_is_published() {
    let place = published();
    let bad = place.path().join("data/b.parquet");
    put(&place, "b.parquet", &["new"; 500]);
    let mut file = OpenOptions::new().read(true).write(true).open(&bad).expect("the file is there");
    // The first page header begins behind the magic; a run of ones is no Thrift.
    file.seek(SeekFrom::Start(4)).expect("the file is longer");
    let mut page = [0; 40];
    file.read_exact(&mut page).expect("the file is longer");
    file.seek(SeekFrom::Start(4)).expect("the file is longer");
    file.write_all(&[0xff; 40]).expect("the file can be written");
    drop(file);
    fails(&place, &things(), &["b.parquet"], || {
        put(&place, "b.parquet", &["new"; 500]);
        things()
    });
}

#[test]
fn files_of_zero_rows_are_fine() {
    let place = Place::new();
    put(&place, "a.parquet", &[]);
    put(&place, "b.parquet", &["x"]);
    put(&place, "c.parquet", &[]);
    let report = run(&place, &things(), &options(2)).expect("the run is done");
    assert_eq!((report.status, report.files, report.records), (RunStatus::Done, 3, 1));
    audit(&place, &things(), 2).expect("the audit passes");
}

#[test]
fn a_source_of_nothing_but_zero_rows_is_ingested_once() {
    let place = Place::new();
    put(&place, "a.parquet", &[]);
    let report = run(&place, &things(), &options(2)).expect("the run is done");
    assert_eq!((report.files, report.records, report.tables[0].rows), (1, 0, 0));
    let again = run(&place, &things(), &options(2)).expect("the run is done");
    assert_eq!((again.status, again.files_known), (RunStatus::NothingToDo, 1));
    put(&place, "b.parquet", &["x"]);
    run(&place, &things(), &options(2)).expect("the run is done");
    assert_eq!(read_table(&place.output().join("things")).rows.len(), 1);
    audit(&place, &things(), 2).expect("the audit passes");
}

#[test]
fn a_column_that_is_not_there_is_named_with_the_nearest() {
    let place = Place::new();
    put(&place, "a.parquet", &["x"]);
    let wrong = pipeline(vec![keyed("things", &["kye"], &[], &["n"])]);
    let error = check(&place.project(&wrong)).expect_err("check finds it");
    assert_eq!((error.kind.exit_code(), error.message.contains("kye")), (2, true));
    let error = plan(&place.project(&wrong), &options(1)).expect_err("plan finds it too");
    assert_eq!((error.kind.exit_code(), error.message.contains("kye")), (2, true));
    let failed = fails(&place, &wrong, &["things", "kye", "'key'"], things);
    assert_eq!(failed.exit_code, 2, "the pipeline is wrong");
}

#[test]
fn a_column_of_two_types_is_named_with_both_files() {
    let place = published();
    let columns = [Column::new("key", Kind::Text), Column::new("n", Kind::F64)];
    let records = [vec![Cell::Text("z".to_owned()), Cell::F64(1.5_f64.to_bits())]];
    let other = [vec![Cell::Text("z".to_owned()), Cell::Int(7)]];
    put(&place, "b.parquet", &["b"]);
    write(&place.path().join("data/c.parquet"), &columns, &records, &Layout::default());
    let failed = fails(&place, &things(), &["'n'", "b.parquet", "c.parquet"], || {
        let columns = [Column::new("key", Kind::Text), Column::new("n", Kind::I64)];
        write(&place.path().join("data/c.parquet"), &columns, &other, &Layout::default());
        things()
    });
    assert_eq!(failed.exit_code, 1);
}

#[test]
fn a_file_of_other_types_than_those_published_is_refused() {
    let place = published();
    let columns = [Column::new("key", Kind::I64), Column::new("n", Kind::I64)];
    let bad = place.path().join("data/b.parquet");
    write(&bad, &columns, &[vec![Cell::Int(1), Cell::Int(2)]], &Layout::default());
    fails(&place, &things(), &["things", "key"], || {
        put(&place, "b.parquet", &["z"]);
        things()
    });
}

#[test]
fn a_file_without_a_column_that_the_others_have_is_named() {
    let place = published();
    put(&place, "b.parquet", &["b"]);
    let columns = [Column::new("key", Kind::Text)];
    write(&place.path().join("data/c.parquet"), &columns, &[vec![Cell::Text("z".to_owned())]], &Layout::default());
    fails(&place, &things(), &["'n'", "c.parquet"], || {
        put(&place, "c.parquet", &["z"]);
        things()
    });
}

#[test]
fn an_output_folder_with_foreign_files_is_left_alone() {
    for foreign in ["out/notes.txt", "out/things/other.parquet"] {
        let place = Place::new();
        put(&place, "a.parquet", &["x"]);
        let path = place.path().join(foreign);
        fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder can be made");
        fs::write(&path, "somebody else's").expect("the file can be written");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        fails(&place, &things(), &[&name], || {
            fs::remove_dir_all(place.output()).expect("the folder can be removed");
            things()
        });
    }
}

#[test]
fn an_ingested_file_that_has_changed_is_named() {
    let place = published();
    let kept = fs::read(place.path().join("data/a.parquet")).expect("the file is there");
    put(&place, "a.parquet", &["x", "y", "changed"]);
    put(&place, "b.parquet", &["z"]);
    fails(&place, &things(), &["a.parquet"], || {
        fs::write(place.path().join("data/a.parquet"), kept).expect("the file can be written");
        things()
    });
    let rows = read_table(&place.output().join("things")).rows;
    assert_eq!(rows.len(), 3, "the mended run ingested b.parquet only");
}

#[test]
fn an_ingested_file_that_is_only_touched_has_not_changed() {
    let place = published();
    let path = place.path().join("data/a.parquet");
    let content = fs::read(&path).expect("the file is there");
    fs::remove_file(&path).expect("the file can be removed");
    fs::write(&path, content).expect("the file can be written");
    let report = run(&place, &things(), &options(2)).expect("the run is done");
    assert_eq!(report.status, RunStatus::NothingToDo);
}

#[test]
fn an_ingested_file_that_is_deleted_stays_ingested() {
    let place = published();
    fs::remove_file(place.path().join("data/a.parquet")).expect("the file can be removed");
    put(&place, "b.parquet", &["y", "z"]);
    let report = run(&place, &things(), &options(2)).expect("the run is done");
    assert_eq!((report.tables[0].rows, report.tables[0].known_keys, report.tables[0].total_rows), (1, 1, 3));
    audit(&place, &things(), 2).expect("the audit passes");
}

#[test]
fn another_layout_than_the_published_one_is_refused() {
    let mut renamed = things();
    renamed.tables[0].id.as_mut().expect("an ID").column = "number".to_owned();
    let mut restarted = things();
    restarted.tables[0].id.as_mut().expect("an ID").start = 5;
    let fewer = pipeline(vec![keyed("things", &["key"], &[], &[])]);
    let other_key = pipeline(vec![keyed("things", &["n"], &[], &["key"])]);
    let more = pipeline(vec![keyed("things", &["key"], &[], &["n"]), keyed("numbers", &["n"], &[], &[])]);
    for changed in [renamed, restarted, fewer, other_key] {
        let place = published();
        put(&place, "b.parquet", &["z"]);
        fails(&place, &changed, &["things"], things);
    }
    let place = published();
    put(&place, "b.parquet", &["z"]);
    fails(&place, &more, &["numbers"], things);
}

#[test]
fn conflicting_attributes_are_named_with_key_and_both_records() {
    let mut strict = things();
    strict.tables[0].on_conflict = OnConflict::Error;
    let place = Place::new();
    put(&place, "a.parquet", &["p", "q"]);
    put(&place, "b.parquet", &["other", "same", "q"]);
    fails(&place, &strict, &["things", "q", "a.parquet", "b.parquet"], || {
        put(&place, "b.parquet", &["p", "q"]);
        strict.clone()
    });
    // The second run knows the published attributes only.
    put(&place, "c.parquet", &["q"]);
    fails(&place, &strict, &["things", "q", "c.parquet"], || {
        put(&place, "c.parquet", &["p", "q"]);
        strict.clone()
    });
}

/// Symptom: after `on_conflict` became `error`, every known key that came again was called a conflict, and after some
/// runs of each kind keys were compared with each other's attributes. Cause: the key map kept no attributes while
/// conflicts were no errors, and had no place for "unknown". Now such a key takes the attributes that come next.
#[test]
fn g4_conflicts_may_become_errors_between_runs_and_cease_to_be() {
    let place = Place::new();
    let lax = things();
    let mut strict = things();
    strict.tables[0].on_conflict = OnConflict::Error;
    // Enough runs for the key map to be merged in between.
    for round in 0..10_usize {
        let keys: Vec<String> = (0..=round).map(|n| format!("key-{n}")).collect();
        put(&place, &format!("f-{round:02}.parquet"), &keys.iter().map(String::as_str).collect::<Vec<_>>());
        let now = if round % 3 == 0 { &lax } else { &strict };
        run(&place, now, &options(2)).expect("records that agree are no conflict");
    }
    assert_eq!(read_table(&place.output().join("things")).rows.len(), 10);
    audit(&place, &strict, 2).expect("the audit passes");
    // What the first of two strict records says counts for the second.
    put(&place, "g.parquet", &["key-1", "key-1"]);
    fails(&place, &strict, &["things", "key-1", "g.parquet"], || {
        put(&place, "g.parquet", &["key-0", "key-1"]);
        strict.clone()
    });
}

#[test]
fn a_null_key_that_must_not_be_is_named_with_its_record() {
    let mut strict = things();
    strict.tables[0].on_null_key = OnNullKey::Error;
    let place = Place::new();
    let columns = [Column::new("key", Kind::Text), Column::new("n", Kind::I64)];
    let records = [vec![Cell::Text("x".to_owned()), Cell::Int(1)], vec![Cell::Null, Cell::Int(2)]];
    write(&place.path().join("data/a.parquet"), &columns, &records, &Layout::default());
    fails(&place, &strict, &["things", "key", "a.parquet"], || {
        put(&place, "a.parquet", &["x"]);
        strict.clone()
    });
}

#[test]
fn a_transform_that_divides_by_zero_fails_and_leaves_nothing() {
    let place = published();
    let mut dividing = things();
    dividing.transform = Some("SELECT key, 10 / n AS n FROM source".to_owned());
    put(&place, "b.parquet", &["z"]);
    fails(&place, &dividing, &["b.parquet"], things);
}

#[test]
fn an_audit_finds_what_somebody_did_to_the_output() {
    type Harm = fn(&std::path::Path);
    let harms: [(&str, Harm); 4] = [
        ("a file is gone", |path| fs::remove_file(path).expect("the file can be removed")),
        ("a file is cut", |path| {
            let content = fs::read(path).expect("the file is there");
            fs::write(path, &content[..content.len() - 20]).expect("the file can be written");
        }),
        ("a file is there twice", |path| {
            fs::copy(path, path.with_file_name("zz.parquet")).expect("the file can be copied");
        }),
        ("rows are missing", |path| {
            let columns =
                [Column::new("things_id", Kind::I64), Column::new("key", Kind::Text), Column::new("n", Kind::I64)];
            let row = vec![Cell::Int(1), Cell::Text("x".to_owned()), Cell::Int(0)];
            write(path, &columns, &[row], &Layout::default());
        }),
    ];
    for (what, harm) in harms {
        let place = published();
        let names: Vec<String> = tree(&place.output()).into_keys().collect();
        let file = names.iter().find(|n| n.starts_with("things/") && n.ends_with(".parquet")).expect("a file");
        harm(&place.output().join(file));
        // An audit may find it, or find that it cannot even read it; it never passes.
        if let Ok(report) = verify(&place.project(&things()), 2) {
            assert!(!report.ok, "{what}: {report:#?}");
        }
    }
}
