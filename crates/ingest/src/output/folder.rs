//! What an output does that is a folder. Renames and links do the work, so a file that others may read is never written
//! where it lies.

use std::fs::{self, File};
use std::io::ErrorKind::{AlreadyExists, Interrupted, NotFound, Unsupported};
use std::io::Write;
use std::path::Path;

use rustix::io::Errno;
use xxhash_rust::xxh3::xxh3_128;

use super::{FACTS, LOCK, MANIFEST, Put, Version};
use crate::error::{IngestError, Result};
use crate::files::{create_aside, make_folder, remove_file, sync_folder, temporary, write_whole};
use crate::partition::is_folder;
use crate::write::Staged;

pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == NotFound => Ok(None),
        Err(e) => Err(IngestError::io("read", path, &e)),
    }
}

pub(super) fn version(bytes: &[u8]) -> Version {
    Version::File(xxh3_128(bytes))
}

/// Replaces the manifest that was `seen`. Where `others` may do the same, a lock keeps two of them from doing it at once: a
/// worker that stood still since it looked must not take back what has been published meanwhile.
pub(super) fn put_manifest(output: &Path, bytes: &[u8], seen: Option<&Version>, others: bool) -> Result<Put> {
    let path = output.join(MANIFEST);
    make_folder(path.parent().unwrap_or(&path))?;
    let _locked = if others { lock(output)? } else { None };
    if read(&path)?.map(|bytes| version(&bytes)).as_ref() != seen {
        return Ok(Put::Refused);
    }
    write_whole(&path, bytes)?;
    Ok(Put::Done)
}

/// The lock, which is let go when the file is closed; `None` on a file system that has no locks.
fn lock(output: &Path) -> Result<Option<File>> {
    let path = output.join(FACTS).join(LOCK);
    make_folder(path.parent().unwrap_or(&path))?;
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| IngestError::io("open", &path, &e))?;
    loop {
        match file.lock() {
            Ok(()) => return Ok(Some(file)),
            Err(e) if e.kind() == Interrupted => {}
            Err(e) if e.kind() == Unsupported || e.raw_os_error() == Some(Errno::NOLCK.raw_os_error()) => {
                return Ok(None);
            }
            Err(e) => return Err(IngestError::io("lock", &path, &e)),
        }
    }
}

pub(super) fn size(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(e) if e.kind() == NotFound => Ok(None),
        Err(e) => Err(IngestError::io("look at", path, &e)),
    }
}

pub(super) fn children(folder: &Path) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.map_err(|e| IngestError::io("list", folder, &e))?;
        Ok(entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect()
}

/// What is in a table's folder, and in those of its partitions. A partition's folder counts for what is in it.
pub(super) fn in_table(output: &Path, table: &str) -> Result<Vec<String>> {
    let (mut names, mut open) = (Vec::new(), vec![table.to_owned()]);
    while let Some(folder) = open.pop() {
        for name in children(&output.join(&folder))? {
            let inside = format!("{folder}/{name}");
            if is_folder(&name) && output.join(&inside).is_dir() { open.push(inside) } else { names.push(inside) }
        }
    }
    Ok(names)
}

/// Gives a file that nobody changes any more a second name: costs no room and no reading where both are on one file
/// system, else it is copied. The folder of `to` is not synced.
pub(super) fn link(from: &Path, to: &Path) -> Result<()> {
    let temporary = temporary(to);
    remove_file(&temporary)?;
    if fs::hard_link(from, &temporary).is_err() {
        // Into a new file only: a link that is there after all is `from` itself, which copying would empty.
        let (_, mut file) = create_aside(to)?;
        let copied = File::open(from).and_then(|mut from| std::io::copy(&mut from, &mut file));
        copied.and_then(|_| file.sync_all()).map_err(|e| IngestError::io("copy", from, &e))?;
    }
    fs::rename(&temporary, to).map_err(|e| IngestError::io("rename", &temporary, &e))?;
    // Renaming one name of a file onto another of the same file leaves both.
    remove_file(&temporary)
}

/// Gives new bytes a name that nothing has yet. Until then they are among the facts, where leftovers are cleared away.
pub(super) fn put_new(output: &Path, name: &str, bytes: &[u8]) -> Result<Put> {
    let path = output.join(name);
    let folder = path.parent().unwrap_or(output);
    make_folder(folder)?;
    let facts = output.join(FACTS);
    make_folder(&facts)?;
    let (aside, mut file) = create_aside(&facts.join(name.replace('/', ".")))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| IngestError::io("write", &aside, &e))?;
    let put = match fs::hard_link(&aside, &path) {
        Ok(()) => Put::Done,
        Err(e) if e.kind() == AlreadyExists => Put::Refused,
        Err(_) if size(&path)?.is_some() => Put::Refused,
        // A file system without links; who holds the output is alone.
        Err(_) => {
            fs::rename(&aside, &path).map_err(|e| IngestError::io("rename", &aside, &e))?;
            Put::Done
        }
    };
    remove_file(&aside)?;
    sync_up(folder, output)?;
    Ok(put)
}

/// Syncs a folder and those above it, up to the output's: any of them may be new.
fn sync_up(folder: &Path, output: &Path) -> Result<()> {
    folder.ancestors().take_while(|above| above.starts_with(output)).try_for_each(|above| sync_folder(&above.join("_")))
}

/// Gives a staged file its final name. It may have it already.
fn place(from: &Path, to: &Path, bytes: u64) -> Result<()> {
    if size(from)? == Some(bytes) {
        make_folder(to.parent().unwrap_or(to))?;
        return fs::rename(from, to).map_err(|e| IngestError::io("rename", from, &e));
    }
    if size(to)? == Some(bytes) {
        return Ok(());
    }
    Err(super::not_as_staged(&from.display().to_string()))
}

/// Gives staged files their final names, and has that on disk.
pub(super) fn place_all(output: &Path, files: &[(String, String, &Staged)]) -> Result<()> {
    make_folder(output)?;
    for (from, to, file) in files {
        place(&output.join(from), &output.join(to), file.bytes)?;
    }
    let mut folders: Vec<_> =
        files.iter().filter_map(|(_, to, _)| output.join(to).parent().map(Path::to_owned)).collect();
    // Those of partitions may be new, and what they are in.
    let above = |folder: &Path| folder.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>();
    let partitions: Vec<_> = folders.iter().filter(|folder| folder.parent() != Some(output)).cloned().collect();
    folders.extend(partitions.iter().flat_map(|folder| above(folder)).filter(|above| above.starts_with(output)));
    if !partitions.is_empty() {
        folders.sort();
    }
    folders.dedup();
    // The folders themselves may be new.
    folders.push(output.to_owned());
    folders.iter().try_for_each(|folder| sync_folder(&folder.join("_")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker stands still before it puts the manifest; meanwhile others publish its run, and the next one.
    #[test]
    fn g8_a_manifest_that_others_have_moved_on_from_is_not_put() {
        let output = tempfile::tempdir().expect("a folder");
        let put = |text: &str, seen: Option<&Version>| {
            put_manifest(output.path(), text.as_bytes(), seen, true).expect("the folder can be written to")
        };
        let now = || read(&output.path().join(MANIFEST)).expect("it can be read").expect("it is there");
        assert_eq!(put("run 1", None), Put::Done);
        let seen = version(&now());
        assert_eq!(put("run 2", Some(&seen)), Put::Done);
        for late in [None, Some(&seen)] {
            assert_eq!(put("run 1 again", late), Put::Refused);
            assert_eq!(now(), b"run 2");
        }
    }

    /// Many workers at once: each puts what it adds to what it saw, and nothing that was put is lost.
    #[test]
    fn g8_of_those_that_put_a_manifest_at_once_none_takes_back_what_another_has_put() {
        let output = tempfile::tempdir().expect("a folder");
        let add = |own: u8| {
            for _ in 0..25 {
                loop {
                    let seen = read(&output.path().join(MANIFEST)).expect("it can be read");
                    let next = [seen.as_deref().unwrap_or_default(), &[own]].concat();
                    let seen = seen.as_deref().map(version);
                    if put_manifest(output.path(), &next, seen.as_ref(), true).expect("a put") == Put::Done {
                        break;
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            (0..4).for_each(|own| {
                scope.spawn(move || add(own));
            });
        });
        let all = read(&output.path().join(MANIFEST)).expect("it can be read").expect("it is there");
        let mut counts = [0; 4];
        for own in all {
            counts[usize::from(own)] += 1;
        }
        assert_eq!(counts, [25; 4]);
    }
}
