//! The auditor's question, answered from the files: which task had this key, when, and from where?

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::file::number_of;
use super::record::Record;
use crate::folder;

/// What is asked for. A record must fit every part that is there.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The access key id of a session, as CloudTrail has it.
    pub access_key_id: Option<String>,
    /// The role session name, or the assumed-role ARN that ends with it.
    pub session_name: Option<String>,
    /// The task.
    pub task_arn: Option<String>,
    /// Not before this.
    pub since: Option<SystemTime>,
    /// Not after this.
    pub until: Option<SystemTime>,
}

/// What was found, and how many lines were no records.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of time.
    pub records: Vec<Record>,
    /// Lines that are no records.
    pub unreadable: usize,
}

/// Searches a file, the one of the refusals beside it, and those that were put aside from them. What was found is in the order of time.
///
/// # Errors
/// The file, or one of the others, or their folder cannot be read.
pub fn search(path: &Path, question: &Question) -> Result<Found, (PathBuf, io::Error)> {
    let refused = super::refused(path);
    let mut found = Found::default();
    for (path, is_asked_for) in [(path, true), (refused.as_path(), false)] {
        let mut files = put_aside(path).map_err(|error| (folder::of(path).to_owned(), error))?;
        // Between two files there may be none of that name.
        if path.try_exists().unwrap_or(true) || (is_asked_for && files.is_empty()) {
            files.push(path.to_owned());
        }
        for file in files {
            read(&file, question, &mut found).map_err(|error| (file, error))?;
        }
    }
    // Times of one form compare like their texts; what has the same time stays in its order.
    found.records.sort_by(|one, other| one.time.cmp(&other.time));
    Ok(found)
}

/// The files that were put aside from this one, the oldest first. Their numbers may have gaps: somebody has moved one away, or the program
/// was killed while it gave them new ones.
fn put_aside(path: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(name) = path.file_name() else { return Ok(Vec::new()) };
    let mut numbered = Vec::new();
    for entry in std::fs::read_dir(folder::of(path))? {
        let other = entry?.file_name();
        let file = path.with_file_name(&other);
        // What cannot be looked at is tried, to fail where that can be told.
        let is_no_file = || std::fs::metadata(&file).is_ok_and(|metadata| !metadata.is_file());
        if let Some(number) = number_of(&other, name).filter(|_| !is_no_file()) {
            numbered.push((number, file));
        }
    }
    numbered.sort();
    Ok(numbered.into_iter().rev().map(|(_, file)| file).collect())
}

fn read(file: &Path, question: &Question, found: &mut Found) -> io::Result<()> {
    for line in BufReader::new(File::open(file)?).split(b'\n') {
        let line = line?;
        if line.is_empty() {
            continue;
        }
        match serde_json::from_slice::<Record>(&line) {
            Ok(record) if question.fits(&record) => {
                found.records.push(Record { line: String::from_utf8_lossy(&line).into_owned(), ..record });
            }
            Ok(_) => {}
            Err(_) => found.unreadable += 1,
        }
    }
    Ok(())
}

impl Question {
    fn fits(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, there: &Option<String>| wanted.is_none() || wanted == there;
        let in_time = match humantime::parse_rfc3339(&record.time) {
            Ok(time) => self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until),
            Err(_) => self.since.is_none() && self.until.is_none(),
        };
        is(&self.access_key_id, &record.access_key_id)
            && self.session_name.as_deref().is_none_or(|name| is_session(name, record))
            && is(&self.task_arn, &record.task_arn)
            && in_time
    }
}

/// Whether a record is of the session with this name, or with this `arn:aws:sts::ACCOUNT:assumed-role/ROLE/NAME`.
fn is_session(name: &str, record: &Record) -> bool {
    let [role_arn, session_name] =
        [&record.role_arn, &record.session_name].map(|text| text.as_deref().unwrap_or_default());
    if !name.starts_with("arn:") {
        return name == session_name;
    }
    // The role's path is not in the session's ARN.
    let (Some(account), Some(role)) = (role_arn.split(':').nth(4), role_arn.rsplit('/').next()) else { return false };
    let partition = role_arn.split(':').nth(1).unwrap_or_default();
    name == format!("arn:{partition}:sts::{account}:assumed-role/{role}/{session_name}")
}

#[cfg(test)]
mod tests {
    use super::super::file::numbered;
    use super::*;

    #[test]
    fn files_behind_a_gap_are_searched_and_what_only_looks_like_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let line = |hour: u64| format!("{{\"time\":\"2026-11-21T{hour:02}:00:00.000Z\",\"event\":\"answer\"}}\n");
        let hours = || {
            let found = search(&path, &Question::default()).unwrap();
            found.records.iter().map(|record| record.time[11..13].to_owned()).collect::<Vec<_>>()
        };
        for (name, hour) in [("audit.log.12", 1), ("audit.log.3", 2), ("audit.log.2", 3), ("audit.log.2.gz", 4)] {
            std::fs::write(folder.path().join(name), line(hour)).unwrap();
        }
        std::fs::write(numbered(&super::super::refused(&path), 7), line(5)).unwrap();
        std::fs::create_dir(numbered(&path, 4)).unwrap();
        assert_eq!(hours(), ["01", "02", "03", "05"], "without the present file");
        std::fs::write(&path, line(6)).unwrap();
        assert_eq!(hours(), ["01", "02", "03", "05", "06"]);
    }

    #[test]
    fn a_key_a_session_name_and_a_time_find_their_records_in_all_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let line = |hour: u32, key: &str, name: &str| {
            format!(
                "{{\"time\":\"2026-11-21T{hour:02}:00:00.000Z\",\"event\":\"answer\",\"accessKeyId\":\"{key}\",\"sessionName\":\"{name}\",\"roleArn\":\"arn:aws:iam::111122223333:role/path/web\",\"new\":1}}\n"
            )
        };
        std::fs::write(numbered(&path, 2), line(1, "ASIA1", "t1")).unwrap();
        std::fs::write(numbered(&path, 1), line(2, "ASIA2", "t2") + "torn{\n\n").unwrap();
        std::fs::write(&path, line(3, "ASIA1", "t1")).unwrap();
        let hours = |question: Question| {
            let found = search(&path, &question).unwrap();
            assert_eq!(found.unreadable, 1);
            found.records.iter().map(|record| record.time[11..13].to_owned()).collect::<Vec<_>>()
        };
        let text = |text: &str| Some(text.to_owned());
        let at = |text: &str| humantime::parse_rfc3339(text).ok();
        assert_eq!(hours(Question::default()), ["01", "02", "03"]);
        assert_eq!(hours(Question { access_key_id: text("ASIA1"), ..Question::default() }), ["01", "03"]);
        let arn = text("arn:aws:sts::111122223333:assumed-role/web/t2");
        assert_eq!(hours(Question { session_name: arn, ..Question::default() }), ["02"]);
        for other in [
            "arn:aws:sts::999999999999:assumed-role/web/t2",
            "arn:aws:sts::111122223333:assumed-role/db/t2",
            "arn:aws:sts::111122223333:assumed-role/web/t",
        ] {
            assert!(hours(Question { session_name: text(other), ..Question::default() }).is_empty(), "{other}");
        }
        assert_eq!(hours(Question { session_name: text("t2"), ..Question::default() }), ["02"]);
        let (since, until) = (at("2026-11-21T02:00:00Z"), at("2026-11-21T02:30:00Z"));
        assert_eq!(hours(Question { since, until, ..Question::default() }), ["02"]);
        assert!(search(&folder.path().join("none"), &Question::default()).is_err());
    }
}
