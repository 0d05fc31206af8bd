//! Names: what a column's name says of it, and what tables and ID columns are called. Simple rules of English, for a
//! person who will change what sounds odd. Must never give two tables one name, nor an ID the name of a source column.

use std::collections::HashSet;

use super::coded::Coded;
use super::tables::{Design, Thing};

/// How much a column is like a key, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// It is called a number, a code or a key.
    Number,
    /// It is called by something that tells things apart, such as an e-mail.
    Known,
    /// Its values look like codes.
    Code,
    /// Neither.
    Plain,
}

const NUMBERS: &str = "id ids no nr num number nummer code key uuid guid ref reference sk pk bk";
/// Whatever else is said, these are made to tell things apart.
const SURROGATES: &str = "id uuid guid key sk pk";
const KNOWN: &str = "email mail sku gtin ean upc isbn issn asin iban bic isin imei vin ssn login username slug hash \
    barcode serial account ticket";
/// Of these, the ones that are things themselves: a ticket's number is the key of tickets.
const THINGS: &str = "account ticket";
/// A number of these tells no things apart.
const NO_KEYS: &str = "phone telephone mobile fax street house line lines row position pos seq sequence page version zip \
    postal postcode area tax week month year quarter day date time datetime timestamp ts";
/// What records of such a thing are: its lines.
const DOCUMENTS: &str = "order invoice receipt basket cart shipment delivery purchase sale bill transaction booking quote \
    offer claim bon";
const LINE_NUMBERS: &str = "line lineno linenumber row position pos seq sequence";
const ARTICLES: &str = "sku gtin ean upc asin barcode";
/// What is written together with the word before it: `custkey`, `orderno`.
const GLUED: &str = "number uuid guid code key num id no nr";
/// What only looks like it.
const NOT_GLUED: &str = "paid prepaid unpaid valid invalid void avoid android grid hybrid rapid solid liquid fluid covid \
    squid druid monkey turkey hockey jockey whiskey barcode postcode zipcode geocode unicode lineno linenumber piano \
    casino volcano domino platinum aluminum";
/// Folder names that say nothing of what is in them.
const ANYTHING: &str = "data input inputs in source sources files parquet raw landing part export tmp";
/// A table's name is made of so many letters at the most.
const LONGEST: usize = 60;

/// Whether a word is one of a list.
fn is_in(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|known| known == word)
}

/// Whether the last word is one of a list.
fn ends_in(words: &[String], list: &str) -> bool {
    words.last().is_some_and(|word| is_in(list, word))
}

/// How much a column is like a key.
pub(super) fn rank(column: &Coded) -> Rank {
    let words = words(&column.name);
    if ends_in(&words, SURROGATES) || (words.len() > 1 && words[0] == "id") {
        return Rank::Number;
    }
    if words.iter().any(|word| is_in(NO_KEYS, word)) {
        return Rank::Plain;
    }
    if ends_in(&words, NUMBERS) {
        return Rank::Number;
    }
    let is_address = words.len() > 1 && ends_in(&words, "address");
    if ends_in(&words[..words.len() - usize::from(is_address)], KNOWN) {
        return Rank::Known;
    }
    if column.looks_like_code { Rank::Code } else { Rank::Plain }
}

/// Whether a column's name says that it counts the lines within something.
pub(super) fn is_line_number(name: &str) -> bool {
    let mut words = words(name);
    if words.len() > 1 && ends_in(&words, NUMBERS) {
        words.pop();
    }
    ends_in(&words, LINE_NUMBERS)
}

/// The words of a name, in small letters: `customerEmail`, `customer-email` and `CUSTOMER_EMAIL` have the same two.
fn words(name: &str) -> Vec<String> {
    let (mut words, mut word, mut before) = (Vec::new(), String::new(), ' ');
    for c in name.chars() {
        let is_new = !c.is_ascii_alphanumeric() || (c.is_ascii_uppercase() && before.is_ascii_lowercase());
        if is_new && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    if !word.is_empty() {
        words.push(word);
    }
    // `e_mail` is one word.
    if let Some(at) = words.windows(2).position(|two| two[0] == "e" && two[1] == "mail") {
        words.splice(at..at + 2, ["email".to_owned()]);
    }
    words.iter().flat_map(|word| unglued(word)).collect()
}

/// The word, or the two words of which it is made.
fn unglued(word: &str) -> Vec<String> {
    let end = GLUED.split_whitespace().find(|end| word.ends_with(end) && word.len() >= end.len() + 3);
    match end.filter(|_| !is_in(NOT_GLUED, word)) {
        Some(end) => vec![word[..word.len() - end.len()].to_owned(), end.to_owned()],
        None => vec![word.to_owned()],
    }
}

/// What a key column's name says that its things are, in the singular; `None` if it only says that it is a key.
fn noun(name: &str) -> Option<String> {
    let is_key =
        |word: &String| !is_in(THINGS, word) && [NUMBERS, KNOWN, "address name"].iter().any(|list| is_in(list, word));
    let mut words = words(name);
    while words.last().is_some_and(is_key) {
        words.pop();
    }
    while words.first().is_some_and(is_key) {
        words.remove(0);
    }
    let last = words.pop()?;
    words.push(singular(&last));
    // What is left of `c_name` says nothing.
    (words.len() > 1 || last.len() > 1).then(|| words.join("_"))
}

/// The noun without a letter in front that says where a column comes from: `c_custkey`, `o_orderkey`.
fn short(noun: &str) -> &str {
    match noun.split_once('_') {
        Some((letter, rest)) if letter.len() == 1 => rest,
        _ => noun,
    }
}

fn singular(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ies").filter(|stem| stem.len() > 1) {
        return format!("{stem}y");
    }
    if let Some(stem) =
        ["sses", "ches", "shes", "xes"].iter().find(|end| word.ends_with(**end)).and(word.strip_suffix("es"))
    {
        return stem.to_owned();
    }
    match word.strip_suffix('s') {
        Some(stem) if stem.len() > 1 && !stem.ends_with(['s', 'u', 'i']) => stem.to_owned(),
        _ => word.to_owned(),
    }
}

fn plural(word: &str) -> String {
    let ends = |ends: &[&str]| ends.iter().any(|end| word.ends_with(end));
    if let Some(stem) = word.strip_suffix("person") {
        return format!("{stem}people");
    }
    match word.strip_suffix('y') {
        Some(stem) if !ends(&["ay", "ey", "oy", "uy"]) => format!("{stem}ies"),
        _ if ends(&["s", "x", "z", "ch", "sh"]) => format!("{word}es"),
        _ => format!("{word}s"),
    }
}

/// A name for a pipeline, made of what its files' names have in common, or of their folder's name.
pub(super) fn pipeline<'a>(files: impl Iterator<Item = &'a str>) -> String {
    let files: Vec<&str> = files.collect();
    let Some(first) = files.first() else { return "records".to_owned() };
    let mut parts: Vec<&str> = first.split('/').collect();
    let file = |path: &'a str| path.rsplit('/').next().unwrap_or(path);
    let stem = file(first).split('.').next().unwrap_or_default();
    let common = files.iter().fold(stem, |common, path| {
        let same = common.bytes().zip(file(path).bytes()).take_while(|(a, b)| a == b).count();
        common.get(..same).unwrap_or_default()
    });
    parts.pop();
    // What is the same in numbers is no part of a name: `2026-0`, `part-0000`.
    let common = common.trim_end_matches(|c: char| !c.is_ascii_alphabetic());
    let says_something = |text: &String| !text.is_empty() && !is_in(ANYTHING, text);
    let mut choices = vec![plain(common)];
    choices.extend(parts.iter().rev().map(|part| plain(part)));
    choices.into_iter().find(says_something).unwrap_or_else(|| "records".to_owned())
}

/// The text as a name: small letters, digits and `_`, beginning with a letter.
fn plain(text: &str) -> String {
    let mut name = words(text).join("_");
    name.truncate(LONGEST);
    name.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).to_owned()
}

/// What the tables of a design are called, and their IDs.
#[derive(Debug)]
pub(super) struct Named {
    /// Each table's name.
    pub(super) tables: Vec<String>,
    /// Each table's ID column.
    pub(super) ids: Vec<String>,
}

impl Named {
    /// Names the tables of a design of the pipeline `pipeline`.
    pub(super) fn new(columns: &[Coded], design: &Design, pipeline: &str) -> Self {
        let is_document = |thing: &Thing| {
            let noun = thing.key.first().and_then(|&key| noun(&columns[key].name));
            noun.is_some_and(|noun| noun.split('_').any(|word| is_in(DOCUMENTS, word)))
        };
        let sells = design.tables.iter().any(is_document);
        let taken_columns = columns.iter().map(|column| column.name.to_lowercase()).collect();
        let mut taken = Taken { tables: HashSet::new(), columns: taken_columns };
        let mut named = Self { tables: Vec::new(), ids: Vec::new() };
        let (records, things) = (design.records(), &design.tables[..design.tables.len() - 1]);
        for thing in things {
            let noun = thing_noun(columns, thing, sells);
            let is_free = !taken.tables.contains(&plural(short(&noun)));
            let noun = if is_free { short(&noun) } else { &noun };
            named.push(&mut taken, &plural(noun), noun);
        }
        let document = records.references.iter().find(|&&table| is_document(&design.tables[table]));
        let (table, id) = match (records.key.as_slice(), document) {
            ([key], _) => {
                let noun = noun(&columns[*key].name).unwrap_or_else(|| singular(&plain(pipeline)));
                (plural(&noun), noun)
            }
            (_, Some(&document)) => (format!("{}_lines", singular(&named.tables[document])), "line".to_owned()),
            _ => ("records".to_owned(), "record".to_owned()),
        };
        named.push(&mut taken, &table, &id);
        named
    }

    fn push(&mut self, taken: &mut Taken, table: &str, id: &str) {
        self.tables.push(taken.table(table));
        self.ids.push(taken.id(id));
    }
}

/// What the things of a table are, in the singular.
fn thing_noun(columns: &[Coded], thing: &Thing, sells: bool) -> String {
    let Some(key) = thing.key.first().map(|&key| columns[key].name.as_str()) else { return "record".to_owned() };
    let own = words(key);
    let is = |list: &str| own.iter().any(|word| is_in(list, word));
    match noun(key) {
        Some(noun) => plain(&noun),
        // What an article number is the number of, its other columns may say.
        None if is(ARTICLES) => {
            let said = thing.columns.iter().filter_map(|&column| words(&columns[column].name).into_iter().next());
            said.map(|word| singular(&word)).find(|word| is_in("product item article", word))
        }
        .unwrap_or_else(|| plain(key)),
        None if is("email mail") => if sells { "customer" } else { "person" }.to_owned(),
        None if is("login username") => "user".to_owned(),
        None => plain(key),
    }
}

/// Names that are given.
struct Taken {
    tables: HashSet<String>,
    /// In small letters, because readers fold the case of letters.
    columns: HashSet<String>,
}

impl Taken {
    fn table(&mut self, wanted: &str) -> String {
        let wanted = if wanted.starts_with(|c: char| c.is_ascii_alphanumeric()) { wanted } else { "things" };
        let numbered = (2..).map(|n: u32| format!("{wanted}_{n}"));
        let mut choices = std::iter::once(wanted.to_owned()).chain(numbered);
        let free = choices.find(|name| !self.tables.contains(name)).unwrap_or_else(|| wanted.to_owned());
        self.tables.insert(free.clone());
        free
    }

    fn id(&mut self, noun: &str) -> String {
        let noun = if noun.is_empty() { "thing" } else { noun };
        // `customer_id` is often what the source calls its own key.
        let usual = ["id", "key", "sk", "no"].map(|end| format!("{noun}_{end}"));
        let numbered = (2..).map(|n: u32| format!("{noun}_id_{n}"));
        let mut choices = usual.into_iter().chain(numbered);
        let free = choices.find(|name| !self.columns.contains(name)).unwrap_or_else(|| format!("{noun}_id"));
        self.columns.insert(free.clone());
        free
    }
}

#[cfg(test)]
mod tests {
    use super::{noun, pipeline, plural, singular, words};

    #[test]
    fn words_are_found_however_they_are_joined() {
        for name in ["customer_email", "customerEmail", "Customer Email", "CUSTOMER-EMAIL", "customer_e_mail"] {
            assert_eq!(words(name), ["customer", "email"], "{name}");
        }
        assert_eq!(words("KundenNr"), words("kundennr"));
        assert_eq!(words("is_paid"), ["is", "paid"]);
        assert!(words("ß").is_empty());
    }

    #[test]
    fn a_key_is_called_after_what_it_is_the_key_of() {
        for (key, thing) in [
            ("customer_email", Some("customer")),
            ("order_no", Some("order")),
            ("OrderNumber", Some("order")),
            ("id_store", Some("store")),
            ("customers_id", Some("customer")),
            ("category_code", Some("category")),
            ("product", Some("product")),
            ("ticket_id", Some("ticket")),
            ("orderno", Some("order")),
            ("c_custkey", Some("c_cust")),
            ("c_name", None),
            ("sku", None),
            ("id", None),
        ] {
            assert_eq!(noun(key).as_deref(), thing, "{key}");
        }
    }

    #[test]
    fn plurals_are_simple() {
        for (one, many) in [
            ("customer", "customers"),
            ("category", "categories"),
            ("address", "addresses"),
            ("status", "statuses"),
            ("box", "boxes"),
            ("key", "keys"),
            ("person", "people"),
        ] {
            assert_eq!(plural(one), many);
        }
        for (many, one) in
            [("orders", "order"), ("categories", "category"), ("addresses", "address"), ("status", "status")]
        {
            assert_eq!(singular(many), one);
        }
    }

    #[test]
    fn a_pipeline_is_called_after_its_files() {
        for (files, name) in [
            (&["data/sales-2025-01.parquet", "data/sales-2025-02.parquet"][..], "sales"),
            (&["data/2026-01.parquet", "data/2026-02.parquet"], "records"),
            (&["shop/data/2026-01.parquet"], "shop"),
            (&["orders.parquet"], "orders"),
            (&["x/part-0.parquet", "y/part-1.parquet"], "x"),
        ] {
            assert_eq!(pipeline(files.iter().copied()), name, "{files:?}");
        }
    }
}
