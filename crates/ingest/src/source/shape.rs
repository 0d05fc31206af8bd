//! The shape of a footer, before any of it is believed: that it is made as `parquet.thrift` says, and how much of
//! everything it declares. Readers of footers make room by what lists declare, and follow nested groups by calling
//! themselves; what is refused here would end the process there. Must never allocate, nor call itself by what it reads.

use crate::pages::{BINARY, BYTE, Compact, DOUBLE, FALSE, I32, I64, LIST, STRUCT, Seen, TRUE};

/// A footer may be this long; that of a table with 10,000 columns and 100 row groups is.
pub(super) const FOOTER_BYTES: u64 = 256 << 20;
/// What writers leave beside the data, in a footer.
const NOTES_BYTES: usize = 16 << 20;
/// Columns and groups of columns.
const ELEMENTS: usize = 100_000;
/// Groups within groups.
const DEPTH: usize = 100;
/// Readers count row groups with 15 bits.
const ROW_GROUPS: usize = 32_767;
/// Columns times row groups.
const COLUMN_CHUNKS: usize = 1_000_000;

/// What the value of a field is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Bool,
    Byte,
    /// A number of any width: all are written alike.
    Number,
    Double,
    Binary,
    Numbers,
    Binaries,
    Struct(Fields),
    Structs(Fields),
    /// A list of these, each of which is looked at.
    Schema,
    Groups,
    Notes,
    /// A number that was looked at, if it is one.
    Counted,
    /// Of encrypted columns.
    Secret,
}

/// The fields of a structure that readers know; of others they go past whatever there is.
type Fields = &'static [(i16, Kind)];

const NONE: Fields = &[];
const FOOTER: Fields = &[
    (1, Kind::Number),
    (2, Kind::Schema),
    (3, Kind::Number),
    (4, Kind::Groups),
    (5, Kind::Notes),
    (6, Kind::Binary),
    (7, Kind::Structs(&[(1, Kind::Struct(NONE)), (2, Kind::Struct(NONE))])),
];
const ELEMENT: Fields = &[
    (1, Kind::Number),
    (2, Kind::Number),
    (3, Kind::Number),
    (4, Kind::Binary),
    (5, Kind::Counted),
    (6, Kind::Number),
    (7, Kind::Number),
    (8, Kind::Number),
    (9, Kind::Number),
    (10, Kind::Struct(LOGICAL)),
];
const UNIT: Fields = &[(1, Kind::Struct(NONE)), (2, Kind::Struct(NONE)), (3, Kind::Struct(NONE))];
const TIME: Fields = &[(1, Kind::Bool), (2, Kind::Struct(UNIT))];
const LOGICAL: Fields = &[
    (1, Kind::Struct(NONE)),
    (2, Kind::Struct(NONE)),
    (3, Kind::Struct(NONE)),
    (4, Kind::Struct(NONE)),
    (5, Kind::Struct(&[(1, Kind::Number), (2, Kind::Number)])),
    (6, Kind::Struct(NONE)),
    (7, Kind::Struct(TIME)),
    (8, Kind::Struct(TIME)),
    (10, Kind::Struct(&[(1, Kind::Byte), (2, Kind::Bool)])),
    (11, Kind::Struct(NONE)),
    (12, Kind::Struct(NONE)),
    (13, Kind::Struct(NONE)),
    (14, Kind::Struct(NONE)),
    (15, Kind::Struct(NONE)),
    (16, Kind::Struct(&[(1, Kind::Byte)])),
    (17, Kind::Struct(&[(1, Kind::Binary)])),
    (18, Kind::Struct(&[(1, Kind::Binary), (2, Kind::Number)])),
];
const NOTE: Fields = &[(1, Kind::Binary), (2, Kind::Binary)];
const GROUP: Fields = &[
    (1, Kind::Structs(CHUNK)),
    (2, Kind::Number),
    (3, Kind::Number),
    (4, Kind::Structs(&[(1, Kind::Number), (2, Kind::Bool), (3, Kind::Bool)])),
    (5, Kind::Number),
    (6, Kind::Number),
    (7, Kind::Number),
];
const CHUNK: Fields = &[
    (1, Kind::Binary),
    (2, Kind::Number),
    (3, Kind::Struct(COLUMN)),
    (4, Kind::Number),
    (5, Kind::Number),
    (6, Kind::Number),
    (7, Kind::Number),
    (8, Kind::Secret),
    (9, Kind::Secret),
];
const COLUMN: Fields = &[
    (1, Kind::Number),
    (2, Kind::Numbers),
    (3, Kind::Binaries),
    (4, Kind::Number),
    (5, Kind::Number),
    (6, Kind::Number),
    (7, Kind::Number),
    (8, Kind::Structs(NOTE)),
    (9, Kind::Number),
    (10, Kind::Number),
    (11, Kind::Number),
    (12, Kind::Struct(STATISTICS)),
    (13, Kind::Structs(&[(1, Kind::Number), (2, Kind::Number), (3, Kind::Number)])),
    (14, Kind::Number),
    (15, Kind::Number),
    (16, Kind::Struct(&[(1, Kind::Number), (2, Kind::Numbers), (3, Kind::Numbers)])),
    (17, Kind::Struct(&[(1, Kind::Struct(BOX)), (2, Kind::Numbers)])),
];
const STATISTICS: Fields = &[
    (1, Kind::Binary),
    (2, Kind::Binary),
    (3, Kind::Number),
    (4, Kind::Number),
    (5, Kind::Binary),
    (6, Kind::Binary),
    (7, Kind::Bool),
    (8, Kind::Bool),
];
const BOX: Fields = &[
    (1, Kind::Double),
    (2, Kind::Double),
    (3, Kind::Double),
    (4, Kind::Double),
    (5, Kind::Double),
    (6, Kind::Double),
    (7, Kind::Double),
    (8, Kind::Double),
];

/// Refuses a footer that is not made as the format says, or declares more than a reader should take; says why.
pub(super) fn check_shape(footer: &[u8]) -> Result<(), String> {
    let mut shape = Shape { reader: Compact::new(footer), refused: None };
    match shape.structure(FOOTER) {
        Some(()) => Ok(()),
        None => Err(shape
            .refused
            .unwrap_or_else(|| format!("its footer makes no sense from byte {} on", shape.reader.position()))),
    }
}

struct Shape<'a> {
    reader: Compact<'a>,
    refused: Option<String>,
}

impl Shape<'_> {
    fn refuse(&mut self, text: String) -> Option<()> {
        self.refused = Some(text);
        None
    }

    fn structure(&mut self, fields: Fields) -> Option<()> {
        let mut seen = Seen::default();
        while let Some((id, wire)) = self.reader.field(&mut seen)? {
            self.known(fields, id, wire)?;
        }
        Some(())
    }

    /// A field of a structure that has these.
    fn known(&mut self, fields: Fields, id: i16, wire: u8) -> Option<()> {
        match fields.iter().find(|(known, _)| *known == id) {
            Some((_, kind)) => self.value(*kind, wire),
            None => self.reader.skip(wire),
        }
    }

    fn value(&mut self, kind: Kind, wire: u8) -> Option<()> {
        match (kind, wire) {
            (Kind::Bool, TRUE | FALSE) => Some(()),
            (Kind::Byte, BYTE) | (Kind::Number, 4 | I32 | I64) | (Kind::Double, DOUBLE) | (Kind::Binary, BINARY) => {
                self.reader.skip(wire)
            }
            (Kind::Struct(fields), STRUCT) => self.structure(fields),
            (Kind::Numbers, LIST) => self.list(|shape, wire| shape.value(Kind::Number, wire)).map(|_| ()),
            (Kind::Binaries, LIST) => self.list(|shape, wire| shape.value(Kind::Binary, wire)).map(|_| ()),
            (Kind::Structs(fields), LIST) => {
                self.list(|shape, wire| shape.value(Kind::Struct(fields), wire)).map(|_| ())
            }
            (Kind::Schema, LIST) => self.schema(),
            (Kind::Groups, LIST) => self.groups(),
            (Kind::Notes, LIST) => self.notes(),
            (Kind::Secret, _) => self.refuse("it has encrypted columns, which are not supported".to_owned()),
            _ => None,
        }
    }

    /// Goes through a list; how many elements it has.
    fn list(&mut self, mut element: impl FnMut(&mut Self, u8) -> Option<()>) -> Option<usize> {
        let (wire, count) = self.reader.list()?;
        for _ in 0..count {
            element(self, wire)?;
        }
        Some(count)
    }

    fn notes(&mut self) -> Option<()> {
        let before = self.reader.position();
        self.value(Kind::Structs(NOTE), LIST)?;
        let length = self.reader.position() - before;
        if length > NOTES_BYTES {
            return self.refuse(format!("its footer has {length} bytes of notes; {NOTES_BYTES} are the most"));
        }
        Some(())
    }

    fn groups(&mut self) -> Option<()> {
        let mut chunks = 0;
        let count = self.list(|shape, wire| {
            chunks += shape.group(wire)?;
            if chunks > COLUMN_CHUNKS {
                return shape.refuse(format!("its row groups have more than {COLUMN_CHUNKS} column chunks"));
            }
            Some(())
        })?;
        if count > ROW_GROUPS {
            return self.refuse(format!("it has {count} row groups; {ROW_GROUPS} are the most"));
        }
        Some(())
    }

    /// A row group; how many column chunks it has.
    fn group(&mut self, wire: u8) -> Option<usize> {
        let (mut seen, mut chunks) = (Seen::default(), 0);
        if wire != STRUCT {
            return None;
        }
        while let Some((id, wire)) = self.reader.field(&mut seen)? {
            if (id, wire) == (1, LIST) {
                chunks = self.list(|shape, wire| shape.value(Kind::Struct(CHUNK), wire))?;
            } else {
                self.known(GROUP, id, wire)?;
            }
        }
        Some(chunks)
    }

    /// The schema: a tree, written from the root down, each group before its children.
    fn schema(&mut self) -> Option<()> {
        // How many children are still to come, of each group that is open.
        let mut open: [u64; DEPTH + 1] = [0; DEPTH + 1];
        let (mut depth, mut elements) = (0, 0);
        self.list(|shape, wire| {
            elements += 1;
            if elements > ELEMENTS {
                return shape.refuse(format!("its schema has more than {ELEMENTS} columns and groups"));
            }
            let children = shape.element(wire)?;
            if elements > 1 {
                if depth == 0 {
                    return shape.refuse("its schema has columns that belong to nothing".to_owned());
                }
                open[depth] -= 1;
            }
            if children > 0 {
                if depth == DEPTH {
                    return shape.refuse(format!("its columns are nested more than {DEPTH} times"));
                }
                // Each takes a byte at least.
                if children > shape.reader.left() as u64 {
                    return shape.refuse(format!("its schema declares {children} columns in one group"));
                }
                depth += 1;
                open[depth] = children;
            }
            while depth > 0 && open[depth] == 0 {
                depth -= 1;
            }
            Some(())
        })?;
        if depth > 0 {
            return self.refuse("its schema declares more columns than it has".to_owned());
        }
        Some(())
    }

    /// An element of the schema; how many children it has.
    fn element(&mut self, wire: u8) -> Option<u64> {
        let (mut seen, mut children) = (Seen::default(), 0);
        if wire != STRUCT {
            return None;
        }
        while let Some((id, wire)) = self.reader.field(&mut seen)? {
            if (id, wire) == (5, I32) {
                children = self.reader.unsigned()?.into();
            } else {
                self.known(ELEMENT, id, wire)?;
            }
        }
        Some(children)
    }
}
