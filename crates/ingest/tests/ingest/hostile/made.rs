//! A writer of small Parquet files that can be told to lie: Thrift structures as trees, which a test may change before
//! they become bytes. Knows the format from its specification; must share no code with what it tests.

use std::collections::BTreeMap;

/// A Thrift value of the compact protocol.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    I32(i64),
    I64(i64),
    Binary(Vec<u8>),
    /// The type of the elements, and these.
    List(u8, Vec<Value>),
    Struct(BTreeMap<i16, Value>),
    /// A type, and bytes as they are.
    Raw(u8, Vec<u8>),
}

pub(crate) const I32: u8 = 5;
pub(crate) const BINARY: u8 = 8;
pub(crate) const LIST: u8 = 9;
pub(crate) const STRUCT: u8 = 12;

pub(crate) fn text(text: &str) -> Value {
    Value::Binary(text.as_bytes().to_vec())
}

pub(crate) fn structure<const N: usize>(fields: [(i16, Value); N]) -> Value {
    Value::Struct(BTreeMap::from(fields))
}

pub(crate) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64, out: &mut Vec<u8>) {
    varint(((value << 1) ^ (value >> 63)) as u64, out);
}

impl Value {
    fn wire(&self) -> u8 {
        match self {
            Self::Bool(true) => 1,
            Self::Bool(false) => 2,
            Self::I32(_) => I32,
            Self::I64(_) => 6,
            Self::Binary(_) => BINARY,
            Self::List(..) => LIST,
            Self::Struct(_) => STRUCT,
            Self::Raw(wire, _) => *wire,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(_) => {}
            Self::I32(value) | Self::I64(value) => zigzag(*value, out),
            Self::Binary(bytes) => {
                varint(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
            Self::List(wire, values) => {
                list_head(*wire, values.len() as u64, out);
                for value in values {
                    value.write(out);
                }
            }
            Self::Struct(fields) => {
                let mut last = 0;
                for (&id, value) in fields {
                    if (1..16).contains(&(id - last)) {
                        out.push(((id - last) as u8) << 4 | value.wire());
                    } else {
                        out.push(value.wire());
                        zigzag(id.into(), out);
                    }
                    value.write(out);
                    last = id;
                }
                out.push(0);
            }
            Self::Raw(_, bytes) => out.extend_from_slice(bytes),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// The value on a path of field numbers and places in lists.
    pub(crate) fn at(&mut self, path: &[i16]) -> &mut Self {
        let Some((&first, rest)) = path.split_first() else { return self };
        let next = match self {
            Self::Struct(fields) => fields.entry(first).or_insert(Self::Bool(true)),
            Self::List(_, values) => &mut values[first as usize],
            _ => panic!("a path goes through structures and lists"),
        };
        next.at(rest)
    }

    pub(crate) fn number(&mut self, path: &[i16]) -> i64 {
        match self.at(path) {
            Self::I32(value) | Self::I64(value) => *value,
            _ => panic!("a number"),
        }
    }

    /// Puts another number there, of the same width.
    pub(crate) fn set(&mut self, path: &[i16], number: i64) {
        match self.at(path) {
            Self::I32(value) | Self::I64(value) => *value = number,
            other => *other = Self::I64(number),
        }
    }
}

pub(crate) fn list_head(wire: u8, count: u64, out: &mut Vec<u8>) {
    if count < 15 {
        out.push((count as u8) << 4 | wire);
    } else {
        out.push(0xf0 | wire);
        varint(count, out);
    }
}

/// How the pages of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) codec: Codec,
    /// Version 2 of data pages.
    pub(crate) second: bool,
    pub(crate) checksums: bool,
    pub(crate) dictionary: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    Snappy,
    Zstd,
}

pub(crate) const PLAIN: Form = Form { codec: Codec::None, second: false, checksums: false, dictionary: true };

/// Every form.
pub(crate) fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for codec in [Codec::None, Codec::Snappy, Codec::Zstd] {
        for bits in 0..8 {
            let [second, checksums, dictionary] = [1, 2, 4].map(|bit| bits & bit != 0);
            forms.push(Form { codec, second, checksums, dictionary });
        }
    }
    forms
}

impl Codec {
    fn number(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Snappy => 1,
            Self::Zstd => 6,
        }
    }

    fn compress(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::None => bytes.to_vec(),
            Self::Snappy => snap::raw::Encoder::new().compress_vec(bytes).expect("it can be compressed"),
            Self::Zstd => zstd::bulk::compress(bytes, 1).expect("it can be compressed"),
        }
    }
}

/// Rows of a page, of a row group, of a file.
pub(crate) const PAGE: usize = 10;
pub(crate) const GROUP: usize = 20;
pub(crate) const ROWS: u64 = 40;

/// A page before it is written.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) header: Value,
    pub(crate) body: Vec<u8>,
}

/// A page's body: what comes before the values, and them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body {
    pub(crate) levels: Vec<u8>,
    pub(crate) values: Vec<u8>,
}

/// A file before it is written, as lists of pages by row group and column.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) form: Form,
    pub(crate) groups: Vec<Vec<Vec<Page>>>,
}

/// So many ones, as definition levels.
fn levels(count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    varint((count as u64) << 1, &mut out);
    out.push(1);
    out
}

/// Dictionary indices of eight bits.
pub(crate) fn indices(values: &[u8]) -> Vec<u8> {
    let groups = values.len().div_ceil(8);
    let mut out = vec![8];
    varint((groups as u64) << 1 | 1, &mut out);
    out.extend_from_slice(values);
    out.resize(out.len() + groups * 8 - values.len(), 0);
    out
}

pub(crate) fn strings<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    values.into_iter().flat_map(|s| [&(s.len() as u32).to_le_bytes(), s.as_bytes()].concat()).collect()
}

pub(crate) fn key(row: usize) -> String {
    format!("key-{:02}", row % 13)
}

impl Form {
    fn finish(self, mut header: Value, body: Vec<u8>, uncompressed: usize) -> Page {
        header.set(&[2], uncompressed as i64);
        header.set(&[3], body.len() as i64);
        if self.checksums {
            *header.at(&[4]) = Value::I32(i64::from(crc32fast::hash(&body) as i32));
        }
        Page { header, body }
    }

    pub(crate) fn dictionary_page(self, count: usize, values: &[u8]) -> Page {
        let head = structure([(1, Value::I32(count as i64)), (2, Value::I32(0))]);
        let header = structure([(1, Value::I32(2)), (2, Value::I32(0)), (3, Value::I32(0)), (7, head)]);
        self.finish(header, self.codec.compress(values), values.len())
    }

    /// A data page; `encoding` is the values'.
    pub(crate) fn data_page(self, count: usize, body: &Body, encoding: i64) -> Page {
        let number = |n: usize| Value::I32(n as i64);
        let sizes = |kind: i64, id: i16, head: Value| {
            structure([(1, Value::I32(kind)), (2, Value::I32(0)), (3, Value::I32(0)), (id, head)])
        };
        if self.second {
            let head = structure([
                (1, number(count)),
                (2, number(0)),
                (3, number(count)),
                (4, Value::I32(encoding)),
                (5, number(body.levels.len())),
                (6, number(0)),
                (7, Value::Bool(self.codec != Codec::None)),
            ]);
            let made = [body.levels.clone(), self.codec.compress(&body.values)].concat();
            return self.finish(sizes(3, 8, head), made, body.levels.len() + body.values.len());
        }
        let head = structure([(1, number(count)), (2, Value::I32(encoding)), (3, Value::I32(3)), (4, Value::I32(3))]);
        let mut whole = Vec::new();
        if !body.levels.is_empty() {
            whole.extend_from_slice(&(body.levels.len() as u32).to_le_bytes());
            whole.extend_from_slice(&body.levels);
        }
        whole.extend_from_slice(&body.values);
        self.finish(sizes(0, 5, head), self.codec.compress(&whole), whole.len())
    }
}

/// A good file: `key`, an optional string, and `n`, a number.
pub(crate) fn good(form: Form) -> Made {
    let mut groups = Vec::new();
    for first in (0..ROWS as usize).step_by(GROUP) {
        let names: Vec<String> = (0..13).map(key).collect();
        let mut keys = Vec::new();
        if form.dictionary {
            keys.push(form.dictionary_page(13, &strings(names.iter().map(String::as_str))));
        }
        let mut numbers = Vec::new();
        for from in (first..first + GROUP).step_by(PAGE) {
            let rows = from..from + PAGE;
            let (values, encoding) = if form.dictionary {
                (indices(&rows.clone().map(|row| (row % 13) as u8).collect::<Vec<_>>()), 8)
            } else {
                (strings(rows.clone().map(key).collect::<Vec<_>>().iter().map(String::as_str)), 0)
            };
            keys.push(form.data_page(PAGE, &Body { levels: levels(PAGE), values }, encoding));
            let values = rows.flat_map(|row| (row as i64 % 13).to_le_bytes()).collect();
            numbers.push(form.data_page(PAGE, &Body { levels: Vec::new(), values }, 0));
        }
        groups.push(vec![keys, numbers]);
    }
    Made { form, groups }
}

/// An element of the schema.
pub(crate) fn leaf(physical: i64, repetition: i64, name: &str) -> Value {
    structure([(1, Value::I32(physical)), (3, Value::I32(repetition)), (4, text(name))])
}

pub(crate) fn branch(name: &str, children: i64) -> Value {
    structure([(4, text(name)), (5, Value::I32(children))])
}

impl Made {
    pub(crate) fn page(&mut self, group: usize, column: usize, page: usize) -> &mut Page {
        &mut self.groups[group][column][page]
    }

    /// The file, with what `lie` makes of its footer.
    pub(crate) fn write_with(&self, lie: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut file = b"PAR1".to_vec();
        let mut groups = Vec::new();
        for group in &self.groups {
            let mut chunks = Vec::new();
            let mut total = 0;
            for (column, pages) in group.iter().enumerate() {
                let start = file.len();
                let (mut data, mut uncompressed) = (None, 0);
                for page in pages {
                    let mut header = page.header.clone();
                    if header.number(&[1]) != 2 {
                        data.get_or_insert(file.len());
                    }
                    let bytes = header.bytes();
                    uncompressed += bytes.len() as i64 + header.number(&[2]);
                    file.extend_from_slice(&bytes);
                    file.extend_from_slice(&page.body);
                }
                total += uncompressed;
                let has_dictionary = data != Some(start);
                let mut meta = structure([
                    (1, Value::I32(if column == 0 { 6 } else { 2 })),
                    (2, Value::List(I32, vec![Value::I32(0), Value::I32(3), Value::I32(8)])),
                    (3, Value::List(BINARY, vec![text(if column == 0 { "key" } else { "n" })])),
                    (4, Value::I32(self.form.codec.number())),
                    (5, Value::I64(GROUP as i64)),
                    (6, Value::I64(uncompressed)),
                    (7, Value::I64((file.len() - start) as i64)),
                    (9, Value::I64(data.unwrap_or(start) as i64)),
                ]);
                if has_dictionary {
                    *meta.at(&[11]) = Value::I64(start as i64);
                }
                chunks.push(structure([(2, Value::I64(0)), (3, meta)]));
            }
            groups.push(structure([
                (1, Value::List(STRUCT, chunks)),
                (2, Value::I64(total)),
                (3, Value::I64(GROUP as i64)),
            ]));
        }
        let mut key = leaf(6, 1, "key");
        *key.at(&[6]) = Value::I32(0);
        let schema = vec![branch("records", 2), key, leaf(2, 0, "n")];
        let mut footer = structure([
            (1, Value::I32(2)),
            (2, Value::List(STRUCT, schema)),
            (3, Value::I64(ROWS as i64)),
            (4, Value::List(STRUCT, groups)),
        ]);
        lie(&mut footer);
        close(file, &footer.bytes())
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        self.write_with(|_| {})
    }
}

/// A file with this footer.
pub(crate) fn close(mut file: Vec<u8>, footer: &[u8]) -> Vec<u8> {
    file.extend_from_slice(footer);
    file.extend_from_slice(&(footer.len() as u32).to_le_bytes());
    file.extend_from_slice(b"PAR1");
    file
}
