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
    for cut in (0..512).chain((512..bytes.len()).step_by(4096)).chain([bytes.len() - 1]) {
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

#[test]
fn a_store_that_a_crash_kept_from_being_made_is_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(NEXT), "half").unwrap();
    let (store, found) = Store::open(folder.path()).unwrap();
    assert!(found.is_empty() && store.set_aside().unwrap().is_none());
    assert_eq!(store.place().folder.names().unwrap().iter().filter(|name| name.starts_with(FILE)).count(), 1);
}

#[test]
fn a_change_of_a_file_that_is_gone_or_another_is_refused_until_all_is_written_anew() {
    type Harm = fn(&Path, &Path);
    let harms: [(&str, Harm); 4] = [
        ("the file removed", |folder, _| std::fs::remove_file(folder.join(FILE)).unwrap()),
        ("the file emptied", |folder, _| std::fs::write(folder.join(FILE), "").unwrap()),
        ("the folder removed", |folder, _| std::fs::remove_dir_all(folder).unwrap()),
        ("an older one in its place", |folder, older| std::fs::rename(older, folder.join(FILE)).unwrap()),
    ];
    for (what, harm) in harms {
        let parent = tempfile::tempdir().unwrap();
        let (folder, older) = (parent.path().join("state"), parent.path().join("older"));
        let [revoked, kept, late] = ["revoked", "kept", "late"].map(registration);
        {
            let (store, _) = Store::open(&folder).unwrap();
            store.change(&[&revoked], &[]).unwrap();
        }
        std::fs::copy(folder.join(FILE), &older).unwrap();
        {
            let (store, _) = Store::open(&folder).unwrap();
            store.change(&[&kept], &[revoked.id]).unwrap();
            assert!(store.is_in_place());
            harm(&folder, &older);
            assert!(!store.is_in_place(), "{what}");
            let refused = store.change(&[&late], &[]).unwrap_err().to_string();
            assert!(refused.contains("removed or replaced"), "{what}: {refused}");
            if what == "the file emptied" {
                assert!(store.replace(&[&kept]).is_err(), "what is not whole is not written over");
                std::fs::remove_file(folder.join(FILE)).unwrap();
            }
            store.replace(&[&kept]).unwrap();
            assert!(store.is_in_place(), "{what}");
            store.change(&[&late], &[]).unwrap();
        }
        assert_eq!(ids(&Store::open(&folder).unwrap().1), ids(&[kept, late]), "{what}");
    }
}

#[test]
fn a_change_is_not_answered_where_the_file_goes_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(folder.path()).unwrap();
    let mut place = store.database();
    let database = place.take().unwrap();
    let changed = store.commit(&mut place, database, |_| {
        std::fs::remove_file(store.file()).unwrap();
        Ok(())
    });
    assert!(changed.unwrap_err().to_string().contains("removed or replaced") && place.is_none());
}
