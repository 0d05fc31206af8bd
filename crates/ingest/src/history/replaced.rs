//! Files that others have taken the place of, on their way out. They are known by their names, which nobody else gives:
//! until a reader has heard of those that took their place they stay, and what a crash leaves of them goes later. Must
//! never remove a file that the manifest names.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::manifest::{Manifest, ManifestFile};
use crate::output::Held;
use crate::write::stem;

/// Whether a file is one that another has taken the place of: nobody else gives such names.
pub(crate) fn is_replaced(manifest: &Manifest, name: &str) -> bool {
    let takes_its_place = |file: &ManifestFile| {
        file.rewritten.is_some() && file.path != *name && stem(&file.path) == stem(name) && name.ends_with(".parquet")
    };
    manifest.tables.iter().flat_map(|table| &table.files).any(takes_its_place)
}

/// Removes files that others have taken the place of. Whoever reads by the manifest, or by a log of Delta, has heard of
/// these others by then.
pub(crate) fn remove_replaced(held: &Held, manifest: &Manifest) -> Result<()> {
    for table in manifest.tables.iter().filter(|table| table.files.iter().any(|file| file.rewritten.is_some())) {
        let files = table.files.iter().filter(|file| file.rewritten.is_some());
        let published: BTreeMap<&str, &str> = files.map(|file| (stem(&file.path), file.path.as_str())).collect();
        let is_gone = |name: &String| {
            name.ends_with(".parquet") && published.get(stem(name)).is_some_and(|path| *path != name.as_str())
        };
        let names: Vec<String> = held.output().in_table(&table.table)?.into_iter().filter(is_gone).collect();
        held.remove(&names)?;
    }
    Ok(())
}
