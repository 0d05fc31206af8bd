//! One cell of a record in a form that knows nothing of Arrow, and the way between it and Arrow arrays. The oracle
//! works on these; it must never see an array.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int32Array, LargeStringArray, ListArray, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Fields, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type, i256,
};

use crate::rng::Rng;

/// One cell. Floats are their bits, so that cells can be compared and hashed; everything that is a number underneath
/// (dates, decimals, timestamps) is that number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Cell {
    Null,
    Bool(bool),
    Int(i128),
    F32(u32),
    F64(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Cell>),
    /// The fields of a struct, in their order.
    Struct(Vec<Cell>),
}

impl Cell {
    /// The cell as a key: one zero, one not-a-number.
    pub(crate) fn as_key(&self) -> Self {
        match *self {
            Self::F32(bits) if f32::from_bits(bits).is_nan() => Self::F32(f32::NAN.to_bits()),
            Self::F32(bits) if f32::from_bits(bits) == 0.0 => Self::F32(0),
            Self::F64(bits) if f64::from_bits(bits).is_nan() => Self::F64(f64::NAN.to_bits()),
            Self::F64(bits) if f64::from_bits(bits) == 0.0 => Self::F64(0),
            _ => self.clone(),
        }
    }
}

/// The type of a source column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
    Text,
    Binary,
    Fixed(i32),
    Decimal(u8, i8),
    BigDecimal(u8, i8),
    Date,
    TimeMs,
    TimeUs,
    TimeNs,
    StampMs,
    StampUs,
    StampNs,
    StampUtc,
    /// Lists of structs with the fields of [`ITEM`].
    Items,
    /// Lists of texts.
    Words,
}

/// The fields of an element of [`Kind::Items`]. Columns of the records are called `tf` and `txt`.
pub(crate) const ITEM: [(&str, Kind); 3] = [("n", Kind::I64), ("word", Kind::Text), ("txt", Kind::Text)];

/// Every kind that a source column may have, of those that are not lists.
pub(crate) const KINDS: [Kind; 27] = [
    Kind::Bool,
    Kind::I8,
    Kind::I16,
    Kind::I32,
    Kind::I64,
    Kind::U8,
    Kind::U16,
    Kind::U32,
    Kind::U64,
    Kind::F32,
    Kind::F64,
    Kind::Text,
    Kind::Text,
    Kind::Binary,
    Kind::Fixed(5),
    Kind::Decimal(7, 2),
    Kind::Decimal(18, 4),
    Kind::Decimal(38, 10),
    Kind::BigDecimal(50, 5),
    Kind::Date,
    Kind::TimeMs,
    Kind::TimeUs,
    Kind::TimeNs,
    Kind::StampMs,
    Kind::StampUs,
    Kind::StampNs,
    Kind::StampUtc,
];

impl Kind {
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// The Arrow type of a column of this kind.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::I8 => DataType::Int8,
            Self::I16 => DataType::Int16,
            Self::I32 => DataType::Int32,
            Self::I64 => DataType::Int64,
            Self::U8 => DataType::UInt8,
            Self::U16 => DataType::UInt16,
            Self::U32 => DataType::UInt32,
            Self::U64 => DataType::UInt64,
            Self::F32 => DataType::Float32,
            Self::F64 => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Binary => DataType::Binary,
            Self::Fixed(width) => DataType::FixedSizeBinary(width),
            Self::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
            Self::BigDecimal(precision, scale) => DataType::Decimal256(precision, scale),
            Self::Date => DataType::Date32,
            Self::TimeMs => DataType::Time32(TimeUnit::Millisecond),
            Self::TimeUs => DataType::Time64(TimeUnit::Microsecond),
            Self::TimeNs => DataType::Time64(TimeUnit::Nanosecond),
            Self::StampMs => DataType::Timestamp(TimeUnit::Millisecond, None),
            Self::StampUs => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::StampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
            Self::StampUtc => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Items => DataType::List(Arc::new(Field::new("item", DataType::Struct(item_fields()), true))),
            Self::Words => DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
        }
    }

    pub(crate) fn is_list(self) -> bool {
        matches!(self, Self::Items | Self::Words)
    }

    /// The `index`-th value of this kind. Different indexes may give the same value, one index never gives two.
    pub(crate) fn value(self, seed: u64, index: u64) -> Cell {
        let mut rng = Rng::at(seed, &[index]);
        let (low, high) = match self {
            Self::Bool => return Cell::Bool(rng.percent(50)),
            Self::F32 => return Cell::F32(f32_bits(&mut rng)),
            Self::F64 => return Cell::F64(f64_bits(&mut rng)),
            Self::Text => return Cell::Text(text(&mut rng, index)),
            Self::Binary => return Cell::Bytes(text(&mut rng, index).into_bytes()),
            Self::Fixed(width) => return Cell::Bytes((0..width).map(|_| rng.below(256) as u8).collect()),
            Self::BigDecimal(precision, _) => return Cell::Text(big_decimal(&mut rng, precision)),
            Self::Items => return list(&mut rng, item),
            Self::Words => return list(&mut rng, word),
            Self::I8 => (i128::from(i8::MIN), i128::from(i8::MAX)),
            Self::I16 => (i128::from(i16::MIN), i128::from(i16::MAX)),
            Self::I32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
            Self::I64 | Self::StampMs | Self::StampUs | Self::StampNs | Self::StampUtc => {
                (i128::from(i64::MIN), i128::from(i64::MAX))
            }
            Self::U8 => (0, i128::from(u8::MAX)),
            Self::U16 => (0, i128::from(u16::MAX)),
            Self::U32 => (0, i128::from(u32::MAX)),
            Self::U64 => (0, i128::from(u64::MAX)),
            Self::Decimal(precision, _) => {
                let limit = 10_i128.pow(u32::from(precision)) - 1;
                (-limit, limit)
            }
            Self::Date => (-1_000_000, 1_000_000),
            Self::TimeMs => (0, 86_399_999),
            Self::TimeUs => (0, 86_399_999_999),
            Self::TimeNs => (0, 86_399_999_999_999),
        };
        Cell::Int(match rng.below(20) {
            0 => low,
            1 => high,
            2..=11 => (i128::from(index) + low.max(-20)).min(high),
            _ => {
                let wide = (i128::from(rng.next()) << 62) | i128::from(rng.next() >> 2);
                // The span of a 38-digit decimal does not fit; half of it is wide enough.
                low.saturating_add(wide.rem_euclid(high.saturating_sub(low).max(1)))
            }
        })
    }
}

/// A list of few elements, some of them null.
fn list(rng: &mut Rng, element: impl Fn(&mut Rng) -> Cell) -> Cell {
    let count = rng.pick(&[0, 1, 1, 2, 3, 5]);
    Cell::List((0..count).map(|_| if rng.percent(4) { Cell::Null } else { element(rng) }).collect())
}

fn word(rng: &mut Rng) -> Cell {
    if rng.percent(8) { Cell::Null } else { Cell::Text(format!("w{}", rng.below(12))) }
}

fn item(rng: &mut Rng) -> Cell {
    let n = if rng.percent(8) { Cell::Null } else { Cell::Int(i128::from(rng.below(7))) };
    Cell::Struct(vec![n, word(rng), word(rng)])
}

fn item_fields() -> Fields {
    ITEM.iter().map(|(name, kind)| Field::new(*name, kind.data_type(), true)).collect()
}

/// Lists with these cells.
fn lists(cells: &[Cell], of: impl Fn(&[Cell]) -> ArrayRef) -> ArrayRef {
    let (mut all, mut lengths) = (Vec::new(), Vec::new());
    for cell in cells {
        let elements = if let Cell::List(elements) = cell { elements.as_slice() } else { &[] };
        lengths.push(elements.len());
        all.extend_from_slice(elements);
    }
    let values = of(&all);
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    let nulls: NullBuffer = cells.iter().map(|cell| *cell != Cell::Null).collect();
    Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), values, Some(nulls)))
}

fn items(cells: &[Cell]) -> ArrayRef {
    let column = |(at, (_, kind)): (usize, &(&str, Kind))| {
        let of = |cell: &Cell| if let Cell::Struct(fields) = cell { fields[at].clone() } else { Cell::Null };
        array_of(*kind, TextForm::Small, &cells.iter().map(of).collect::<Vec<_>>())
    };
    let nulls: NullBuffer = cells.iter().map(|cell| *cell != Cell::Null).collect();
    Arc::new(StructArray::new(item_fields(), ITEM.iter().enumerate().map(column).collect(), Some(nulls)))
}

fn f32_bits(rng: &mut Rng) -> u32 {
    match rng.below(12) {
        0 => 0.0_f32.to_bits(),
        1 => (-0.0_f32).to_bits(),
        2 => f32::NAN.to_bits(),
        3 => f32::NAN.to_bits() | 0x8000_0001,
        4 => f32::INFINITY.to_bits(),
        5 => f32::MIN_POSITIVE.to_bits(),
        _ => (rng.below(1000) as f32 / 8.0).to_bits(),
    }
}

fn f64_bits(rng: &mut Rng) -> u64 {
    match rng.below(12) {
        0 => 0.0_f64.to_bits(),
        1 => (-0.0_f64).to_bits(),
        2 => f64::NAN.to_bits(),
        3 => f64::NAN.to_bits() | 0x8000_0000_0000_0001,
        4 => f64::NEG_INFINITY.to_bits(),
        5 => f64::MIN_POSITIVE.to_bits(),
        _ => (rng.below(100_000) as f64 / 7.0).to_bits(),
    }
}

/// Strings that trip careless code: empty, one a prefix of another, with a zero byte, composed and decomposed, outside
/// the basic plane, longer than an inlined string.
fn text(rng: &mut Rng, index: u64) -> String {
    const PARTS: [&str; 14] = [
        "",
        "a",
        "A",
        "ab",
        "\0",
        " ",
        "\u{e9}",
        "e\u{301}",
        "ß",
        "日本",
        "🦀",
        "\n",
        "\"'",
        "a long part of a string",
    ];
    match rng.below(10) {
        0 => String::new(),
        1..=5 => format!("key-{index}"),
        _ => (0..rng.below(4)).map(|_| rng.pick(&PARTS)).collect(),
    }
}

fn big_decimal(rng: &mut Rng, precision: u8) -> String {
    let digits = 1 + rng.below(u64::from(precision));
    let mut text: String = (0..digits).map(|_| char::from(b'0' + rng.below(10) as u8)).collect();
    if rng.percent(50) {
        text.insert(0, '-');
    }
    i256::from_string(&text).expect("at most 50 digits").to_string()
}

/// How a string column is held in memory by the writer. Parquet readers see no difference, but Arrow's own note in the
/// file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextForm {
    Small,
    Large,
    Dictionary,
}

/// An array of `kind` with these cells.
pub(crate) fn array_of(kind: Kind, form: TextForm, cells: &[Cell]) -> ArrayRef {
    match kind {
        Kind::Bool => Arc::new(cells.iter().map(as_bool).collect::<BooleanArray>()),
        Kind::I8 => numbers::<Int8Type>(kind, cells),
        Kind::I16 => numbers::<Int16Type>(kind, cells),
        Kind::I32 => numbers::<Int32Type>(kind, cells),
        Kind::I64 => numbers::<Int64Type>(kind, cells),
        Kind::U8 => numbers::<UInt8Type>(kind, cells),
        Kind::U16 => numbers::<UInt16Type>(kind, cells),
        Kind::U32 => numbers::<UInt32Type>(kind, cells),
        Kind::U64 => numbers::<UInt64Type>(kind, cells),
        Kind::Decimal(..) => numbers::<Decimal128Type>(kind, cells),
        Kind::Date => numbers::<Date32Type>(kind, cells),
        Kind::TimeMs => numbers::<Time32MillisecondType>(kind, cells),
        Kind::TimeUs => numbers::<Time64MicrosecondType>(kind, cells),
        Kind::TimeNs => numbers::<Time64NanosecondType>(kind, cells),
        Kind::StampMs => numbers::<TimestampMillisecondType>(kind, cells),
        Kind::StampUs | Kind::StampUtc => numbers::<TimestampMicrosecondType>(kind, cells),
        Kind::StampNs => numbers::<TimestampNanosecondType>(kind, cells),
        Kind::F32 => Arc::new(
            cells
                .iter()
                .map(|c| if let Cell::F32(b) = c { Some(f32::from_bits(*b)) } else { None })
                .collect::<Float32Array>(),
        ),
        Kind::F64 => Arc::new(
            cells
                .iter()
                .map(|c| if let Cell::F64(b) = c { Some(f64::from_bits(*b)) } else { None })
                .collect::<Float64Array>(),
        ),
        Kind::BigDecimal(..) => Arc::new(
            cells
                .iter()
                .map(|c| as_text(c).map(|t| i256::from_string(t).expect("made from an i256")))
                .collect::<PrimitiveArray<Decimal256Type>>()
                .with_data_type(kind.data_type()),
        ),
        Kind::Binary => Arc::new(cells.iter().map(as_bytes).collect::<BinaryArray>()),
        Kind::Fixed(width) => Arc::new(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(cells.iter().map(as_bytes), width)
                .expect("every value has the width"),
        ),
        Kind::Text => match form {
            TextForm::Small => Arc::new(cells.iter().map(as_text).collect::<StringArray>()),
            TextForm::Large => Arc::new(cells.iter().map(as_text).collect::<LargeStringArray>()),
            TextForm::Dictionary => Arc::new(cells.iter().map(as_text).collect::<DictionaryArray<Int32Type>>()),
        },
        Kind::Items => lists(cells, items),
        Kind::Words => lists(cells, |words| array_of(Kind::Text, TextForm::Small, words)),
    }
}

fn numbers<T>(kind: Kind, cells: &[Cell]) -> ArrayRef
where
    T: ArrowPrimitiveType,
    T::Native: TryFrom<i128>,
{
    let natives = cells.iter().map(|cell| match cell {
        Cell::Int(i) => Some(T::Native::try_from(*i).ok().expect("a value of the column's kind")),
        _ => None,
    });
    Arc::new(
        natives.collect::<Vec<_>>().into_iter().collect::<PrimitiveArrayOf<T>>().0.with_data_type(kind.data_type()),
    )
}

/// `FromIterator` for any primitive type: Arrow has it only for the types that its own adapter knows.
struct PrimitiveArrayOf<T: ArrowPrimitiveType>(PrimitiveArray<T>);

impl<T: ArrowPrimitiveType> FromIterator<Option<T::Native>> for PrimitiveArrayOf<T> {
    fn from_iter<I: IntoIterator<Item = Option<T::Native>>>(iter: I) -> Self {
        let mut builder = arrow::array::PrimitiveBuilder::<T>::new();
        builder.extend(iter);
        Self(builder.finish())
    }
}

fn as_bool(cell: &Cell) -> Option<bool> {
    if let Cell::Bool(b) = cell { Some(*b) } else { None }
}

fn as_text(cell: &Cell) -> Option<&str> {
    if let Cell::Text(t) = cell { Some(t) } else { None }
}

fn as_bytes(cell: &Cell) -> Option<&[u8]> {
    if let Cell::Bytes(b) = cell { Some(b) } else { None }
}

/// The cells of an array of any type that a source or an output may have.
pub(crate) fn cells_of(array: &ArrayRef) -> Vec<Cell> {
    match array.data_type() {
        DataType::Dictionary(_, value) => cells_of(&cast(array, value).expect("a dictionary casts to its values")),
        DataType::Boolean => options(array.as_boolean().iter(), Cell::Bool),
        DataType::Int8 => ints::<Int8Type>(array),
        DataType::Int16 => ints::<Int16Type>(array),
        DataType::Int32 | DataType::Date32 | DataType::Time32(_) => {
            ints::<Int32Type>(&cast(array, &DataType::Int32).expect("32 bits"))
        }
        DataType::Int64 | DataType::Time64(_) | DataType::Timestamp(..) => {
            ints::<Int64Type>(&cast(array, &DataType::Int64).expect("64 bits"))
        }
        DataType::UInt8 => ints::<UInt8Type>(array),
        DataType::UInt16 => ints::<UInt16Type>(array),
        DataType::UInt32 => ints::<UInt32Type>(array),
        DataType::UInt64 => ints::<UInt64Type>(array),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => {
            cells_of(&cast(array, &DataType::Decimal128(*p, *s)).expect("a wider decimal"))
        }
        DataType::Decimal128(..) => ints::<Decimal128Type>(array),
        DataType::Decimal256(..) => {
            options(array.as_primitive::<Decimal256Type>().iter(), |v| Cell::Text(v.to_string()))
        }
        DataType::Float32 => {
            options(array.as_primitive::<arrow::datatypes::Float32Type>().iter(), |v| Cell::F32(v.to_bits()))
        }
        DataType::Float64 => {
            options(array.as_primitive::<arrow::datatypes::Float64Type>().iter(), |v| Cell::F64(v.to_bits()))
        }
        DataType::Utf8 => options(array.as_string::<i32>().iter(), |v| Cell::Text(v.to_owned())),
        DataType::LargeUtf8 | DataType::Utf8View => cells_of(&cast(array, &DataType::Utf8).expect("a string")),
        DataType::Binary => options(array.as_binary::<i32>().iter(), |v| Cell::Bytes(v.to_vec())),
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            cells_of(&cast(array, &DataType::Binary).expect("bytes"))
        }
        DataType::List(_) => {
            let lists = array.as_list::<i32>().iter();
            options(lists, |list| Cell::List(cells_of(&list)))
        }
        DataType::Struct(_) => {
            let fields: Vec<Vec<Cell>> = array.as_struct().columns().iter().map(cells_of).collect();
            let cell = |row: usize| Cell::Struct(fields.iter().map(|cells| cells[row].clone()).collect());
            (0..array.len()).map(|row| if array.is_null(row) { Cell::Null } else { cell(row) }).collect()
        }
        other => panic!("no test writes a column of type {other}"),
    }
}

fn ints<T>(array: &ArrayRef) -> Vec<Cell>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i128>,
{
    options(array.as_primitive::<T>().iter(), |v| Cell::Int(v.into()))
}

fn options<T>(values: impl Iterator<Item = Option<T>>, cell: impl Fn(T) -> Cell) -> Vec<Cell> {
    values.map(|v| v.map_or(Cell::Null, &cell)).collect()
}

#[test]
fn cells_survive_the_way_through_arrow() {
    for kind in KINDS.into_iter().chain([Kind::Items, Kind::Words]) {
        let cells: Vec<Cell> = (0..200).map(|i| if i % 7 == 0 { Cell::Null } else { kind.value(1, i) }).collect();
        for form in [TextForm::Small, TextForm::Large, TextForm::Dictionary] {
            let array = array_of(kind, form, &cells);
            assert_eq!(array.null_count(), 29, "{kind:?}");
            assert_eq!(cells_of(&array), cells, "{kind:?} {form:?}");
        }
    }
    let keys: Int32Array = [Some(1)].into_iter().collect();
    assert_eq!(cells_of(&(Arc::new(keys) as ArrayRef)), [Cell::Int(1)]);
}
