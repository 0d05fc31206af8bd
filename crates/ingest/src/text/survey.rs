//! Takes up the new text files of a run: finds the types of their columns, and makes the copies. A file that cannot be
//! read is told apart, and has no part in the types: what is set aside must leave no trace.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::PathBuf;

use arrow::datatypes::DataType;
use seriatim_pipeline::model::{Pipeline, Undeclared};

use super::infer::Looks;
use super::rows::{Reader, Row, Wrong};
use super::{Form, Kind, Texts, declared, told};
use crate::error::{IngestError, Result};
use crate::plan::in_parallel;
use crate::project::Project;
use crate::source::{FileFacts, SourceFile, name_in_source, read_footer};

/// What the columns of a file look like, by the names that the pipeline uses.
type Survey = BTreeMap<String, Looks>;

/// A file, or why it cannot be read.
pub(crate) type Taken = Result<FileFacts, IngestError>;

/// Takes up these files; their columns have the types `published`, as far as there are some. Their copies lie in `folder`,
/// which is scratch if nobody needs them when what is given back is gone.
pub(crate) fn take_up(
    project: &Project,
    files: &[SourceFile],
    published: BTreeMap<String, DataType>,
    folder: PathBuf,
    is_scratch: bool,
    workers: usize,
) -> Result<(Texts, Vec<Taken>)> {
    let pipeline = project.pipeline();
    let mut texts = Texts::new(pipeline, project.folder(), folder, is_scratch);
    let mut fixed = published;
    fixed.extend(pipeline.source.columns.iter().map(|(name, kind)| (name.clone(), declared(*kind))));
    let surveys = in_parallel(workers, files, |file| held(texts.survey(file, &fixed)))?;
    let mut sound: Vec<Result<Survey, IngestError>> = surveys;
    loop {
        texts.types = types_of(&fixed, pipeline, sound.iter().filter_map(|survey| survey.as_ref().ok()));
        let numbered: Vec<usize> = (0..files.len()).filter(|&index| sound[index].is_ok()).collect();
        let taken = in_parallel(workers, &numbered, |&index| held(texts.facts(&files[index])))?;
        let is_all = taken.iter().all(Result::is_ok);
        let mut facts = BTreeMap::new();
        for (index, taken) in numbered.into_iter().zip(taken) {
            match taken {
                Ok(found) => drop(facts.insert(index, found)),
                Err(error) => sound[index] = Err(error),
            }
        }
        if !is_all {
            continue;
        }
        let mut all = Vec::with_capacity(files.len());
        for (index, survey) in sound.into_iter().enumerate() {
            all.push(match (facts.remove(&index), survey) {
                (Some(found), _) => Ok(found),
                (None, Err(error)) => Err(error),
                (None, Ok(_)) => return Err(IngestError::internal("a text file was not taken up")),
            });
        }
        return Ok((texts, all));
    }
}

/// An error of a file is that file's; any other one ends it all.
fn held<T>(done: Result<T>) -> Result<Result<T>> {
    match done {
        Err(error) if error.file.is_none() => Err(error),
        done => Ok(done),
    }
}

/// The types of all columns: those that are settled, and of the others those that all files together look like.
fn types_of<'a>(
    fixed: &BTreeMap<String, DataType>,
    pipeline: &Pipeline,
    surveys: impl Iterator<Item = &'a Survey>,
) -> BTreeMap<String, DataType> {
    let mut looks: BTreeMap<&String, Looks> = BTreeMap::new();
    for (name, found) in surveys.flatten() {
        *looks.entry(name).or_default() |= *found;
    }
    let mut types = fixed.clone();
    for (name, looks) in looks {
        types.entry(name.clone()).or_insert_with(|| match pipeline.source.undeclared {
            Undeclared::Infer => looks.data_type(),
            Undeclared::String => DataType::Utf8,
        });
    }
    types
}

impl Texts {
    /// Looks at all values of a file, as far as types are to be found.
    fn survey(&self, file: &SourceFile, fixed: &BTreeMap<String, DataType>) -> Result<Survey> {
        let form = self.form(&file.name).ok_or_else(|| IngestError::internal("a text file is none"))?;
        let mut reader = self.reader(file, form)?;
        let names = reader.names().to_vec();
        let in_source = |name: &String| name_in_source(name, &self.source.rename).to_owned();
        let is_settled = names.iter().all(|name| fixed.contains_key(&in_source(name)));
        let is_known = form.kind == Kind::Csv && (is_settled || !self.source.undeclared.is_inferred());
        let looks = if is_known {
            vec![Looks::default(); names.len()]
        } else {
            self.looks(form, &mut reader).map_err(|wrong| told(file, wrong))?
        };
        let mut survey = Survey::new();
        for (name, looks) in reader.names().iter().zip(looks) {
            *survey.entry(in_source(name)).or_default() |= looks;
        }
        Ok(survey)
    }

    fn looks(&self, form: Form, reader: &mut Reader<Box<dyn BufRead>>) -> Result<Vec<Looks>, Wrong> {
        let (mut looks, mut row) = (vec![Looks::default(); reader.names().len()], Row::default());
        while reader.next(&mut row)? {
            looks.resize(reader.names().len(), Looks::default());
            for (cell, value) in row.values() {
                let is_null = form.kind == Kind::Csv && !cell.is_quoted && value == self.source.csv.null.as_bytes();
                let looks = &mut looks[cell.column];
                if cell.is_text {
                    *looks |= Looks::TEXT;
                } else if !is_null && !looks.is_text() {
                    // What is not UTF-8 is told when it is read.
                    *looks |= std::str::from_utf8(value).map_or(Looks::TEXT, Looks::of);
                }
            }
        }
        looks.resize(reader.names().len(), Looks::default());
        Ok(looks)
    }

    /// Makes the copy of a file, if it is not there, and says what its footer says.
    fn facts(&self, file: &SourceFile) -> Result<FileFacts> {
        let form = self.form(&file.name).ok_or_else(|| IngestError::internal("a text file is none"))?;
        let footer = self.footer(file, form)?;
        let rows = footer.metadata().file_metadata().num_rows().max(0) as u64;
        Ok(FileFacts { file: SourceFile { rows, ..file.clone() }, footer })
    }

    /// What the footer of a file's copy says.
    pub(crate) fn footer(
        &self,
        file: &SourceFile,
        form: Form,
    ) -> Result<parquet::arrow::arrow_reader::ArrowReaderMetadata> {
        let copy = self.open(file, form)?;
        let bytes = copy
            .metadata()
            .map_err(|e| IngestError::io("look at the copy of", std::path::Path::new(&file.name), &e))?
            .len();
        read_footer(&file.name, &copy, bytes)
    }
}
