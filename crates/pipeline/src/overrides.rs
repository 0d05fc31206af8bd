//! Settings from the command line (`--set output.path=elsewhere`) that take the place of those in the file. They are
//! put into the tree before it is decoded, so they obey the same rules and their mistakes get the same messages. This
//! module must never make a table that the file does not have.

use crate::error::{Draft, PipelineErrors, Problems, Span, listed, quoted};
use crate::nearest::nearest;
use crate::raw::{RawId, RawIds, RawLookup, RawOutput, RawPipeline, RawSource, RawTable};
use crate::secrets::masked;
use crate::yaml::{self, Entry, Kind, Node, Piece, Scalar};

/// Settings that take the place of those in the file, in the order in which they apply: of two for one setting, the
/// later wins.
///
/// A path is made of the keys that lead to the setting, with dots between them: `source.files`,
/// `tables.customers.id.start`. A value that begins with `[`, `{` or a quote is read as YAML; any other is taken
/// letter for letter, so that `*.parquet` needs no quotes, and is a text or a number as the setting wants it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides(Vec<(String, String)>);

impl Overrides {
    /// No overrides.
    pub fn none() -> Self {
        Self::default()
    }

    /// Overrides as they stand on the command line, each `path=value`. One without `=` is an error.
    pub fn from_args<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Result<Self, PipelineErrors> {
        let split = |arg: S| match arg.as_ref().split_once('=') {
            Some((path, value)) => Ok((path.to_owned(), value.to_owned())),
            None => Err(PipelineErrors::whole(
                &format!("--set {}", masked(arg.as_ref())),
                "the value is missing",
                "write `--set path=value`, for example `--set output.path=elsewhere`",
            )),
        };
        args.into_iter().map(split).collect::<Result<_, _>>().map(Self)
    }

    /// Puts the settings into the tree of the file.
    pub(crate) fn apply(&self, root: &mut Node, problems: &mut Problems) {
        for (path, value) in &self.0 {
            let source = problems.add_override(path, &format!("{path}={value}"));
            let Some(value) = read_value(value, Piece { source, offset: path.len() + 1 }, problems) else {
                continue;
            };
            if let Err(draft) = set(root, &segments(path, source), value) {
                problems.push(*draft);
            }
        }
    }
}

impl FromIterator<(String, String)> for Overrides {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// A key on a path, and its place in the override.
type Segment<'a> = (&'a str, Span);

fn segments(path: &str, source: usize) -> Vec<Segment<'_>> {
    let mut start = 0;
    let place = |key: &str| {
        let span = Span { source, start, end: start + key.len() };
        start = span.end + 1;
        span
    };
    let mut place = place;
    path.split('.').map(|key| (key, place(key))).collect()
}

fn read_value(value: &str, piece: Piece, problems: &mut Problems) -> Option<Node> {
    let trimmed = value.trim();
    if trimmed.starts_with(['[', '{', '"', '\'']) {
        return yaml::read(value, piece, problems);
    }
    let start = piece.offset + (value.len() - value.trim_start().len());
    let span = Span { source: piece.source, start, end: start + trimmed.len() };
    Some(Node { span, kind: Kind::Scalar(Scalar { text: trimmed.to_owned(), plain: true, loose: true }) })
}

/// Where in the file a path has come to: it decides which keys may follow.
#[derive(Clone, Copy)]
enum Level {
    Pipeline,
    Source,
    Lookups,
    Lookup,
    Tables,
    Table,
    Id,
    Output,
    Ids,
    Value,
}

impl Level {
    /// The keys of this level; none for tables and look-ups, whose keys are names.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Pipeline => RawPipeline::KEYS,
            Self::Source => RawSource::KEYS,
            Self::Lookup => RawLookup::KEYS,
            Self::Table => RawTable::KEYS,
            Self::Id => RawId::KEYS,
            Self::Output => RawOutput::KEYS,
            Self::Ids => RawIds::KEYS,
            Self::Lookups | Self::Tables | Self::Value => &[],
        }
    }

    fn below(self, key: &str) -> Self {
        match (self, key) {
            (Self::Pipeline, "source") => Self::Source,
            (Self::Pipeline, "lookups") => Self::Lookups,
            (Self::Lookups, _) => Self::Lookup,
            (Self::Pipeline, "tables") => Self::Tables,
            (Self::Pipeline, "output") => Self::Output,
            (Self::Pipeline, "ids") => Self::Ids,
            (Self::Tables, _) => Self::Table,
            (Self::Table, "id") => Self::Id,
            _ => Self::Value,
        }
    }
}

fn set(root: &mut Node, path: &[Segment<'_>], value: Node) -> Result<(), Box<Draft>> {
    let mut node = root;
    let mut level = Level::Pipeline;
    for (key, span) in path {
        check_key(level, key, *span, node)?;
        make_map(node, level, *span);
        // Where the file has something else than a map, decoding complains about it, and the override is lost with it.
        let Kind::Map(entries) = &mut node.kind else {
            return Ok(());
        };
        let at = entries.iter().position(|entry| entry.key == *key).unwrap_or_else(|| {
            let nothing =
                Node { span: *span, kind: Kind::Scalar(Scalar { text: String::new(), plain: true, loose: true }) };
            entries.push(Entry { key: (*key).to_owned(), key_span: *span, value: nothing });
            entries.len() - 1
        });
        node = &mut entries[at].value;
        level = level.below(key);
    }
    *node = value;
    Ok(())
}

/// Makes a map of what may become one: of nothing, and of an ID's short form.
fn make_map(node: &mut Node, level: Level, span: Span) {
    let Kind::Scalar(scalar) = &node.kind else {
        return;
    };
    let entries = if scalar.is_null() {
        Vec::new()
    } else if matches!(level, Level::Id) {
        let column = Entry { key: "column".to_owned(), key_span: node.span, value: node.clone() };
        vec![column]
    } else {
        return;
    };
    *node = Node { span, kind: Kind::Map(entries) };
}

/// Whether a key may stand at this level.
fn check_key(level: Level, key: &str, span: Span, node: &Node) -> Result<(), Box<Draft>> {
    let (message, names): (_, Vec<&str>) = match level {
        Level::Value => {
            let draft =
                Draft::new(span, format!("there is no setting {} here: the one before it has no parts", quoted(key)));
            return Err(Box::new(draft.help("end the path before it")));
        }
        Level::Tables | Level::Lookups => {
            let names = match &node.kind {
                Kind::Map(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
                Kind::Scalar(_) | Kind::List(_) => Vec::new(),
            };
            let what = if matches!(level, Level::Tables) { "table" } else { "look-up" };
            (format!("the pipeline has no {what} {}", quoted(key)), names)
        }
        _ => (format!("there is no setting {}", quoted(key)), level.keys().to_vec()),
    };
    if names.contains(&key) {
        return Ok(());
    }
    let help = match nearest(key, names.iter().copied()) {
        Some(near) => format!("did you mean {}?", quoted(near)),
        None if names.is_empty() => "write the table into the pipeline file first".to_owned(),
        None => format!("it is one of {}", listed(names)),
    };
    Err(Box::new(Draft::new(span, message).label("unknown").help(help)))
}
