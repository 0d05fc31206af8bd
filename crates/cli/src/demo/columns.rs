//! The demo's records as Arrow columns: the schema, and a buffer that turns order lines into record batches. Must
//! never decide what is in a record.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Builder, Decimal128Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder,
    TimestampMillisecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use super::orders::{Line, Order};

/// Twelve digits, two of them after the point.
const MONEY: DataType = DataType::Decimal128(12, 2);
const PERCENT: DataType = DataType::Decimal128(5, 2);

/// The columns of the demo's files: one row for each order line, with everything about its order, customer and product.
pub(crate) fn schema() -> SchemaRef {
    let required = |name: &str, data_type: DataType| Field::new(name, data_type, false);
    let nullable = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        required("order_no", DataType::Utf8),
        required("ordered_at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))),
        required("order_date", DataType::Date32),
        required("status", DataType::Utf8),
        required("store", DataType::Utf8),
        nullable("customer_email", DataType::Utf8),
        required("customer_name", DataType::Utf8),
        required("city", DataType::Utf8),
        required("country", DataType::Utf8),
        nullable("segment", DataType::Utf8),
        required("sku", DataType::Utf8),
        required("gtin", DataType::Int64),
        required("product", DataType::Utf8),
        required("category", DataType::Utf8),
        nullable("brand", DataType::Utf8),
        required("list_price", MONEY),
        required("quantity", DataType::Int32),
        required("unit_price", MONEY),
        nullable("discount_percent", PERCENT),
        required("line_total", MONEY),
    ]))
}

/// Rows on their way into a record batch.
#[derive(Debug)]
pub(crate) struct Rows {
    schema: SchemaRef,
    len: usize,
    order_no: StringBuilder,
    ordered_at: TimestampMillisecondBuilder,
    order_date: Date32Builder,
    status: StringBuilder,
    store: StringBuilder,
    customer_email: StringBuilder,
    customer_name: StringBuilder,
    city: StringBuilder,
    country: StringBuilder,
    segment: StringBuilder,
    sku: StringBuilder,
    gtin: Int64Builder,
    product: StringBuilder,
    category: StringBuilder,
    brand: StringBuilder,
    list_price: Decimal128Builder,
    quantity: Int32Builder,
    unit_price: Decimal128Builder,
    discount_percent: Decimal128Builder,
    line_total: Decimal128Builder,
}

impl Rows {
    /// An empty buffer.
    pub(crate) fn new() -> Self {
        Self {
            schema: schema(),
            len: 0,
            order_no: StringBuilder::new(),
            ordered_at: TimestampMillisecondBuilder::new().with_timezone("UTC"),
            order_date: Date32Builder::new(),
            status: StringBuilder::new(),
            store: StringBuilder::new(),
            customer_email: StringBuilder::new(),
            customer_name: StringBuilder::new(),
            city: StringBuilder::new(),
            country: StringBuilder::new(),
            segment: StringBuilder::new(),
            sku: StringBuilder::new(),
            gtin: Int64Builder::new(),
            product: StringBuilder::new(),
            category: StringBuilder::new(),
            brand: StringBuilder::new(),
            list_price: Decimal128Builder::new().with_data_type(MONEY),
            quantity: Int32Builder::new(),
            unit_price: Decimal128Builder::new().with_data_type(MONEY),
            discount_percent: Decimal128Builder::new().with_data_type(PERCENT),
            line_total: Decimal128Builder::new().with_data_type(MONEY),
        }
    }

    /// How many rows are in the buffer.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds the record of `line` of `order`.
    pub(crate) fn push(&mut self, order: &Order<'_>, line: &Line<'_>) {
        self.len += 1;
        self.order_no.append_value(&order.number);
        self.ordered_at.append_value(order.placed);
        self.order_date.append_value(order.date);
        self.status.append_value(order.status);
        self.store.append_value(order.store);
        // A guest leaves a name and an address, but no account: neither e-mail nor segment.
        self.customer_email.append_option((!order.guest).then_some(&order.customer.email));
        self.customer_name.append_value(&order.customer.name);
        self.city.append_value(order.customer.place.0);
        self.country.append_value(order.customer.place.1);
        self.segment.append_option((!order.guest).then_some(order.customer.segment));
        self.sku.append_value(&line.product.sku);
        self.gtin.append_value(line.product.gtin);
        self.product.append_value(&line.product.name);
        self.category.append_value(line.product.category);
        self.brand.append_option(line.product.brand);
        self.list_price.append_value(i128::from(line.product.list_price));
        self.quantity.append_value(line.quantity);
        self.unit_price.append_value(line.unit_price);
        self.discount_percent.append_option(line.discount);
        self.line_total.append_value(line.total);
    }

    /// Empties the buffer into a record batch.
    pub(crate) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        self.len = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.order_no.finish()),
            Arc::new(self.ordered_at.finish()),
            Arc::new(self.order_date.finish()),
            Arc::new(self.status.finish()),
            Arc::new(self.store.finish()),
            Arc::new(self.customer_email.finish()),
            Arc::new(self.customer_name.finish()),
            Arc::new(self.city.finish()),
            Arc::new(self.country.finish()),
            Arc::new(self.segment.finish()),
            Arc::new(self.sku.finish()),
            Arc::new(self.gtin.finish()),
            Arc::new(self.product.finish()),
            Arc::new(self.category.finish()),
            Arc::new(self.brand.finish()),
            Arc::new(self.list_price.finish()),
            Arc::new(self.quantity.finish()),
            Arc::new(self.unit_price.finish()),
            Arc::new(self.discount_percent.finish()),
            Arc::new(self.line_total.finish()),
        ];
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}
