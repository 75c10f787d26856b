//! The registrations of the admin socket on disk, so that they outlive the process: ids and tokens as digests, no credentials.
//!
//! A change is on disk when the call returns, in the file that the next process will open. A file that is not whole is set aside, never
//! used and never removed. The file gets its name when it is whole, so that an empty one is a loss and not a beginning.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, WriteTransaction,
};
use taskcreds_core::{IdDigest, Registration};

use super::folder::Folder;
use super::record::Record;
use crate::failure::{Exit, Failure};

/// A registration as JSON, by the digest of its credentials id.
const REGISTRATIONS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("registrations");
/// One number: the version of what stands in the other table.
const FORMAT: TableDefinition<'_, (), u32> = TableDefinition::new("format");
const FORMAT_VERSION: u32 = 1;

const FILE: &str = "registrations.redb";
/// What becomes the file when it is whole.
const NEXT: &str = "registrations.redb.new";
/// What the name of a file that was set aside begins with.
const ASIDE: &str = "registrations.redb.corrupt-";
/// Some thousand registrations take a megabyte.
const CACHE: usize = 1024 * 1024;

/// The store.
pub struct Store {
    /// `None` after the disk has failed: the library takes nothing more until the file is opened anew.
    database: Mutex<Option<Database>>,
    path: PathBuf,
    place: Mutex<Place>,
}

/// Where the file is that is open.
struct Place {
    folder: Arc<Folder>,
    file: Identity,
}

/// What tells a file from every other one that is there: its device and inode.
type Identity = (u64, u64);

/// A file that is open, and what it holds.
struct Opened {
    database: Database,
    file: Identity,
    registrations: Vec<Registration>,
}

/// Why the store could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("the store in {} takes no changes: {cause}; see that its disk has room and is writable", folder.display())]
pub struct StoreError {
    folder: PathBuf,
    cause: String,
}

/// Why a file is not taken for a store.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    /// It is not whole.
    #[error("{0}")]
    Corrupt(String),
    /// It may be whole: another program holds it, it is newer, or the machine cannot read it.
    #[error("{0}")]
    Kept(String),
}

impl Store {
    /// Opens the store in this folder, or makes it there, and reads what is registered.
    ///
    /// A store that is not whole is set aside: renamed, told in the log, told by [`Store::set_aside`] for as long as the renamed file
    /// is there.
    ///
    /// # Errors
    /// The folder cannot be used, or the file cannot be read though it may be whole.
    pub fn open(path: &Path) -> Result<(Self, Vec<Registration>), Failure> {
        let folder = Folder::open(path)?;
        let opened = match Self::read(&folder) {
            Ok(opened) => opened,
            Err(Unusable::Kept(why)) => return Err(cannot(path, &why)),
            Err(Unusable::Corrupt(why)) => {
                let stamp = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
                // A second one within the second must not take the place of the first.
                let aside = format!("{ASIDE}{}-{}", stamp.replace(':', ""), uuid::Uuid::new_v4().simple());
                folder.rename(FILE, &aside).map_err(|error| cannot(path, &error.to_string()))?;
                tracing::error!(
                    "the store {} is not whole ({why}): it was set aside as {aside}; what was registered over the admin socket is \
                     gone until it is registered again",
                    path.join(FILE).display()
                );
                Self::read(&folder).map_err(|why| cannot(path, &why.to_string()))?
            }
        };
        let Opened { database, file, registrations } = opened;
        let place = Mutex::new(Place { folder: Arc::new(folder), file });
        Ok((Self { database: Mutex::new(Some(database)), path: path.to_owned(), place }, registrations))
    }

    /// Opens the file in this folder, or makes one that holds nothing.
    fn read(folder: &Folder) -> Result<Opened, Unusable> {
        let kept = |error: io::Error| Unusable::Kept(format!("{FILE}: {error}"));
        let Some(file) = folder.file(FILE).map_err(kept)? else {
            let made = folder.alone(|| {
                if folder.file(FILE).map_err(kept)?.is_some() {
                    return Err(in_use());
                }
                let opened = Self::opened(folder.make(NEXT).map_err(kept)?)?;
                folder.rename(NEXT, FILE).map_err(kept)?;
                Ok(opened)
            });
            return made.unwrap_or_else(|| Err(in_use()));
        };
        if file.metadata().map_err(kept)?.len() == 0 {
            return Err(Unusable::Corrupt("it is empty".to_owned()));
        }
        Self::opened(file)
    }

    fn opened(file: File) -> Result<Opened, Unusable> {
        let identity = file.metadata().map(|about| identity(&about));
        let identity = identity.map_err(|error| Unusable::Kept(format!("{FILE}: {error}")))?;
        // A file that was altered may have the library panic instead of refusing it.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let database = database(file)?;
            let registrations = registrations(&database)?;
            Ok(Opened { database, file: identity, registrations })
        }));
        read.unwrap_or_else(|_| Err(Unusable::Corrupt("reading it ended in a panic".to_owned())))
    }

    /// Puts these in and takes those out, in one step.
    ///
    /// # Errors
    /// [`StoreError`]; whether the change is on disk is not known then, and [`Store::replace`] has to follow.
    pub fn change(&self, put: &[&Registration], remove: &[IdDigest]) -> Result<(), StoreError> {
        let mut database = self.database();
        // Taken out, so that what a failure leaves behind is closed and not used again.
        let open = database.take().filter(|_| self.is_in_place()).ok_or_else(|| self.gone())?;
        self.commit(&mut database, open, |transaction| apply(transaction, put, remove))
    }

    /// Makes these and no others what the store holds, in one step. After a failure the file is opened anew, and where it is gone it is made
    /// anew.
    ///
    /// # Errors
    /// As [`Store::change`].
    pub fn replace(&self, all: &[&Registration]) -> Result<(), StoreError> {
        let mut database = self.database();
        let open = database.take().filter(|_| self.is_in_place()).map_or_else(|| self.reopened(), Ok)?;
        self.commit(&mut database, open, |transaction| {
            let stays: HashSet<_> = all.iter().map(|one| *one.id.bytes()).collect();
            transaction.open_table(REGISTRATIONS)?.retain(|id, _| stays.contains(id))?;
            apply(transaction, all, &[])
        })
    }

    fn commit(
        &self,
        place: &mut Option<Database>,
        database: Database,
        work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let changed = database.begin_write().map_err(redb::Error::from).and_then(|transaction| {
            work(&transaction)?;
            Ok(transaction.commit()?)
        });
        changed.map_err(|cause| self.failed(cause.to_string()))?;
        // What is in a file that the next process does not find is not on disk.
        if !self.is_in_place() {
            return Err(self.gone());
        }
        *place = Some(database);
        Ok(())
    }

    fn reopened(&self) -> Result<Database, StoreError> {
        let folder = Folder::open(&self.path).map_err(|failure| self.failed(failure.message))?;
        let Opened { database, file, registrations: _ } =
            Self::read(&folder).map_err(|why| self.failed(format!("{FILE}: {why}")))?;
        *self.place() = Place { folder: Arc::new(folder), file };
        Ok(database)
    }

    /// Whether the file that is open is still the one in the folder: not removed, emptied or replaced by somebody else.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        let there = std::fs::symlink_metadata(self.file());
        there.is_ok_and(|there| identity(&there) == self.place().file && there.len() > 0)
    }

    /// The path of the file.
    pub(super) fn file(&self) -> PathBuf {
        self.path.join(FILE)
    }

    fn gone(&self) -> StoreError {
        self.failed(format!("{FILE} was removed or replaced while it is in use"))
    }

    fn failed(&self, cause: String) -> StoreError {
        StoreError { folder: self.path.clone(), cause }
    }

    fn database(&self) -> MutexGuard<'_, Option<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Held for no longer than it takes to read or to set it.
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file that was set aside, if there is one.
    ///
    /// # Errors
    /// The folder cannot be read any more.
    pub fn set_aside(&self) -> io::Result<Option<String>> {
        let folder = Arc::clone(&self.place().folder);
        Ok(folder.names()?.into_iter().find(|name| name.starts_with(ASIDE)))
    }
}

fn identity(about: &Metadata) -> Identity {
    (about.dev(), about.ino())
}

fn in_use() -> Unusable {
    Unusable::Kept("another taskcreds is using it".to_owned())
}

fn cannot(folder: &Path, why: &str) -> Failure {
    let message = format!("cannot open the store in {}: {why} (--state-dir names another folder)", folder.display());
    Failure::new(Exit::Unavailable, message)
}

fn database(file: File) -> Result<Database, Unusable> {
    let backend = FileBackend::new(file).map_err(unusable)?;
    let database = Builder::new()
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(true)
        .create_with_backend(backend)
        .map_err(unusable)?;
    let made = database.begin_write().map_err(redb::Error::from).and_then(|transaction| {
        transaction.open_table(REGISTRATIONS)?;
        {
            let mut format = transaction.open_table(FORMAT)?;
            if format.get(())?.is_none() {
                format.insert((), FORMAT_VERSION)?;
            }
        }
        Ok(transaction.commit()?)
    });
    made.map_err(other)?;
    Ok(database)
}

fn registrations(database: &Database) -> Result<Vec<Registration>, Unusable> {
    let read = || {
        let transaction = database.begin_read()?;
        let format = transaction.open_table(FORMAT)?.get(())?.map(|version| version.value());
        let table = transaction.open_table(REGISTRATIONS)?;
        let records = table.iter()?.map(|entry| {
            let (id, record) = entry?;
            Ok((IdDigest::from_bytes(*id.value()), record.value().to_vec()))
        });
        Ok::<_, redb::Error>((format, records.collect::<Result<Vec<_>, redb::Error>>()?))
    };
    let (format, records) = read().map_err(other)?;
    if format != Some(FORMAT_VERSION) {
        let format = format.map_or("none".to_owned(), |version| version.to_string());
        return Err(Unusable::Kept(format!("its format is {format} and this program knows {FORMAT_VERSION} only")));
    }
    let parsed = records.into_iter().map(|(id, record)| {
        let record: Record = serde_json::from_slice(&record)
            .map_err(|error| Unusable::Corrupt(format!("registration {id}: {error}")))?;
        record.registration(id).map_err(|invalid| Unusable::Corrupt(format!("registration {id}: {invalid}")))
    });
    parsed.collect()
}

fn apply(transaction: &WriteTransaction, put: &[&Registration], remove: &[IdDigest]) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(REGISTRATIONS)?;
    for id in remove {
        table.remove(id.bytes())?;
    }
    for registration in put {
        let Some(record) = Record::of(registration) else { continue };
        let json = serde_json::to_vec(&record).map_err(|error| redb::Error::Io(error.into()))?;
        table.insert(registration.id.bytes(), json.as_slice())?;
    }
    Ok(())
}

fn unusable(error: DatabaseError) -> Unusable {
    match error {
        DatabaseError::DatabaseAlreadyOpen => in_use(),
        DatabaseError::Storage(StorageError::Corrupted(why)) => Unusable::Corrupt(why),
        // A file too short for its own header, or with another one.
        DatabaseError::Storage(StorageError::Io(error))
            if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            Unusable::Corrupt(error.to_string())
        }
        error => Unusable::Kept(error.to_string()),
    }
}

fn other(error: redb::Error) -> Unusable {
    match error {
        redb::Error::Io(_) | redb::Error::PreviousIo => Unusable::Kept(error.to_string()),
        error => Unusable::Corrupt(error.to_string()),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
