//! Payloads in a folder that all workers and clients reach, such as a network share.
//!
//! A token is `seriatim-payload:v1:<SHA-256 of the payload, 64 lower-case hexadecimal digits>:<its bytes, decimal>`.
//! The payload is the file `<first two digits>/<64 digits>`, as it is: UTF-8, not compressed. The same payload is one
//! file. Files are written under another name, synced and renamed, so that a file that is there is whole. Nothing is
//! ever removed here, because the store cannot know which instances still need it: files that are older than the oldest
//! instance of the hub may be.
//!
//! This module must never open a path that it did not make out of digits.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use ring::digest::{SHA256, digest};
use uuid::Uuid;

use super::{PayloadError, PayloadStore};

const PREFIX: &str = "seriatim-payload:v1:";

/// A payload store in a folder.
#[derive(Debug, Clone)]
pub struct FolderStore {
    folder: PathBuf,
}

impl FolderStore {
    /// The store in this folder, which is made with the first payload.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(&name[..2]).join(name)
    }

    fn write(&self, name: &str, payload: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        if fs::metadata(&path).is_ok_and(|found| found.len() == payload.len() as u64) {
            return Ok(());
        }
        let folder = self.folder.join(&name[..2]);
        fs::create_dir_all(&folder)?;
        let draft = folder.join(format!(".{}", Uuid::new_v4().as_simple()));
        let written = write_synced(&draft, payload).and_then(|()| fs::rename(&draft, &path));
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&draft);
        }
        written?;
        File::open(&folder)?.sync_all()?;
        File::open(&self.folder)?.sync_all()
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn hash(payload: &[u8]) -> String {
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    digest(&SHA256, payload).as_ref().iter().flat_map(digits).collect()
}

/// The digits and the length in a token.
fn parse(token: &str) -> Option<(&str, u64)> {
    let (name, length) = token.strip_prefix(PREFIX)?.split_once(':')?;
    let digits = name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    Some((name, length.parse().ok()?)).filter(|_| digits)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[async_trait]
impl PayloadStore for FolderStore {
    async fn put(&self, payload: &str) -> Result<String, PayloadError> {
        let (store, payload) = (self.clone(), payload.to_owned());
        let kept = blocking(move || {
            let name = hash(payload.as_bytes());
            store.write(&name, payload.as_bytes())?;
            Ok(format!("{PREFIX}{name}:{}", payload.len()))
        });
        kept.await
            .map_err(|error| PayloadError::Unavailable(format!("cannot write into {}: {error}", self.folder.display())))
    }

    async fn get(&self, token: &str) -> Result<String, PayloadError> {
        let lost = |reason: &str| PayloadError::Lost { token: token.to_owned(), reason: reason.to_owned() };
        let (name, length) = parse(token).ok_or_else(|| lost("it is no token of this store"))?;
        let path = self.path(name);
        let shown = path.display().to_string();
        let bytes = match blocking(move || fs::read(path)).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(lost(&format!("there is no {shown}"))),
            Err(error) => return Err(PayloadError::Unavailable(format!("cannot read {shown}: {error}"))),
        };
        if bytes.len() as u64 != length || hash(&bytes) != name {
            return Err(lost(&format!("{shown} has other bytes")));
        }
        String::from_utf8(bytes).map_err(|_| lost(&format!("{shown} is not UTF-8")))
    }

    fn is_token(&self, text: &str) -> bool {
        parse(text).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_put_comes_back_and_what_was_changed_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::new(folder.path().join("payloads"));
        let token = store.put("\"ü and more\"").await.unwrap();
        assert!(store.is_token(&token), "{token}");
        assert!(serde_json::from_str::<serde_json::Value>(&token).is_err(), "a token must not be JSON");
        assert_eq!(store.put("\"ü and more\"").await.unwrap(), token);
        assert_eq!(store.get(&token).await.unwrap(), "\"ü and more\"");

        let name = token.split(':').nth(2).unwrap();
        let path = folder.path().join("payloads").join(&name[..2]).join(name);
        fs::write(&path, "\"something else\"").unwrap();
        assert!(matches!(store.get(&token).await, Err(PayloadError::Lost { .. })));
        fs::remove_file(&path).unwrap();
        let error = store.get(&token).await.unwrap_err().to_string();
        assert!(error.contains("there is no"), "{error}");
    }

    #[tokio::test]
    async fn nothing_but_a_token_is_taken_for_one() {
        let store = FolderStore::new("/nowhere");
        let digits = "0".repeat(64);
        for text in [
            String::new(),
            "\"text\"".to_owned(),
            format!("{PREFIX}{digits}"),
            format!("{PREFIX}{}:1", "../".repeat(21) + "x"),
            format!("{PREFIX}{}:1", "A".repeat(64)),
            format!("{PREFIX}{digits}:x"),
        ] {
            assert!(!store.is_token(&text), "{text}");
            assert!(matches!(store.get(&text).await, Err(PayloadError::Lost { .. })), "{text}");
        }
        assert!(store.is_token(&format!("{PREFIX}{digits}:7")));
    }
}
