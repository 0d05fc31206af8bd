//! Orders and their lines, one after another, for one file of the demo. Must never look at another file: each file has
//! its own stream of draws and its own month, so files can be made at the same time and in any order.

use jiff::civil::Date;

use super::catalog::{Catalog, Customer, Product};
use super::draw::Draw;
use super::words;

/// How many orders have 1, 2, ... 8 lines, in percent.
const LINES: [u64; 8] = [34, 24, 16, 10, 7, 4, 3, 2];
/// How many lines have a quantity of 1, 2, ... 6, in percent.
const QUANTITIES: [u64; 6] = [70, 15, 6, 4, 3, 2];
/// How many orders are placed without an account, in percent: their e-mail is null.
const GUESTS: u64 = 4;

/// What all lines of an order share.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    /// The natural key: the month and a number within it.
    pub(crate) number: String,
    /// Milliseconds since 1970, UTC.
    pub(crate) placed: i64,
    /// Days since 1970.
    pub(crate) date: i32,
    /// Its state.
    pub(crate) status: &'static str,
    /// Where it was placed.
    pub(crate) store: &'a str,
    /// Who placed it.
    pub(crate) customer: &'a Customer,
    /// Whether without an account.
    pub(crate) guest: bool,
}

/// One line of an order. Money is in cents, discounts in hundredths of a percent.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// What is bought.
    pub(crate) product: &'a Product,
    /// How many.
    pub(crate) quantity: i32,
    /// The price of one.
    pub(crate) unit_price: i128,
    /// What is taken off, if anything.
    pub(crate) discount: Option<i128>,
    /// The price of all.
    pub(crate) total: i128,
}

/// The orders of one month, in the order in which they were placed.
#[derive(Debug)]
pub(crate) struct Month<'a> {
    catalog: &'a Catalog,
    draw: Draw,
    name: String,
    first_day: i32,
    /// Milliseconds from one record to the next, on average.
    spacing: i64,
    rows: u64,
    made: u64,
    orders: u64,
}

impl<'a> Month<'a> {
    /// The month that starts at `first`, with exactly `rows` records, from stream `stream` of `seed`.
    pub(crate) fn new(catalog: &'a Catalog, seed: u64, stream: u64, first: Date, rows: u64) -> Self {
        let milliseconds = i64::from(first.days_in_month()) * 86_400_000;
        Self {
            catalog,
            draw: Draw::new(seed, stream),
            name: format!("{:04}{:02}", first.year(), first.month()),
            first_day: days_since_1970(first),
            spacing: milliseconds / rows.max(1) as i64,
            rows,
            made: 0,
            orders: 0,
        }
    }

    /// Makes the next order and hands it to `take` with each of its lines; `false` if the month is full. The last
    /// order is as short as it must be.
    pub(crate) fn next_order(&mut self, mut take: impl FnMut(&Order<'a>, &Line<'a>)) -> bool {
        let left = self.rows - self.made;
        if left == 0 {
            return false;
        }
        let lines = (self.draw.weighted(&LINES) as u64 + 1).min(left);
        let order = self.order();
        for _ in 0..lines {
            take(&order, &self.line());
        }
        self.made += lines;
        true
    }

    fn order(&mut self) -> Order<'a> {
        let draw = &mut self.draw;
        self.orders += 1;
        let offset = self.made as i64 * self.spacing + draw.below(self.spacing.max(1) as u64) as i64;
        Order {
            number: format!("{}-{:06}", self.name, self.orders),
            placed: i64::from(self.first_day) * 86_400_000 + offset,
            date: self.first_day + (offset / 86_400_000) as i32,
            status: words::STATUSES[draw.weighted(&words::STATUS_WEIGHTS)],
            store: &self.catalog.stores[draw.skewed(self.catalog.stores.len())],
            customer: &self.catalog.customers[draw.skewed(self.catalog.customers.len())],
            guest: draw.chance(GUESTS),
        }
    }

    fn line(&mut self) -> Line<'a> {
        let draw = &mut self.draw;
        let product = &self.catalog.products[draw.skewed(self.catalog.products.len())];
        let quantity = draw.weighted(&QUANTITIES) as u64 + 1;
        // One line in eight is at a special price, 5 to 30 percent lower.
        let percent = if draw.below(8) == 0 { 70 + draw.below(26) } else { 100 };
        let unit_price = product.list_price * percent / 100;
        let discount = draw.chance(30).then(|| (draw.below(8) + 1) * 250);
        let total = (quantity * unit_price * (10_000 - discount.unwrap_or(0)) + 5_000) / 10_000;
        Line {
            product,
            quantity: quantity as i32,
            unit_price: i128::from(unit_price),
            discount: discount.map(i128::from),
            total: i128::from(total),
        }
    }
}

fn days_since_1970(date: Date) -> i32 {
    let epoch = Date::constant(1970, 1, 1);
    date.duration_since(epoch).as_hours() as i32 / 24
}

#[cfg(test)]
mod tests {
    use jiff::civil::Date;

    use super::{Catalog, Month, days_since_1970};

    #[test]
    fn a_month_has_exactly_its_records_and_whole_orders() {
        let catalog = Catalog::new(3, 5_000);
        let mut month = Month::new(&catalog, 3, 1, Date::constant(2025, 2, 1), 5_000);
        let (mut rows, mut guests, mut last) = (0, 0, (String::new(), 0));
        let mut sizes = Vec::new();
        loop {
            let mut lines = 0;
            let more = month.next_order(|order, line| {
                assert!(order.placed >= last.1, "orders are in the order of time");
                assert!((20_120..20_148).contains(&order.date), "February 2025: {}", order.date);
                assert!(line.total <= line.unit_price * i128::from(line.quantity) && line.total > 0);
                last = (order.number.clone(), order.placed);
                guests += usize::from(order.guest);
                lines += 1;
            });
            if !more {
                break;
            }
            rows += lines;
            sizes.push(lines);
        }
        assert_eq!(rows, 5_000);
        assert!(sizes.iter().all(|n| (1..=8).contains(n)) && sizes.contains(&8));
        assert!(guests > 50, "{guests}");
        assert_eq!(last.0, format!("202502-{:06}", sizes.len()));
    }

    #[test]
    fn days_are_counted_from_1970() {
        assert_eq!(days_since_1970(Date::constant(1970, 1, 1)), 0);
        assert_eq!(days_since_1970(Date::constant(2025, 1, 1)), 20_089);
    }
}
