//! A small source for all tests: retail records with awkward values.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use seriatim_transform::{Transform, TransformError};

/// The source's columns; `CustomerID` has capitals.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("CustomerID", DataType::Int64, false),
        Field::new("email", DataType::Utf8, true),
        Field::new("city", DataType::Utf8, true),
        Field::new("quantity", DataType::Int64, true),
        Field::new("price", DataType::Float64, true),
        Field::new("amount", DataType::Decimal128(12, 2), true),
        Field::new("paid", DataType::Boolean, true),
        Field::new("day", DataType::Date32, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]))
}

/// One record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) customer: i64,
    pub(crate) email: Option<String>,
    pub(crate) city: Option<String>,
    pub(crate) quantity: Option<i64>,
    pub(crate) price: Option<f64>,
    pub(crate) amount: Option<i128>,
    pub(crate) paid: Option<bool>,
    pub(crate) day: Option<i32>,
    pub(crate) at: Option<i64>,
}

/// Records as a batch.
pub(crate) fn batch(records: &[Record]) -> RecordBatch {
    let decimals: Decimal128Array = records.iter().map(|it| it.amount).collect();
    let decimals = decimals.with_precision_and_scale(12, 2).expect("12 digits hold the amounts");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(records.iter().map(|it| it.customer))),
        Arc::new(records.iter().map(|it| it.email.clone()).collect::<StringArray>()),
        Arc::new(records.iter().map(|it| it.city.clone()).collect::<StringArray>()),
        Arc::new(records.iter().map(|it| it.quantity).collect::<Int64Array>()),
        Arc::new(records.iter().map(|it| it.price).collect::<Float64Array>()),
        Arc::new(decimals),
        Arc::new(records.iter().map(|it| it.paid).collect::<BooleanArray>()),
        Arc::new(records.iter().map(|it| it.day).collect::<Date32Array>()),
        Arc::new(records.iter().map(|it| it.at).collect::<TimestampMicrosecondArray>()),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns fit the schema")
}

/// Five records; quantities 3, 0, null, -2, 5.
pub(crate) fn sample() -> RecordBatch {
    let record = |customer, email: &str, city: Option<&str>, quantity, price| Record {
        customer,
        email: Some(email.to_owned()),
        city: city.map(str::to_owned),
        quantity,
        price: Some(price),
        amount: Some(i128::from(customer) * 125),
        paid: Some(customer % 2 == 0),
        day: Some(20_000),
        at: Some(1_728_000_000_000_000),
    };
    batch(&[
        record(1, "ann@x.org", Some("Ulm"), Some(3), 1.5),
        record(2, "BOB@x.org", Some("Bonn"), Some(0), 2.0),
        record(3, "cy@y.org", None, None, 3.25),
        record(4, "dee@y.org", Some("Köln"), Some(-2), 4.0),
        record(5, "12", Some(""), Some(5), -0.5),
    ])
}

/// The transform of some SQL that must be fine.
pub(crate) fn transform(sql: &str) -> Transform {
    Transform::new(sql, schema()).unwrap_or_else(|error| panic!("{sql}\n{error}\n{:?}", error.help()))
}

/// The columns of `batch` that are called so.
pub(crate) fn pick(batch: &RecordBatch, names: &[String]) -> RecordBatch {
    let positions: Vec<usize> =
        names.iter().map(|name| batch.schema().index_of(name).expect("a column of the source")).collect();
    batch.project(&positions).expect("positions are in range")
}

/// Evaluates these outputs of a transform.
pub(crate) fn run(
    transform: &Transform,
    outputs: &[&str],
    batch: &RecordBatch,
) -> Result<(RecordBatch, Option<BooleanArray>), TransformError> {
    let projected = transform.project(outputs)?;
    assert_eq!(projected.input_columns(), transform.source_columns(outputs));
    let result = projected.apply(&pick(batch, projected.input_columns()))?;
    assert_eq!(result.0.schema(), projected.schema());
    Ok(result)
}

/// Names of all output columns.
pub(crate) fn outputs(transform: &Transform) -> Vec<String> {
    let schema = transform.schema();
    schema.fields().iter().map(|it| it.name().clone()).collect()
}

/// Evaluates all outputs.
pub(crate) fn run_all(
    transform: &Transform,
    batch: &RecordBatch,
) -> Result<(RecordBatch, Option<BooleanArray>), TransformError> {
    let names = outputs(transform);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    run(transform, &names, batch)
}

/// One column of all rows as text, `NULL` for null.
pub(crate) fn texts(batch: &RecordBatch, column: usize) -> Vec<String> {
    let array = batch.column(column);
    (0..batch.num_rows())
        .map(|row| {
            if arrow::array::Array::is_null(array, row) {
                "NULL".to_owned()
            } else {
                arrow::util::display::array_value_to_string(array, row).expect("printable")
            }
        })
        .collect()
}

/// The first column that some SQL gives for the sample.
pub(crate) fn column(sql: &str) -> Vec<String> {
    let transform = transform(sql);
    match run_all(&transform, &sample()) {
        Ok((batch, _)) => texts(&batch, 0),
        Err(error) => panic!("{sql}\n{error}"),
    }
}
