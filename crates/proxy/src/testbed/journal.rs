//! What was asked of the two endpoints and what came of it: bounded, in order, and nothing in it that opens anything.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Refusal;

/// Entries kept; the oldest go first.
const MOST: usize = 10_000;
/// The action at the credentials endpoint.
pub(super) const GET_CREDENTIALS: &str = "GetCredentials";
/// The actions of the STS API. The embedded STS refuses most of them, and that is in the journal too.
const STS_ACTIONS: [&str; 11] = [
    "AssumeRole",
    "AssumeRoleWithSAML",
    "AssumeRoleWithWebIdentity",
    "AssumeRoot",
    "DecodeAuthorizationMessage",
    "GetAccessKeyInfo",
    "GetCallerIdentity",
    "GetDelegatedAccessToken",
    "GetFederationToken",
    "GetSessionToken",
    "GetWebIdentityToken",
];
/// How long a wait may be.
pub const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// One request and what came of it. No id, no token and no secret is ever in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entry {
    /// Its number, from 1 on.
    pub seq: u64,
    /// When it was answered, as `2026-11-21T20:00:00.123Z`.
    pub time: String,
    /// Who was asked: `credentials` or `sts`.
    pub place: String,
    /// `GetCredentials`, or the `Action` of the STS API.
    pub action: Option<String>,
    /// What the task is called; none where the request opened none.
    pub task: Option<String>,
    /// The name of the role.
    pub role: Option<String>,
    /// The task.
    pub task_arn: Option<String>,
    /// The status of the answer; none where there was none.
    pub status: Option<u16>,
    /// The code of an error.
    pub code: Option<String>,
    /// The access key id of the session that was answered.
    pub access_key_id: Option<String>,
    /// The fault that the answer met, in its words.
    pub fault: Option<String>,
}

/// Which entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this task, by its name or its task id.
    pub task: Option<String>,
    /// Of this role, by its name.
    pub role: Option<String>,
    /// Of this place.
    pub place: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// With this status; 0: with none.
    pub status: Option<u16>,
    /// With this code.
    pub code: Option<String>,
    /// With this access key id.
    pub access_key_id: Option<String>,
    /// That met a fault, or that met none.
    pub fault: Option<bool>,
    /// With a greater number than this.
    pub since: u64,
}

impl Filter {
    /// The entries of one task.
    #[must_use]
    pub fn of_task(name: impl Into<String>) -> Self {
        Self { task: Some(name.into()), ..Self::default() }
    }

    /// Of these, those with a status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// Of these, those of the credentials endpoint.
    #[must_use]
    pub fn of_credentials(self) -> Self {
        Self { place: Some("credentials".to_owned()), ..self }
    }

    /// Of these, those of the embedded STS.
    #[must_use]
    pub fn of_sts(self) -> Self {
        Self { place: Some("sts".to_owned()), ..self }
    }

    /// Of these, those with a greater number than this.
    #[must_use]
    pub fn since(self, seq: u64) -> Self {
        Self { since: seq, ..self }
    }

    /// Whether there is such an action at the place that is asked for.
    pub(crate) fn know_action(&self) -> Result<(), Refusal> {
        let place = |name: &str| self.place.as_deref().is_none_or(|place| place == name);
        let of_credentials = [GET_CREDENTIALS].into_iter().filter(|_| place("credentials"));
        let there: Vec<_> = of_credentials.chain(STS_ACTIONS.into_iter().filter(|_| place("sts"))).collect();
        match &self.action {
            Some(asked) if !there.contains(&asked.as_str()) => {
                Err(Refusal::NoSuchAction { asked: asked.clone(), there })
            }
            _ => Ok(()),
        }
    }

    /// Whether an entry is one of these.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, given: &Option<String>| wanted.is_none() || wanted == given;
        let task_id = entry.task_arn.as_deref().and_then(|arn| arn.rsplit('/').next());
        let is_task = |name: &str| [entry.task.as_deref(), task_id].contains(&Some(name));
        self.since < entry.seq
            && self.task.as_deref().is_none_or(is_task)
            && self.place.as_ref().is_none_or(|place| *place == entry.place)
            && self.status.is_none_or(|status| status == entry.status.unwrap_or(0))
            && self.fault.is_none_or(|fault| fault == entry.fault.is_some())
            && is(&self.role, &entry.role)
            && is(&self.action, &entry.action)
            && is(&self.code, &entry.code)
            && is(&self.access_key_id, &entry.access_key_id)
    }

    /// Reads the pairs of a query; what it does not know is given back.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn parse(query: &str) -> Result<(Self, Pairs), Vec<String>> {
        let (mut filter, mut others, mut wrong) = (Self::default(), Vec::new(), Vec::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()).into_owned() {
            match &*name {
                "task" => filter.task = Some(value),
                "role" => filter.role = Some(value),
                "action" => filter.action = Some(value),
                "code" => filter.code = Some(value),
                "accessKeyId" => filter.access_key_id = Some(value),
                "place" if ["credentials", "sts"].contains(&&*value) => filter.place = Some(value),
                "place" => wrong.push("place is credentials or sts".to_owned()),
                "status" => match value.parse() {
                    Ok(status) => filter.status = Some(status),
                    Err(_) => wrong.push("status is a number, 0 for no answer".to_owned()),
                },
                "fault" => match value.parse() {
                    Ok(fault) => filter.fault = Some(fault),
                    Err(_) => wrong.push("fault is true or false".to_owned()),
                },
                "since" => match value.parse() {
                    Ok(since) => filter.since = since,
                    Err(_) => wrong.push("since is the number of an entry".to_owned()),
                },
                _ => others.push((name, value)),
            }
        }
        if wrong.is_empty() { Ok((filter, others)) } else { Err(wrong) }
    }

    /// The query that [`Filter::parse`] reads.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let texts = [
            ("task", self.task.clone()),
            ("role", self.role.clone()),
            ("place", self.place.clone()),
            ("action", self.action.clone()),
            ("status", self.status.map(|status| status.to_string())),
            ("code", self.code.clone()),
            ("accessKeyId", self.access_key_id.clone()),
            ("fault", self.fault.map(|fault| fault.to_string())),
            ("since", (self.since > 0).then(|| self.since.to_string())),
        ];
        for (name, value) in texts {
            query.extend_pairs(value.map(|value| (name, value)));
        }
        query.finish()
    }
}

/// Pairs of a query that are none of a filter.
type Pairs = Vec<(String, String)>;

/// The journal.
#[derive(Debug, Default)]
pub struct Journal {
    kept: Mutex<Kept>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    last: u64,
}

impl Journal {
    /// Adds an entry, with its number and the time.
    pub(crate) fn push(&self, entry: Entry) {
        let mut kept = self.kept();
        kept.last += 1;
        let entry =
            Entry { seq: kept.last, time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(), ..entry };
        if kept.entries.len() == MOST {
            kept.entries.pop_front();
        }
        kept.entries.push_back(entry);
        drop(kept);
        self.pushed.notify_waiters();
    }

    /// The entries that fit, the oldest first.
    #[must_use]
    pub fn entries(&self, filter: &Filter) -> Vec<Entry> {
        self.kept().entries.iter().filter(|entry| filter.matches(entry)).cloned().collect()
    }

    /// The number of the last entry, 0 before the first: what comes later is `since` it.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.kept().last
    }

    /// Forgets all entries; numbers go on.
    pub fn clear(&self) {
        self.kept().entries.clear();
    }

    /// Waits until so many entries fit, for at most so long. Returns those that do then.
    pub async fn wait(&self, filter: &Filter, count: usize, patience: Duration) -> Vec<Entry> {
        let deadline = Instant::now() + patience.min(LONGEST_WAIT);
        loop {
            let pushed = self.pushed.notified();
            let entries = self.entries(filter);
            if entries.len() >= count {
                return entries;
            }
            if tokio::time::timeout_at(deadline, pushed).await.is_err() {
                return self.entries(filter);
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn entry(task: &str, status: u16) -> Entry {
        let task_arn = Some("arn:aws:ecs:us-west-2:111122223333:task/dev/0123".to_owned());
        Entry {
            place: "sts".to_owned(),
            task: Some(task.to_owned()),
            task_arn,
            status: Some(status),
            ..Entry::default()
        }
    }

    #[test]
    fn the_journal_keeps_the_last_entries_in_order() {
        let journal = Journal::default();
        (0..MOST + 3).for_each(|_| journal.push(entry("web", 200)));
        let entries = journal.entries(&Filter::default());
        assert_eq!((entries.len(), entries[0].seq, journal.last()), (MOST, 4, 10_003));
        assert_eq!(journal.entries(&Filter::default().since(10_000)).len(), 3);
        journal.clear();
        assert!(journal.entries(&Filter::default()).is_empty());
        journal.push(entry("web", 200));
        assert_eq!(journal.last(), 10_004);
    }

    #[test]
    fn a_filter_goes_through_a_query_unchanged_and_everything_that_is_wrong_in_one_is_told() {
        let filter = Filter {
            task: Some("a b&c".to_owned()),
            role: Some("r".to_owned()),
            place: Some("sts".to_owned()),
            action: Some("AssumeRole".to_owned()),
            status: Some(0),
            code: Some("X".to_owned()),
            access_key_id: Some("ASIA".to_owned()),
            fault: Some(false),
            since: 7,
        };
        let (parsed, others) = Filter::parse(&format!("{}&count=2", filter.query())).unwrap();
        assert_eq!((parsed, others), (filter, vec![("count".to_owned(), "2".to_owned())]));
        assert_eq!(Filter::parse("status=x&place=y&fault=z&since=-1").unwrap_err().len(), 4);
    }

    #[test]
    fn a_task_is_found_by_each_of_its_names() {
        let entry = Entry { role: Some("its-role".to_owned()), seq: 1, ..entry("web", 503) };
        for (name, fits) in [("web", true), ("its-role", false), ("0123", true), ("dev", false), ("", false)] {
            assert_eq!(Filter::of_task(name).matches(&entry), fits, "{name}");
        }
        assert!(Filter::of_task("web").of_sts().with_status(503).matches(&entry));
        assert!(!Filter::of_task("web").of_credentials().matches(&entry));
        let of_role = |role: &str| Filter { role: Some(role.to_owned()), ..Filter::default() };
        assert!(of_role("its-role").matches(&entry) && !of_role("web").matches(&entry));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_by_the_entry_that_makes_the_count_or_by_the_end_of_patience() {
        let journal = Arc::new(Journal::default());
        let start = Instant::now();
        assert!(journal.wait(&Filter::default(), 1, Duration::from_secs(5)).await.is_empty());
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        let waiting = {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move { journal.wait(&Filter::of_task("web"), 2, Duration::from_secs(3600)).await })
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        for name in ["web", "db", "web"] {
            journal.push(entry(name, 200));
        }
        assert_eq!(waiting.await.unwrap().len(), 2);
        assert!(start.elapsed() < Duration::from_secs(7));
    }
}
