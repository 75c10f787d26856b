//! The registrations of the admin socket on disk, so that they outlive the process: ids and tokens as digests, no credentials.
//!
//! A change is on disk when the call returns. A file that is not whole is set aside, never used and never removed.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
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
/// What the name of a file that was set aside begins with.
const ASIDE: &str = "registrations.redb.corrupt-";
/// Some thousand registrations take a megabyte.
const CACHE: usize = 1024 * 1024;

/// The store.
pub struct Store {
    /// `None` after the disk has failed: the library takes nothing more until the file is opened anew.
    database: Mutex<Option<Database>>,
    folder: Folder,
}

/// Why the store could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("the store in {} takes no changes: {cause}; see that its disk has room and is writable", folder.display())]
pub struct StoreError {
    folder: PathBuf,
    cause: String,
}

/// Why a file is not taken for a store.
enum Unusable {
    /// It is not whole.
    Corrupt(String),
    /// It may be whole: another program holds it, it is newer, or the machine cannot read it.
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
        match Self::read(&folder) {
            Ok((database, registrations)) => Ok((Self::of(database, folder), registrations)),
            Err(Unusable::Kept(why)) => Err(cannot(path, &why)),
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
                match Self::read(&folder) {
                    Ok((database, registrations)) => Ok((Self::of(database, folder), registrations)),
                    Err(Unusable::Corrupt(why) | Unusable::Kept(why)) => Err(cannot(path, &why)),
                }
            }
        }
    }

    fn read(folder: &Folder) -> Result<(Database, Vec<Registration>), Unusable> {
        let file = folder.file(FILE).map_err(|error| Unusable::Kept(format!("{FILE}: {error}")))?;
        // A file that was altered may have the library panic instead of refusing it.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let database = database(file)?;
            let registrations = registrations(&database)?;
            Ok((database, registrations))
        }));
        read.unwrap_or_else(|_| Err(Unusable::Corrupt("reading it ended in a panic".to_owned())))
    }

    fn of(database: Database, folder: Folder) -> Self {
        Self { database: Mutex::new(Some(database)), folder }
    }

    /// Puts these in and takes those out, in one step.
    ///
    /// # Errors
    /// [`StoreError`]; whether the change is on disk is not known then, and [`Store::replace`] has to follow.
    pub fn change(&self, put: &[&Registration], remove: &[IdDigest]) -> Result<(), StoreError> {
        self.transact(|transaction| apply(transaction, put, remove))
    }

    /// Makes these and no others what the store holds, in one step.
    ///
    /// # Errors
    /// As [`Store::change`].
    pub fn replace(&self, all: &[&Registration]) -> Result<(), StoreError> {
        self.transact(|transaction| {
            let stays: HashSet<_> = all.iter().map(|one| *one.id.bytes()).collect();
            transaction.open_table(REGISTRATIONS)?.retain(|id, _| stays.contains(id))?;
            apply(transaction, all, &[])
        })
    }

    /// After a failure the file is opened anew by the next transaction: the library takes nothing more before.
    fn transact(&self, work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> Result<(), StoreError> {
        // Taken out, so that what a failure leaves behind is closed and not used again.
        let mut place = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |cause: String| StoreError { folder: self.folder.path().to_owned(), cause };
        let database = match place.take() {
            Some(database) => database,
            None => match Self::read(&self.folder) {
                Ok((database, _)) => database,
                Err(Unusable::Corrupt(why) | Unusable::Kept(why)) => return Err(failed(why)),
            },
        };
        let changed = database.begin_write().map_err(redb::Error::from).and_then(|transaction| {
            work(&transaction)?;
            Ok(transaction.commit()?)
        });
        changed.map_err(|cause| failed(cause.to_string()))?;
        *place = Some(database);
        Ok(())
    }

    /// The file that was set aside, if there is one.
    ///
    /// # Errors
    /// The folder cannot be read any more.
    pub fn set_aside(&self) -> io::Result<Option<String>> {
        Ok(self.folder.names()?.into_iter().find(|name| name.starts_with(ASIDE)))
    }
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
        DatabaseError::DatabaseAlreadyOpen => Unusable::Kept("another taskcreds is using it".to_owned()),
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
mod tests {
    use std::os::unix::fs::FileExt;

    use taskcreds_core::Source;
    use taskcreds_core::test_util::new_task;

    use super::*;

    fn registration(name: &str) -> Registration {
        Registration::of(new_task(name), Source::Admin { uid: 1000 })
    }

    fn ids(registrations: &[Registration]) -> Vec<IdDigest> {
        let mut ids: Vec<_> = registrations.iter().map(|it| it.id).collect();
        ids.sort_by_key(|id| *id.bytes());
        ids
    }

    #[test]
    fn what_was_put_in_is_there_after_the_next_start_and_what_was_taken_out_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two, three] = ["one", "two", "three"].map(registration);
        {
            let (store, before) = Store::open(folder.path()).unwrap();
            assert!(before.is_empty() && store.set_aside().unwrap().is_none());
            store.change(&[&one, &two], &[]).unwrap();
            store.change(&[&three], &[one.id]).unwrap();
        }
        let (_, after) = Store::open(folder.path()).unwrap();
        assert_eq!(ids(&after), ids(&[two, three]));
    }

    #[test]
    fn two_processes_do_not_share_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Store::open(folder.path()).unwrap();
        let second = Store::open(folder.path()).map(drop).unwrap_err();
        assert!(second.message.contains("another taskcreds is using it"), "{}", second.message);
    }

    /// Grants nothing more than was registered, and loses nothing in silence: whole, or set aside.
    fn opens_whole_or_set_aside(folder: &Path, whole: &[IdDigest], what: &str) -> bool {
        let (store, found) = Store::open(folder).unwrap_or_else(|failure| panic!("{what}: {}", failure.message));
        let aside = store.set_aside().unwrap();
        match &aside {
            Some(_) => assert!(found.is_empty(), "{what}"),
            None => assert_eq!(ids(&found), whole, "{what}"),
        }
        drop(store);
        if let Some(aside) = &aside {
            std::fs::remove_file(folder.join(aside)).unwrap();
        }
        aside.is_some()
    }

    #[test]
    fn a_store_that_is_cut_or_altered_is_set_aside_and_never_used_in_part() {
        let folder = tempfile::tempdir().unwrap();
        let all: Vec<_> = (0..20).map(|n| registration(&format!("t{n}"))).collect();
        {
            let (store, _) = Store::open(folder.path()).unwrap();
            store.change(&all.iter().collect::<Vec<_>>(), &[]).unwrap();
        }
        let (file, whole) = (folder.path().join(FILE), ids(&all));
        let bytes = std::fs::read(&file).unwrap();
        let mut set_aside = 0;
        // Every byte of the header, then one a page: what lies behind is checked by page.
        for cut in (1..512).chain((512..bytes.len()).step_by(4096)).chain([bytes.len() - 1]) {
            std::fs::write(&file, &bytes[..cut]).unwrap();
            set_aside += usize::from(opens_whole_or_set_aside(folder.path(), &whole, &format!("cut at {cut}")));
        }
        assert!(set_aside > 500, "{set_aside}");
        set_aside = 0;
        let texts = bytes.windows(8).enumerate().filter(|(_, window)| *window == b"taskArn\"").map(|(at, _)| at);
        for at in texts.collect::<Vec<_>>() {
            std::fs::write(&file, &bytes).unwrap();
            let file = File::options().write(true).open(&file).unwrap();
            file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
            drop(file);
            set_aside += usize::from(opens_whole_or_set_aside(folder.path(), &whole, &format!("altered at {at}")));
        }
        assert!(set_aside >= 1, "{set_aside}");
    }

    #[test]
    fn a_store_of_a_newer_program_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        {
            let (store, _) = Store::open(folder.path()).unwrap();
            let database = store.database.lock().unwrap().take().unwrap();
            let transaction = database.begin_write().unwrap();
            transaction.open_table(FORMAT).unwrap().insert((), FORMAT_VERSION + 1).unwrap();
            transaction.commit().unwrap();
        }
        let refused = Store::open(folder.path()).map(drop).unwrap_err();
        assert!(refused.message.contains("its format is 2"), "{}", refused.message);
        assert!(folder.path().join(FILE).exists());
    }
}
