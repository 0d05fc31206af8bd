//! The demo's world: who buys, what is sold, and where. Made once, shared by all files. Must never depend on how many
//! files there are.

use super::draw::Draw;
use super::words;

/// The stream of draws that the world is made of; the files use those from 1 on.
const STREAM: u64 = 0;

/// Who buys. A customer's attributes never change, so the records of one customer agree.
#[derive(Debug)]
pub(crate) struct Customer {
    /// The natural key.
    pub(crate) email: String,
    /// First and family name.
    pub(crate) name: String,
    /// City and country.
    pub(crate) place: (&'static str, &'static str),
    /// One of [`words::SEGMENTS`].
    pub(crate) segment: &'static str,
}

/// What is sold.
#[derive(Debug)]
pub(crate) struct Product {
    /// The natural key.
    pub(crate) sku: String,
    /// The number under the bar code: 13 digits with the check digit.
    pub(crate) gtin: i64,
    /// Its name.
    pub(crate) name: String,
    /// Its category.
    pub(crate) category: &'static str,
    /// Its brand; `None` for goods without one.
    pub(crate) brand: Option<&'static str>,
    /// Its price in cents.
    pub(crate) list_price: u64,
}

/// Everybody and everything, the most popular first.
#[derive(Debug)]
pub(crate) struct Catalog {
    /// All customers.
    pub(crate) customers: Vec<Customer>,
    /// All products.
    pub(crate) products: Vec<Product>,
    /// All stores.
    pub(crate) stores: Vec<String>,
}

impl Catalog {
    /// The world for a data set of `rows` records: 1 customer for 25 of them, 1 product for 400 (40 to 5,000).
    pub(crate) fn new(seed: u64, rows: u64) -> Self {
        let mut draw = Draw::new(seed, STREAM);
        Self {
            customers: (0..(rows / 25).max(20)).map(|n| customer(&mut draw, n)).collect(),
            products: (0..(rows / 400).clamp(40, 5_000)).map(|n| product(&mut draw, n)).collect(),
            stores: (0..120).map(|n| store(&mut draw, n)).collect(),
        }
    }
}

fn customer(draw: &mut Draw, number: u64) -> Customer {
    let (first, first_ascii) = draw.pick(words::FIRST_NAMES);
    let (last, last_ascii) = draw.pick(words::LAST_NAMES);
    let domain = draw.pick(words::DOMAINS);
    Customer {
        email: format!("{first_ascii}.{last_ascii}{number}@{domain}"),
        name: format!("{first} {last}"),
        place: *draw.pick(words::CITIES),
        segment: words::SEGMENTS[draw.weighted(&words::SEGMENT_WEIGHTS)],
    }
}

fn product(draw: &mut Draw, number: u64) -> Product {
    let (category, prefix, from, below, nouns) = *draw.pick(words::CATEGORIES);
    let name = format!("{} {} {}", draw.pick(words::LOOKS), draw.pick(words::MATERIALS), draw.pick(nouns));
    // Prices end in 90 or 99 cents, as they do.
    let whole = (from + draw.below(below - from)) / 100;
    Product {
        sku: format!("{prefix}-{number:05}"),
        gtin: gtin(number),
        name,
        category,
        brand: if draw.chance(7) { None } else { Some(*draw.pick(words::BRANDS)) },
        list_price: whole * 100 + if draw.chance(60) { 99 } else { 90 },
    }
}

/// The number `200 + number` in the range that GS1 leaves for use inside a company, with its check digit.
fn gtin(number: u64) -> i64 {
    let body = 200_000_000_000 + number;
    let sum: u64 = (0..12).map(|place| (body / 10_u64.pow(place)) % 10 * if place % 2 == 0 { 3 } else { 1 }).sum();
    (body * 10 + (10 - sum % 10) % 10) as i64
}

fn store(draw: &mut Draw, number: u64) -> String {
    let (city, _) = draw.pick(words::CITIES);
    format!("{city} {:03}", number + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Catalog, gtin};

    #[test]
    fn natural_keys_are_unique() {
        let catalog = Catalog::new(1, 100_000);
        let emails: HashSet<_> = catalog.customers.iter().map(|c| &c.email).collect();
        let skus: HashSet<_> = catalog.products.iter().map(|p| &p.sku).collect();
        assert_eq!((emails.len(), skus.len()), (4_000, 250));
    }

    #[test]
    fn the_check_digit_is_that_of_gs1() {
        // Weights 3 and 1 from the right, the sum filled up to a multiple of ten.
        assert_eq!(gtin(0), 2_000_000_000_008);
        assert_eq!(gtin(1), 2_000_000_000_015);
    }
}
