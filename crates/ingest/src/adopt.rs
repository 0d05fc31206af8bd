//! Taking over a table that exists: its keys and their IDs become the first segment of the table's key map, so that every
//! record with such a key refers to the ID that is there, and makes no row. Done while the first run holds its sequences,
//! and kept with what that run publishes. Must never change an ID, nor let one key have two.

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};
use seriatim_pipeline::model::{Adopt, Id};

use crate::context::{RunContext, SegmentKind};
use crate::engine::Step;
use crate::error::{IngestError, Result};
use crate::existing::{Existing, Place, Wanted, numbers};
use crate::files::make_folder;
use crate::keymap::{Entries, Sorting, UNKNOWN, write_segment};
use crate::keys::{Interner, KeyCodec, RowKeys, shard_of};
use crate::layout::TableLayout;
use crate::number::ordinal_of;
use crate::process::{Doable, Steps};
use crate::progress::Step as Stage;
use crate::project::Project;
use crate::sequence::{AdoptedKeys, SequenceState};
use crate::settled::{Adopted, adopt_columns, look_folder};
use crate::shared::{Shared, bring_kept, keep_segment};
use crate::steps::step;

/// Keys that are in memory at once, about: of more, the files are read several times.
const KEYS_AT_ONCE: u64 = 1 << 22;

step!(
    /// Makes a segment of the key map of the keys of a table that exists.
    AdoptKeys, "adopt", AdoptedKeys, { run: String, table: u32 });

impl Doable for AdoptKeys {
    fn run(self, steps: &Steps) -> Result<AdoptedKeys> {
        let run = steps.run(&self.run)?;
        steps.progress.enter(Stage::Resolve, 1);
        let adopted = run.plan.adopted.iter().find(|adopted| adopted.table == self.table);
        adopt(&run, adopted.ok_or_else(|| IngestError::internal("a table is taken over that the plan does not have"))?)
    }
}

/// A sequence as it is once a table was taken over, before the run has committed.
pub(crate) fn after_adoption(state: &mut SequenceState, adopted: &AdoptedKeys) {
    state.next = adopted.first;
    state.others = adopted.first;
    state.segments = vec![adopted.segment.clone()];
    state.adopted = Some(adopted.keys);
}

/// Writes the segment; asked again, it writes the same.
pub(crate) fn adopt(run: &RunContext, adopted: &Adopted) -> Result<AdoptedKeys> {
    let (pipeline, layout) = (&run.plan.pipeline, run.table(adopted.table));
    let missing = || IngestError::internal("a table is taken over that has no key, or no IDs");
    let settings = pipeline.tables[adopted.table as usize].adopt.as_ref().ok_or_else(missing)?;
    let (codec, id) = layout.codec.as_ref().zip(layout.id.as_ref()).ok_or_else(missing)?;
    let setting = format!("tables.{}.adopt", layout.name);
    let columns = adopt_columns(settings);
    let wanted = Wanted { setting: &setting, files: &settings.files, columns: &columns };
    let project = Project::new(pipeline.clone(), run.plan.folder.clone());
    let existing = Existing::again(&project, &wanted, &adopted.files, look_folder())?;
    let (folder, segment) = (run.keymap_folder(adopted.table), run.segment_name(0, false));
    make_folder(&folder)?;
    let count = existing.rows();
    let mut reader = Reader {
        existing: &existing,
        layout,
        codec,
        id,
        settings,
        first: adopted.first,
        pass: None,
        places: Vec::new(),
    };
    let mut sorting = Sorting::new(codec.is_fixed(), count, |batch, batches| reader.batch(count, batch, batches));
    let keys = write_segment(&folder.join(&segment), layout, &mut sorting)?;
    reader.check_places()?;
    if let Some(shared) = run.shared() {
        keep_segment(run, shared, SegmentKind::Keys, adopted.table, &segment)?;
    }
    Ok(AdoptedKeys { segment, keys, first: adopted.first })
}

/// Sees to it that the segment of a table that this run takes over is in the state folder, where workers have folders of
/// their own: from the work location, or made again.
pub(crate) fn bring_adopted(run: &RunContext, shared: &Shared, table: u32) -> Result<()> {
    let Some(adopted) = run.plan.adopted.iter().find(|adopted| adopted.table == table) else { return Ok(()) };
    match bring_kept(run, shared, SegmentKind::Keys, table, &run.segment_name(0, false)) {
        Ok(()) => Ok(()),
        Err(_) => adopt(run, adopted).map(|_| ()),
    }
}

/// Reads the keys of a table that exists, by their hashes.
struct Reader<'a> {
    existing: &'a Existing,
    layout: &'a TableLayout,
    codec: &'a KeyCodec,
    id: &'a Id,
    settings: &'a Adopt,
    /// The place of the first new ID.
    first: u64,
    /// Which share of all keys is in memory, batch by batch.
    pass: Option<(u32, Vec<Entries>)>,
    /// The places of all IDs so far.
    places: Vec<u64>,
}

impl Reader<'_> {
    /// The keys of a batch of so many, of `count` keys in all.
    fn batch(&mut self, count: u64, batch: u32, batches: u32) -> Result<Entries> {
        let passes = count.div_ceil(KEYS_AT_ONCE).max(1).next_power_of_two().min(batches.into()) as u32;
        let size = batches / passes;
        let pass = batch / size;
        if self.pass.as_ref().is_none_or(|(current, _)| *current != pass) {
            self.pass = Some((pass, self.read(pass, passes, batches)?));
        }
        let none = || Entries::new(self.codec.is_fixed(), 0);
        let entries = self.pass.as_mut().and_then(|(_, all)| all.get_mut((batch % size) as usize));
        let entries = entries.map_or_else(none, |entries| std::mem::replace(entries, none()));
        self.check_keys(&entries)?;
        self.places.extend_from_slice(&entries.places);
        Ok(entries)
    }

    fn read(&self, pass: u32, passes: u32, batches: u32) -> Result<Vec<Entries>> {
        let size = batches / passes;
        let mut all: Vec<Entries> = (0..size).map(|_| Entries::new(self.codec.is_fixed(), 0)).collect();
        self.each(|keys, ids, place| {
            for row in 0..ids.len() {
                let key = keys.get(row).ok_or_else(|| self.is_null(&self.settings.key.join(", "), place, row))?;
                if ids.is_null(row) {
                    return Err(self.is_null(&self.settings.id, place, row));
                }
                let value = ids.value(row);
                let ordinal = ordinal_of(self.id, value).ok_or_else(|| self.not_of_the_sequence(value, place, row))?;
                if ordinal >= self.first {
                    return Err(self.is_undeclared(value, place, row));
                }
                let hash = key.hash();
                if shard_of(hash, passes) == pass {
                    all[(shard_of(hash, batches) % size) as usize].push(key, ordinal, UNKNOWN);
                }
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Calls `visit` with the keys and the IDs of each part of the files.
    fn each(&self, mut visit: impl FnMut(&RowKeys, &Int64Array, &Place<'_>) -> Result<()>) -> Result<()> {
        let names: Vec<String> = self.settings.key.iter().chain([&self.settings.id]).cloned().collect();
        self.existing.each(&names, |columns, place| {
            let (columns, id) = columns.split_at(columns.len() - 1);
            let fields = self.layout.schema.fields().iter().skip(self.layout.id_width());
            let pairs = columns.iter().zip(fields).zip(&self.settings.key);
            let columns = pairs.map(|((column, field), name)| self.as_key(column, field.data_type(), name, place));
            let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
            visit(&self.codec.encode(&columns), &numbers(&id[0], &self.settings.id, place)?, place)
        })
    }

    /// A key column of the existing table with the type that it has in the pipeline.
    fn as_key(&self, column: &ArrayRef, wanted: &DataType, name: &str, place: &Place<'_>) -> Result<ArrayRef> {
        let found = column.data_type();
        if found == wanted {
            return Ok(column.clone());
        }
        let is_text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let like = (found.is_integer() && wanted.is_integer()) || (is_text(found) && is_text(wanted));
        let cast = if like { cast_with_options(column, wanted, &options).ok() } else { None };
        cast.ok_or_else(|| {
            IngestError::input(format!(
                "table '{}': the key column '{name}' is a {found} in {}, and a {wanted} in the pipeline",
                self.layout.name, place.file
            ))
            .help("cast the pipeline's column in `transform`, or write the existing table again with the other type")
        })
    }

    fn is_null(&self, column: &str, place: &Place<'_>, row: usize) -> IngestError {
        let place = place.row(row);
        IngestError::input(format!("table '{}': '{column}' is null in the existing table: {place}", self.layout.name))
            .help("every row of a table that is adopted needs its key and its ID: mend the row, or leave it out")
    }

    fn not_of_the_sequence(&self, value: i64, place: &Place<'_>, row: usize) -> IngestError {
        IngestError::input(format!(
            "table '{}': the existing ID {value} is none of the sequence from {} in steps of {}: {}",
            self.layout.name,
            self.id.start,
            self.id.step,
            place.row(row)
        ))
        .help("give `id` a `step` that the existing IDs follow, such as 1")
    }

    fn is_undeclared(&self, value: i64, place: &Place<'_>, row: usize) -> IngestError {
        IngestError::input(format!(
            "table '{}': the existing ID {value} is beyond what its file's footer says: {}",
            self.layout.name,
            place.row(row)
        ))
        .help("the file is damaged, or its writer is wrong: write it again")
    }

    /// No key may be there twice.
    fn check_keys(&self, entries: &Entries) -> Result<()> {
        let mut seen = Interner::new(self.codec.is_fixed());
        let mut first: Vec<usize> = Vec::with_capacity(entries.places.len());
        for at in 0..entries.places.len() {
            let key = entries.keys.get(at);
            let (number, new) = seen.intern(key);
            if new {
                first.push(at);
                continue;
            }
            let ids = [first[number as usize], at].map(|at| crate::number::id_of(self.id, entries.places[at]));
            let [first, second] = ids.map(|id| id.map_or_else(String::new, |id| id.to_string()));
            let key = self.codec.display(key);
            return Err(IngestError::input(format!(
                "table '{}': the existing table has the key {key} twice, with the IDs {first} and {second}",
                self.layout.name
            ))
            .help("a key can have one ID only: mend the existing table, or leave one of the rows out"));
        }
        Ok(())
    }

    /// No ID may be that of two keys.
    fn check_places(&mut self) -> Result<()> {
        self.places.sort_unstable();
        let Some(place) = self.places.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]) else {
            return Ok(());
        };
        let mut keys = Vec::new();
        self.each(|found, ids, _| {
            let same =
                (0..ids.len()).filter(|&row| ids.is_valid(row) && ordinal_of(self.id, ids.value(row)) == Some(place));
            keys.extend(same.filter_map(|row| found.get(row)).map(|key| self.codec.display(key)));
            Ok(())
        })?;
        let id = crate::number::id_of(self.id, place).map_or_else(String::new, |id| id.to_string());
        Err(IngestError::input(format!(
            "table '{}': the existing table has the ID {id} for {}",
            self.layout.name,
            keys.iter().take(2).map(String::as_str).collect::<Vec<_>>().join(" and for ")
        ))
        .help("an ID can be that of one key only: mend the existing table, or leave one of the rows out"))
    }
}
