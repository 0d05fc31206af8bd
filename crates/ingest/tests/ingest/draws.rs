//! What random cases are made of, drawn one part at a time: columns, tables, and what tables may have beside keys and
//! columns. Each draw has dice of its own, so that a further one leaves the others as they are. Must never look at records.

use std::fmt::Write as _;

use seriatim_pipeline::TextFormat;
use seriatim_pipeline::model::{
    Adopt, Check, History, HistoryKind, Id, Limit, OnConflict, OnNullKey, PerGroup, Severity, Table, TextId,
};

use crate::case::{CONDITIONS, Sizes, TRANSFORMS};
use crate::cells::{Cell, Kind};
use crate::files::Column;
use crate::oracle::Record;
use crate::rng::Rng;

/// How the values of a source column are spread.
#[derive(Debug, Clone)]
pub(crate) struct Spread {
    pub(crate) distinct: u64,
    /// As many records in a row have the same value; 1: the values are strewn.
    pub(crate) run_length: u64,
    pub(crate) null_percent: u64,
    /// The value is a function of these columns instead: such an attribute never conflicts.
    pub(crate) derived_from: Vec<usize>,
}

/// Whether the output of a case is Delta Lake.
pub(crate) fn is_delta(sizes: &Sizes) -> bool {
    Rng::at(sizes.seed, &[11]).percent(40)
}

/// What Delta has no form for becomes something else.
pub(crate) fn fit_for_delta(column: &mut Column) {
    column.name = column.name.replace(' ', "_");
    column.kind = match column.kind {
        Kind::U8 => Kind::I8,
        Kind::U16 => Kind::I16,
        Kind::U32 => Kind::I32,
        Kind::U64 | Kind::TimeMs | Kind::TimeUs | Kind::TimeNs => Kind::I64,
        Kind::BigDecimal(..) => Kind::Decimal(38, 10),
        Kind::StampNs => Kind::StampUs,
        kind => kind,
    };
}

pub(crate) fn draw_columns(rng: &mut Rng, kinds: &[Kind], sizes: &Sizes) -> (Vec<Column>, Vec<Spread>) {
    const PREFIXES: [&str; 6] = ["c", "C", "c ", "c-", "ç", "select"];
    let total: usize = sizes.runs.iter().flatten().sum();
    let mut columns = vec![Column::new("tf", Kind::I64), Column::new("txt", Kind::Text)];
    for index in 0..sizes.columns {
        columns.push(Column { name: format!("{}{index}", rng.pick(&PREFIXES)), kind: rng.pick(kinds) });
    }
    if is_delta(sizes) {
        columns.iter_mut().for_each(fit_for_delta);
    }
    let spreads = columns.iter().map(|_| Spread {
        distinct: rng.pick(&[1, 2, 5, 30, 200, (total as u64).max(1), 1 << 40]),
        run_length: rng.pick(&[1, 1, 1, 3, 40]),
        null_percent: rng.pick(&[0, 0, 0, 5, 50, 100]),
        derived_from: Vec::new(),
    });
    let mut spreads: Vec<Spread> = spreads.collect();
    spreads[0].null_percent = spreads[0].null_percent.min(5);
    (columns, spreads)
}

/// Checks, and which of the conditions each of them is. Errors end a case early, so few are strict.
pub(crate) fn draw_checks(rng: &mut Rng) -> (Vec<Check>, Vec<usize>) {
    let count = rng.pick(&[0_usize, 0, 0, 1, 2, 3]);
    let draw = |index: usize| {
        let at = rng.below(CONDITIONS.len() as u64) as usize;
        let severity = rng.pick(&[Severity::Quarantine, Severity::Quarantine, Severity::Quarantine, Severity::Warn]);
        let severity = if rng.percent(5) { Severity::Fail } else { severity };
        let most =
            rng.pick(&[Limit::Records(50), Limit::Share { per_million: 150_000 }, Limit::Share { per_million: 0 }]);
        let at_most = (severity != Severity::Fail && rng.percent(15)).then_some(most);
        (Check { name: format!("c{index}"), condition: CONDITIONS[at].0.to_owned(), severity, at_most }, at)
    };
    (0..count).map(draw).unzip()
}

pub(crate) fn draw_tables(rng: &mut Rng, sizes: &Sizes, columns: &[Column]) -> Vec<Table> {
    let mut names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    if sizes.transform.is_some_and(|t| TRANSFORMS[t].1.is_some()) {
        names.push("computed".to_owned());
    }
    // Errors end a case early, so few cases have a table that fails; and a pipeline has either kind of strictness,
    // since what a record with two lacking keys deserves is then plain.
    let strict = rng.pick(&[OnNullKey::Quarantine, OnNullKey::Quarantine, OnNullKey::Quarantine, OnNullKey::Error]);
    let mut tables: Vec<Table> = Vec::new();
    for index in 0..sizes.tables {
        let mut free = names.clone();
        rng.shuffle(&mut free);
        let keyed = rng.percent(75);
        let key_columns = if keyed { 1 + rng.below(free.len().min(3) as u64) as usize } else { 0 };
        let key = free.split_off(free.len() - key_columns);
        let columns: Vec<String> = free.split_off(rng.below(free.len() as u64 + 1) as usize);
        let id = Id {
            start: rng.pick(&[1, 1, 0, 1000, -5]),
            step: rng.pick(&[1, 1, 1, 10, -1]),
            ..Id::new(format!("id_{index}"))
        };
        let references: Vec<String> =
            tables.iter().filter(|t| t.is_keyed() && rng.percent(50)).map(|t| t.name.clone()).collect();
        // A table without key may go without ID, but not without any column.
        let id =
            if keyed || rng.percent(60) || (columns.is_empty() && references.is_empty()) { Some(id) } else { None };
        tables.push(Table {
            name: format!("t{index}"),
            key,
            id,
            references,
            columns,
            on_conflict: if rng.percent(50) { OnConflict::First } else { OnConflict::Last },
            count_conflicts: false,
            on_null_key: if rng.percent(25) { strict } else { OnNullKey::Null },
            adopt: None,
            partition_by: Vec::new(),
            history: None,
            from: None,
        });
    }
    tables
}

/// Gives some tables text IDs, with values in them that have one form as text.
pub(crate) fn draw_texts(rng: &mut Rng, tables: &mut [Table], columns: &[Column]) {
    let is_plain = |name: &&String| {
        let kind = columns.iter().find(|column| column.name == **name).map(|column| column.kind);
        kind.is_some_and(|kind| matches!(kind, Kind::Bool | Kind::Text) || is_number(kind))
    };
    for table in tables.iter_mut() {
        let known: Vec<String> = table.key.iter().chain(&table.columns).filter(is_plain).cloned().collect();
        let Some(id) = table.id.as_mut().filter(|_| rng.percent(40)) else { continue };
        let number = rng.pick(&["{}", "{:03}", "{:012}"]);
        let mut values: String = String::new();
        for _ in 0..rng.below(3) {
            if !known.is_empty() {
                _ = write!(values, "{{{}}}{}", rng.pick(&known), rng.pick(&["", "/", "-"]));
            }
        }
        let before = rng.percent(50);
        let format = if before { format!("{values}_{number}x") } else { format!("x1{number}:{values}") };
        let column = format!("{}_text", id.column);
        id.text = Some(TextId { column, format });
    }
}

/// Lets some tables exist already: with keys that records may have, and IDs with gaps, in any order.
pub(crate) fn draw_existing(
    rng: &mut Rng,
    tables: &mut [Table],
    columns: &[Column],
    spreads: &[Spread],
    seed: u64,
) -> Vec<(usize, Vec<(i64, Record)>)> {
    let mut existing = Vec::new();
    for (index, table) in tables.iter_mut().enumerate() {
        let at = |name: &String| columns.iter().position(|column| column.name == *name).filter(|at| *at > 0);
        let Some(key) = table.key.iter().map(at).collect::<Option<Vec<usize>>>() else { continue };
        let (Some(id), false, true) = (&mut table.id, key.is_empty(), rng.percent(25)) else { continue };
        if id.group.is_some() || table.history.is_some() {
            continue;
        }
        let mut rows: Vec<(i64, Record)> = Vec::new();
        let (mut drawn, mut next) = (std::collections::HashSet::new(), rng.pick(&[1, 100, -7]));
        for _ in 0..rng.pick(&[0, 1, 10, 200]) {
            let value = |at: &usize| columns[*at].kind.value(seed ^ *at as u64, rng.below(spreads[*at].distinct));
            let cells: Record = key.iter().map(value).collect();
            if !cells.contains(&Cell::Null) && drawn.insert(cells.iter().map(Cell::as_key).collect::<Vec<_>>()) {
                rows.push((next, cells));
                next += id.step * rng.pick(&[1, 1, 2, 9]);
            }
        }
        rng.shuffle(&mut rows);
        table.adopt = Some(Adopt {
            files: vec![format!("existing/{}/*.parquet", table.name)],
            key: (0..key.len()).map(|at| format!("k{at}")).collect(),
            id: "old id".to_owned(),
            start: None,
        });
        id.start = 1;
        existing.push((index, rows));
    }
    existing
}

/// Numbers the rows of some tables within groups.
pub(crate) fn draw_groups(rng: &mut Rng, tables: &mut [Table]) {
    for table in tables.iter_mut() {
        let mut columns: Vec<String> = table.key.iter().chain(&table.columns).cloned().collect();
        let Some(id) = table.id.as_mut().filter(|_| !columns.is_empty() && rng.percent(30)) else { continue };
        rng.shuffle(&mut columns);
        columns.truncate(1 + rng.below(2) as usize);
        id.group = Some(PerGroup { columns, number: format!("{}_in_group", id.column) });
    }
}

/// The column that says since when a record holds, in cases that need one.
pub(crate) const SINCE: &str = "since";

/// Lets known keys of some tables get what later runs say.
pub(crate) fn draw_histories(
    rng: &mut Rng,
    tables: &mut [Table],
    columns: &mut Vec<Column>,
    spreads: &mut Vec<Spread>,
) {
    for table in tables.iter_mut().filter(|table| table.is_keyed()) {
        let id = table.id.as_ref().expect("it has a key");
        let group = id.group.iter().flat_map(|group| group.columns.clone());
        let text = id.text.iter().flat_map(|text| {
            let format = TextFormat::parse(&text.format).expect("a format");
            format.columns().map(str::to_owned).collect::<Vec<_>>()
        });
        let mut fixed = group.chain(text).chain(table.partition_by.clone());
        let is_fit = fixed.all(|name| table.key.contains(&name));
        if !is_fit || table.columns.len() + table.references.len() == 0 || !rng.percent(50) {
            continue;
        }
        let kind = rng.pick(&[HistoryKind::Scd1, HistoryKind::Scd2, HistoryKind::Scd2]);
        let valid_from = (kind == HistoryKind::Scd2).then(|| SINCE.to_owned());
        table.history = Some(History { kind, valid_from });
    }
    if tables.iter().any(|table| table.history.as_ref().is_some_and(|history| history.valid_from.is_some())) {
        columns.push(Column::new(SINCE, Kind::I64));
        spreads.push(Spread { distinct: 1, run_length: 1, null_percent: 0, derived_from: Vec::new() });
    }
}

fn is_number(kind: Kind) -> bool {
    use Kind::{I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(kind, I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

/// Partitions some tables, by columns of few values: each partition is a file.
pub(crate) fn draw_partitions(sizes: &Sizes, tables: &mut [Table], columns: &[Column], spreads: &[Spread]) {
    let mut rng = Rng::at(sizes.seed, &[10]);
    let few = |name: &String| {
        let at = columns.iter().position(|column| &column.name == name);
        let is_few = |at: usize| (at == 0 || spreads[at].distinct <= 30) && spreads[at].derived_from.is_empty();
        at.is_some_and(|at| is_few(at) && matches!(columns[at].kind, Kind::Bool | Kind::I64 | Kind::I16 | Kind::Text))
    };
    for table in tables.iter_mut().filter(|_| sizes.partitions) {
        let mut free: Vec<String> = table.key.iter().chain(&table.columns).filter(|name| few(name)).cloned().collect();
        rng.shuffle(&mut free);
        free.truncate(rng.below(3) as usize);
        let others = table.key.len() + table.columns.len() + table.references.len() > free.len();
        if rng.percent(60) && (table.id.is_some() || others) {
            table.partition_by = free;
        }
    }
}

/// Makes some tables strict about attributes, and lets their attributes follow from their keys, most of the time.
pub(crate) fn settle_conflicts(rng: &mut Rng, tables: &mut [Table], columns: &[Column], spreads: &mut [Spread]) {
    let at = |name: &String| columns.iter().position(|c| &c.name == name);
    let keys: Vec<String> = tables.iter().flat_map(|t| t.key.clone()).collect();
    for table in tables.iter_mut().filter(|t| t.is_keyed()) {
        if !rng.percent(20) {
            continue;
        }
        let Some(from) = table.key.iter().map(at).collect::<Option<Vec<usize>>>() else { continue };
        let last = from.iter().copied().max().expect("a key has columns");
        table.on_conflict = OnConflict::Error;
        table.references.clear();
        // Floats are left out: whether two zeros conflict is nothing that a test should settle.
        table.columns.retain(|name| {
            at(name).is_some_and(|i| i > last && i > 1 && !columns[i].kind.is_float() && !keys.contains(name))
        });
        if rng.percent(85) {
            for column in &table.columns {
                spreads[at(column).expect("kept only if it exists")].derived_from.clone_from(&from);
            }
        }
    }
}
