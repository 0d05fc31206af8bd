//! Files as objects: a small one in one request, a large one in parts that travel side by side. Must never leave half
//! an object: parts become one when all have arrived, and are given up otherwise.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use object_store::{MultipartUpload, ObjectStoreExt, PutOptions, PutPayload};

use crate::error::{Error, ErrorKind, Result};
use crate::location::{Entry, Version};
use crate::remote::Remote;
use crate::runtime::wait;

/// The size of a part, and up to which a file is one request. S3 wants 5 MiB at least.
const PART: u64 = 8 << 20;

/// S3 takes 10,000 parts.
const MOST_PARTS: u64 = 9_000;

/// Parts of one file that travel at once.
const AT_ONCE: usize = 4;

/// How often a whole upload is begun anew. Two uploads of one name at once can take each other's parts away.
const ATTEMPTS: usize = 4;

impl Remote {
    /// Puts a local file at `path`, over what may be there.
    pub(crate) fn upload(self: &Arc<Self>, path: String, local: PathBuf) -> Result<Entry> {
        let this = self.clone();
        wait(async move {
            let file = Arc::new(File::open(&local).map_err(|e| Error::io("open", &local, &e))?);
            let size = file.metadata().map_err(|e| Error::io("look at", &local, &e))?.len();
            let version = if size <= PART {
                let bytes = part(&file, &local, 0, size).await?;
                this.put(&path, &bytes, &PutOptions::default()).await?
            } else {
                let mut attempt = 1;
                loop {
                    match this.in_parts(&path, &file, &local, size).await {
                        Err(error) if error.kind == ErrorKind::Unavailable && attempt < ATTEMPTS => attempt += 1,
                        outcome => break outcome?,
                    }
                }
            };
            Ok(Entry { name: path, size, version })
        })
    }

    async fn in_parts(&self, path: &str, file: &Arc<File>, local: &FilePath, size: u64) -> Result<Version> {
        let location = self.path(path)?;
        let upload = self.store().put_multipart(&location).await;
        let mut upload = upload.map_err(|e| self.error("write", path, &e))?;
        self.requests.fetch_add(1, Relaxed);
        let outcome = self.send_parts(&mut *upload, path, file, local, size).await;
        if outcome.is_err() {
            // What cannot be given up is removed by the service in time.
            let _ = upload.abort().await;
        }
        match outcome? {
            Some(version) => Ok(version),
            None => self.version(path).await,
        }
    }

    async fn send_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        path: &str,
        file: &Arc<File>,
        local: &FilePath,
        size: u64,
    ) -> Result<Option<Version>> {
        let length = PART.max(size.div_ceil(MOST_PARTS));
        let mut travelling = FuturesUnordered::new();
        for start in (0..size).step_by(length as usize) {
            let bytes = part(file, local, start, length.min(size - start)).await?;
            if travelling.len() == AT_ONCE {
                self.arrived(path, travelling.next().await)?;
            }
            self.bytes_written.fetch_add(bytes.len() as u64, Relaxed);
            travelling.push(upload.put_part(PutPayload::from_bytes(bytes)));
        }
        while !travelling.is_empty() {
            self.arrived(path, travelling.next().await)?;
        }
        let done = upload.complete().await.map_err(|e| {
            let error = self.error("write", path, &e);
            // Another upload of the same name has ended just now, and Azure has dropped the parts of this one.
            if error.message.contains("InvalidBlockList") {
                return Error::new(ErrorKind::Unavailable, error.message);
            }
            error
        })?;
        Ok(done.e_tag.map(Version))
    }

    fn arrived(&self, path: &str, part: Option<object_store::Result<()>>) -> Result<()> {
        self.requests.fetch_add(1, Relaxed);
        part.transpose().map(|_| ()).map_err(|e| self.error("write", path, &e))
    }
}

async fn part(file: &Arc<File>, local: &FilePath, start: u64, length: u64) -> Result<Bytes> {
    let (file, path) = (file.clone(), local.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, start).map(|()| Bytes::from(bytes)).map_err(|e| Error::io("read", &path, &e))
    });
    read.await.map_err(|e| Error::new(ErrorKind::Other, format!("cannot read {}: {e}", local.display())))?
}
