//! The core's promise to do no I/O, to read no clock and to draw no randomness, checked in its sources.

use std::path::Path;

/// What the core must not name, and what it has instead.
const BANNED: [(&str, &str); 15] = [
    ("std::fs", "the host's store"),
    ("std::net", "the host"),
    ("std::env", "`CoreConfig`"),
    ("std::thread", "the host"),
    ("std::process", "the host"),
    ("tokio", "`Input` and `Effects`"),
    ("rusqlite", "`Write`"),
    ("SystemTime::now", "the clock's reading that comes with each input"),
    ("Instant::now", "the clock's reading that comes with each input"),
    ("uuid", "`next_unique_id`"),
    ("rand", "`next_unique_id`"),
    ("HashMap", "`BTreeMap`, whose order is always the same"),
    ("HashSet", "`BTreeSet`, whose order is always the same"),
    ("println!", "nothing: the core is silent"),
    ("tracing", "nothing: the core is silent"),
];

/// The source without comments and without its unit tests.
fn code(source: &str) -> String {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_core_does_no_io_reads_no_clock_and_draws_no_randomness() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let code = code(&std::fs::read_to_string(&path).unwrap());
        files += 1;
        for (banned, instead) in BANNED {
            assert!(!code.contains(banned), "{} uses {banned}; use {instead}", path.display());
        }
    }
    assert!(files > 10, "the core's sources were found");
}
