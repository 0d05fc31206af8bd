//! Objects of one container, through its service's client. Requests that failed on the way are repeated: by the client
//! library, and here what it does not repeat (a list or an object whose body breaks off, a conditional write whose
//! answer was lost). Must never take bytes of another version than the one that was asked for, nor fewer of them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, CopyMode, CopyOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutOptions, PutPayload, UpdateVersion,
};
use tokio::sync::{Semaphore, mpsc};

use crate::clouds::{Client, connect};
use crate::environment::Environment;
use crate::error::{Error, ErrorKind, Result};
use crate::location::{Created, Entry, Replaced, Version};
use crate::place::Cloud;
use crate::ranges::requests;
use crate::runtime::{start, wait};

/// Requests for data that run at once in this process, all containers together.
static DATA_REQUESTS: Semaphore = Semaphore::const_new(16);

/// Of them, those of one call.
const AT_ONCE: usize = 6;

/// The name of the mark that a conditional write leaves on its object, by which its writer knows it again.
const MARK: &str = "seriatimwrite";

/// A container at a service.
pub(crate) struct Remote {
    pub(crate) client: Client,
    /// What stands before an object's path when it is shown: `az://container`.
    pub(crate) root: String,
    pub(crate) timeout: Duration,
    /// Whether a condition is on the generation that the service counts, not on the e-tag.
    by_generation: bool,
    pub(crate) requests: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
}

impl Remote {
    /// The container; the same client for all places in it, so that connections are shared.
    pub(crate) fn open(cloud: &Cloud, container: &str, root: &str, environment: &Environment) -> Result<Arc<Self>> {
        type Key = (String, Environment);
        static OPEN: Mutex<Vec<(Key, Arc<Remote>)>> = Mutex::new(Vec::new());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |key: &Key| key.0 == root && key.1 == *environment;
        if let Some((_, remote)) = open.iter().find(|(key, _)| is_same(key)) {
            return Ok(remote.clone());
        }
        let remote = Arc::new(Self {
            client: connect(cloud, container, environment)?,
            root: root.to_owned(),
            timeout: environment.timeout(),
            by_generation: *cloud == Cloud::Google,
            requests: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
        });
        open.push(((root.to_owned(), environment.clone()), remote.clone()));
        Ok(remote)
    }

    pub(crate) fn shown(&self, path: &str) -> String {
        format!("{}/{path}", self.root)
    }

    pub(crate) fn store(&self) -> &dyn ObjectStore {
        &*self.client.objects
    }

    pub(crate) fn error(&self, doing: &str, path: &str, error: &object_store::Error) -> Error {
        Error::from_service(doing, &self.shown(path), error, &self.client.advice)
    }

    pub(crate) fn path(&self, path: &str) -> Result<Path> {
        Path::parse(path).map_err(|e| Error::invalid(format!("{} is no name of an object: {e}", self.shown(path))))
    }

    /// Does something that may be done again, until it succeeds, fails for good, or its time is up. The client library
    /// repeats requests that failed; what fails after the answer began comes here.
    pub(crate) async fn repeated<T, F: Future<Output = Result<T>>>(&self, mut work: impl FnMut() -> F) -> Result<T> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            self.requests.fetch_add(1, Relaxed);
            match work().await {
                Err(error) if error.kind == ErrorKind::Unavailable && began.elapsed() + pause < self.timeout => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                outcome => return outcome,
            }
        }
    }

    /// All objects whose path is longer than `prefix` and begins with it, by path.
    pub(crate) fn list(self: &Arc<Self>, prefix: String) -> Result<Vec<Entry>> {
        let this = self.clone();
        wait(async move {
            let mut entries: Vec<Entry> = Vec::new();
            let mut token: Option<String> = None;
            loop {
                let page = this.repeated(async || {
                    let options = PaginatedListOptions { page_token: token.clone(), ..PaginatedListOptions::default() };
                    let asked = (!prefix.is_empty()).then_some(prefix.as_str());
                    let page = this.client.pages.list_paginated(asked, options).await;
                    page.map_err(|e| this.error("list", &prefix, &e))
                });
                let page = page.await?;
                entries.extend(page.result.objects.into_iter().map(entry));
                token = page.page_token;
                if token.is_none() {
                    break;
                }
            }
            entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            entries.dedup_by(|a, b| a.name == b.name);
            Ok(entries)
        })
    }

    /// What an object is now; `None` if there is none.
    pub(crate) fn head(self: &Arc<Self>, path: String) -> Result<Option<Entry>> {
        let this = self.clone();
        wait(async move { Ok(this.look(&path).await?.map(|(entry, _)| entry)) })
    }

    /// The same, with the mark of who wrote it.
    async fn look(&self, path: &str) -> Result<Option<(Entry, Option<String>)>> {
        let location = self.path(path)?;
        let looked = self.repeated(async || {
            let options = GetOptions { head: true, ..GetOptions::default() };
            let looked = self.store().get_opts(&location, options).await;
            looked.map_err(|e| self.error("look at", path, &e))
        });
        match looked.await {
            Ok(found) => {
                let mark = found.attributes.get(&Attribute::Metadata(MARK.into())).map(|value| value.to_string());
                Ok(Some((entry(found.meta), mark)))
            }
            // An answer without a body does not say whether it is the object that is missing, or its container.
            Err(error) if error.kind == ErrorKind::NotFound => match self.get(path, Some(0..1), None).await {
                Err(error) if is_absent(&error) => Ok(None),
                Err(error) => Err(error),
                // It came just now.
                Ok(_) => {
                    Err(Error::new(ErrorKind::Unavailable, format!("{} came while it was looked at", self.shown(path))))
                }
            },
            Err(error) => Err(error),
        }
    }

    /// An object's bytes, or some of them, and its version.
    async fn get(&self, path: &str, range: Option<Range<u64>>, version: Option<&Version>) -> Result<(Bytes, Version)> {
        let location = self.path(path)?;
        self.repeated(async || {
            let _turn = DATA_REQUESTS.acquire().await.map_err(|e| Error::new(ErrorKind::Other, e.to_string()))?;
            let options = GetOptions {
                range: range.clone().map(GetRange::Bounded),
                if_match: version.map(|version| version.0.clone()),
                ..GetOptions::default()
            };
            let result = self.store().get_opts(&location, options).await.map_err(|e| self.error("read", path, &e))?;
            let found = version_of(&result.meta);
            if version.is_some_and(|version| *version != found) {
                return Err(Error::changed(&self.shown(path)));
            }
            let expected = result.range.end - result.range.start;
            let bytes = result.bytes().await.map_err(|e| self.error("read", path, &e))?;
            self.bytes_read.fetch_add(bytes.len() as u64, Relaxed);
            if bytes.len() as u64 != expected {
                let text = format!("{} of {expected} bytes of {} came", bytes.len(), self.shown(path));
                return Err(Error::new(ErrorKind::Unavailable, text));
            }
            Ok((bytes, found))
        })
        .await
    }

    /// A whole object; `None` if there is none.
    pub(crate) fn read(self: &Arc<Self>, path: String) -> Result<Option<(Bytes, Version)>> {
        let this = self.clone();
        wait(async move {
            match this.get(&path, None, None).await {
                Err(error) if is_absent(&error) => Ok(None),
                outcome => outcome.map(Some),
            }
        })
    }

    /// Fetches what `ranges` cover, several requests at once, and gives each part to `keep` with its place, in any
    /// order. Parts may hold bytes between two ranges, and more than one range.
    pub(crate) fn fetch(
        self: &Arc<Self>,
        path: &str,
        ranges: &[Range<u64>],
        version: Option<&Version>,
        mut keep: impl FnMut(u64, Bytes) -> Result<()>,
    ) -> Result<()> {
        let parts = requests(ranges);
        let (sender, mut receiver) = mpsc::channel(AT_ONCE);
        let (this, path, version) = (self.clone(), path.to_owned(), version.cloned());
        start(async move {
            let fetches = futures::stream::iter(parts).map(|part| {
                let (this, path, version) = (&this, &path, version.as_ref());
                async move {
                    let (bytes, _) = this.get(path, Some(part.clone()), version).await?;
                    if bytes.len() as u64 != part.end - part.start {
                        // The object ends earlier than the caller believes.
                        return Err(Error::changed(&this.shown(path)));
                    }
                    Ok((part.start, bytes))
                }
            });
            let mut fetches = fetches.buffer_unordered(AT_ONCE);
            while let Some(fetched) = fetches.next().await {
                let failed = fetched.is_err();
                // After a failure, and when nobody takes the bytes any more, the rest is not fetched.
                if sender.send(fetched).await.is_err() || failed {
                    break;
                }
            }
        })?;
        while let Some(fetched) = futures::executor::block_on(receiver.recv()) {
            let (place, bytes) = fetched?;
            keep(place, bytes)?;
        }
        Ok(())
    }

    /// Writes an object, whole or not at all, over what may be there.
    pub(crate) fn write(self: &Arc<Self>, path: String, bytes: Bytes) -> Result<Version> {
        let this = self.clone();
        wait(async move { this.put(&path, &bytes, &PutOptions::default()).await })
    }

    pub(crate) async fn put(&self, path: &str, bytes: &Bytes, options: &PutOptions) -> Result<Version> {
        let location = self.path(path)?;
        let outcome = self.repeated(async || self.put_once(path, &location, bytes, options.clone()).await).await?;
        match outcome {
            Some(version) => Ok(version),
            None => self.version(path).await,
        }
    }

    async fn put_once(
        &self,
        path: &str,
        location: &Path,
        bytes: &Bytes,
        options: PutOptions,
    ) -> Result<Option<Version>> {
        let _turn = DATA_REQUESTS.acquire().await.map_err(|e| Error::new(ErrorKind::Other, e.to_string()))?;
        let put = self.store().put_opts(location, PutPayload::from_bytes(bytes.clone()), options).await;
        let put = put.map_err(|e| match e {
            object_store::Error::AlreadyExists { .. } => Error::changed(&self.shown(path)),
            e => self.error("write", path, &e),
        })?;
        self.bytes_written.fetch_add(bytes.len() as u64, Relaxed);
        Ok(put.e_tag.map(Version))
    }

    /// The version of an object that was just written.
    pub(crate) async fn version(&self, path: &str) -> Result<Version> {
        let found = self.look(path).await?;
        found.map(|(entry, _)| entry.version).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{} is gone right after it was written", self.shown(path)))
        })
    }

    /// Writes an object if there is none.
    pub(crate) fn create(self: &Arc<Self>, path: String, bytes: Bytes) -> Result<Created> {
        let this = self.clone();
        wait(async move {
            Ok(match this.conditional(&path, &bytes, PutMode::Create).await? {
                Some(version) => Created::Created(version),
                None => Created::Exists,
            })
        })
    }

    /// Writes an object if it is still the one of `version`.
    pub(crate) fn replace(self: &Arc<Self>, path: String, bytes: Bytes, version: Version) -> Result<Replaced> {
        let this = self.clone();
        wait(async move {
            let mut wanted = UpdateVersion { e_tag: Some(version.0.clone()), version: None };
            if this.by_generation {
                let location = this.path(&path)?;
                let found = this.repeated(async || {
                    this.store().head(&location).await.map_err(|e| this.error("look at", &path, &e))
                });
                match found.await {
                    Ok(meta) if meta.e_tag.as_deref() == Some(&version.0) => wanted.version = meta.version,
                    Ok(_) => return Ok(Replaced::Changed),
                    Err(error) if is_absent(&error) => return Ok(Replaced::Changed),
                    Err(error) => return Err(error),
                }
            }
            Ok(match this.conditional(&path, &bytes, PutMode::Update(wanted)).await? {
                Some(version) => Replaced::Replaced(version),
                None => Replaced::Changed,
            })
        })
    }

    /// A write under a condition; `None` if it does not hold. The object is marked, because a request that is repeated
    /// may meet what it has itself written the first time, and that is no other writer's.
    async fn conditional(&self, path: &str, bytes: &Bytes, mode: PutMode) -> Result<Option<Version>> {
        let location = self.path(path)?;
        let mark = uuid::Uuid::new_v4().as_simple().to_string();
        let attributes = Attributes::from_iter([(Attribute::Metadata(MARK.into()), mark.clone())]);
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        self.repeated(async || {
            let error = match self.put_once(path, &location, bytes, options.clone()).await {
                Ok(Some(version)) => return Ok(Some(version)),
                Ok(None) => return self.version(path).await.map(Some),
                Err(error) => error,
            };
            // S3 has 404 where the object of a condition is missing; a missing container is another matter.
            let does_not_hold = error.kind == ErrorKind::Changed || is_absent(&error);
            if !does_not_hold && error.kind != ErrorKind::Unavailable {
                return Err(error);
            }
            match self.look(path).await? {
                Some((entry, found)) if found.as_deref() == Some(&mark) => Ok(Some(entry.version)),
                _ if does_not_hold => Ok(None),
                // The answer was lost, and nothing was written: once more.
                _ => Err(error),
            }
        })
        .await
    }

    /// Copies an object within the service; with `absent`, only where none is. Whether it was copied.
    pub(crate) fn copy(self: &Arc<Self>, from: String, to: String, absent: bool) -> Result<bool> {
        let this = self.clone();
        wait(async move {
            let (source, target) = (this.path(&from)?, this.path(&to)?);
            let mode = if absent { CopyMode::Create } else { CopyMode::Overwrite };
            this.repeated(async || {
                let options = CopyOptions { mode, ..CopyOptions::default() };
                match this.store().copy_opts(&source, &target, options).await {
                    Ok(()) => Ok(true),
                    Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })
                        if absent =>
                    {
                        Ok(false)
                    }
                    Err(error) => Err(this.error("copy", &from, &error)),
                }
            })
            .await
        })
    }

    /// Removes objects; those that are not there are no error.
    pub(crate) fn delete(self: &Arc<Self>, paths: Vec<String>) -> Result<()> {
        let this = self.clone();
        wait(async move {
            let locations: Vec<Path> = paths.iter().map(|path| this.path(path)).collect::<Result<_>>()?;
            let shown = paths.first().cloned().unwrap_or_default();
            this.repeated(async || {
                let all = futures::stream::iter(locations.clone().into_iter().map(Ok)).boxed();
                let mut deleted = this.store().delete_stream(all);
                while let Some(outcome) = deleted.next().await {
                    match outcome {
                        Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                        Err(error) => {
                            let error = this.error("remove", &shown, &error);
                            if !is_absent(&error) {
                                return Err(error);
                            }
                        }
                    }
                }
                Ok(())
            })
            .await
        })
    }
}

/// The object is not there; not: there is no such container.
fn is_absent(error: &Error) -> bool {
    error.kind == ErrorKind::NotFound && error.help.is_none()
}

fn entry(meta: ObjectMeta) -> Entry {
    let version = version_of(&meta);
    Entry { name: meta.location.into(), size: meta.size, version }
}

fn version_of(meta: &ObjectMeta) -> Version {
    let stamp = || meta.last_modified.timestamp_nanos_opt().unwrap_or_default().to_string();
    Version(meta.e_tag.clone().unwrap_or_else(stamp))
}
