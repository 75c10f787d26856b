//! The cases: what a client is put into, and what has to come of it.

use std::io;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::clients::Client;
use crate::errors;
use crate::limits::limit;
use crate::time::{cold, left, once, restart, rotation};
use crate::ways::{LINK_LOCAL, RELATIVE, beside, full, token_file, way};
use crate::world::{Answered, Surroundings};

/// What has come of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Whether it is as it has to be.
    pub verdict: Verdict,
    /// What every run has the same, or what has happened instead.
    pub text: String,
    /// What another run may have different.
    pub figures: String,
    /// What the client's user reads of an error.
    pub reads: Option<String>,
}

/// Whether a case has come out as it has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It has.
    Good,
    /// It has, or has not because of how the client is made, as the moment will have it.
    Chance,
    /// It has not, because of how the client is made.
    Client,
    /// It has not.
    Bad,
}

/// One case.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What happens in it, for the table.
    pub title: &'static str,
    /// The table that it is in.
    pub group: &'static str,
    run: fn(&Surroundings, &'static Client) -> io::Result<Outcome>,
}

pub(crate) type Outcome = Result<Came, Failed>;

/// What has come of a case that came out as it has to.
#[derive(Default)]
pub(crate) struct Came {
    pub(crate) text: String,
    pub(crate) figures: String,
    /// What the client's user reads of an error.
    pub(crate) reads: Option<String>,
}

/// What has happened instead.
pub(crate) struct Failed {
    pub(crate) why: String,
    /// The statuses that the client was answered, where that tells how it is made.
    pub(crate) statuses: Option<Vec<u64>>,
}

pub(crate) fn came(figures: String) -> Came {
    Came { figures, ..Came::default() }
}

pub(crate) fn failed(why: impl Into<String>) -> Failed {
    Failed { why: why.into(), statuses: None }
}

/// A call has failed, and these were the answers.
pub(crate) fn answered(why: &str, statuses: Vec<u64>) -> Failed {
    Failed { why: format!("{why}; answers: {statuses:?}"), statuses: Some(statuses) }
}

pub(crate) fn statuses(answers: &[Answered]) -> Vec<u64> {
    answers.iter().map(|answer| answer.status).collect()
}

impl Case {
    /// Runs it with a client.
    #[must_use]
    pub fn run(&self, around: &Surroundings, client: &'static Client) -> Cell {
        let before = around.metadata_requests.load(Ordering::SeqCst);
        let outcome = (self.run)(around, client);
        let has_come = matches!(outcome, Ok(Ok(_)));
        let asked = around.metadata_requests.load(Ordering::SeqCst) - before;
        let cell = |verdict, text: String| Cell { verdict, text, figures: String::new(), reads: None };
        let mut cell = match (outcome, limit(client, self.name)) {
            (Err(error), _) => cell(Verdict::Bad, format!("the case cannot run: {error}")),
            (Ok(Ok(Came { text, figures, reads })), None) => Cell { verdict: Verdict::Good, text, figures, reads },
            (Ok(Ok(Came { figures, .. })), Some(limit)) if limit.by_chance => {
                Cell { figures, ..cell(Verdict::Chance, String::new()) }
            }
            (Ok(Ok(Came { figures, .. })), Some(limit)) => {
                cell(Verdict::Bad, format!("works ({figures}), and not: {}", limit.why))
            }
            (Ok(Err(failed)), Some(limit)) if limit.explains(&failed) && limit.by_chance => {
                Cell { figures: limit.why.to_owned(), ..cell(Verdict::Chance, String::new()) }
            }
            (Ok(Err(failed)), Some(limit)) if limit.explains(&failed) => cell(Verdict::Client, limit.why.to_owned()),
            (Ok(Err(failed)), _) => cell(Verdict::Bad, failed.why),
        };
        if asked > 0 {
            // Who has the proxy's credentials has no reason to.
            if self.group != ERRORS && has_come {
                cell.verdict = Verdict::Bad;
            }
            let told = if cell.verdict == Verdict::Chance { &mut cell.figures } else { &mut cell.text };
            let comma = if told.is_empty() { "" } else { ", " };
            *told += &format!("{comma}then asks the instance");
        }
        cell
    }
}

const WAYS: &str = "Ways to the endpoint";
const TIME: &str = "Time";
/// Most of it is waiting.
pub const LOOPS: &str = "A new session in the middle of a loop of calls";
const ONCE: &str = "One bad answer, then a good one";
/// Here the client gets nothing, and its user reads something.
pub const ERRORS: &str = "Errors";

/// All cases, in the order of the tables.
pub const CASES: [Case; 30] = [
    Case {
        name: "relative",
        title: "`RELATIVE_URI`, no token",
        group: WAYS,
        run: |a, c| way(a, c, LINK_LOCAL, false, |w| vec![(RELATIVE, w.v2())]),
    },
    Case {
        name: "relative-v1",
        title: "`RELATIVE_URI`, v1",
        group: WAYS,
        run: |a, c| way(a, c, LINK_LOCAL, false, |w| vec![(RELATIVE, w.v1())]),
    },
    Case {
        name: "token",
        title: "`FULL_URI` 127.0.0.1, token",
        group: WAYS,
        run: |a, c| way(a, c, "127.0.0.1:0", true, |w| full(w, "127.0.0.1", &w.v2(), true)),
    },
    Case { name: "token-file", title: "token file", group: WAYS, run: token_file },
    Case {
        name: "v1",
        title: "v1, token",
        group: WAYS,
        run: |a, c| way(a, c, "127.0.0.1:0", true, |w| full(w, "127.0.0.1", &w.v1(), true)),
    },
    Case {
        name: "ipv6",
        title: "[::1], token",
        group: WAYS,
        run: |a, c| way(a, c, "[::1]:0", true, |w| full(w, "[::1]", &w.v2(), true)),
    },
    Case {
        name: "localhost",
        title: "localhost, token",
        group: WAYS,
        run: |a, c| way(a, c, "127.0.0.1:0", true, |w| full(w, "localhost", &w.v2(), true)),
    },
    Case {
        name: "link-local",
        title: "`FULL_URI` 169.254.170.2",
        group: WAYS,
        run: |a, c| way(a, c, LINK_LOCAL, false, |w| full(w, "169.254.170.2", &w.v2(), false)),
    },
    Case { name: "beside-instance-role", title: "variables of an instance role as well", group: WAYS, run: beside },
    Case { name: "cold-0.8", title: "STS takes 0.8 s at the start", group: TIME, run: |a, c| cold(a, c, 800) },
    Case { name: "cold-1.5", title: "1.5 s", group: TIME, run: |a, c| cold(a, c, 1500) },
    Case { name: "cold-3", title: "3 s", group: TIME, run: |a, c| cold(a, c, 3000) },
    Case { name: "left-60", title: "asks for 3 calls, 60 min left", group: TIME, run: |a, c| left(a, c, 3600) },
    Case { name: "left-15", title: "15 min", group: TIME, run: |a, c| left(a, c, 900) },
    Case { name: "left-12", title: "12 min", group: TIME, run: |a, c| left(a, c, 720) },
    Case { name: "left-5", title: "5 min", group: TIME, run: |a, c| left(a, c, 300) },
    Case { name: "rotation", title: "loaded anew", group: LOOPS, run: rotation },
    Case { name: "restart", title: "the proxy starts anew", group: LOOPS, run: restart },
    Case { name: "503", title: "503", group: ONCE, run: |a, c| once(a, c, 503, "") },
    Case {
        name: "503-retry-after",
        title: "503, `Retry-After: 1`",
        group: ONCE,
        run: |a, c| once(a, c, 503, "retry-after: 1\r\n"),
    },
    Case { name: "429", title: "429, which the proxy never answers", group: ONCE, run: |a, c| once(a, c, 429, "") },
    Case { name: "no-id", title: "400 NoIdInRequest", group: ERRORS, run: errors::no_id },
    Case { name: "unknown-id", title: "400 InvalidIdInRequest", group: ERRORS, run: errors::unknown_id },
    Case { name: "path", title: "400 InvalidRequest, a slash too many", group: ERRORS, run: errors::path },
    Case { name: "wrong-token", title: "401 Unauthorized", group: ERRORS, run: errors::wrong_token },
    Case { name: "guard", title: "403 AccessDenied, `X-Forwarded-For` on the way", group: ERRORS, run: errors::guard },
    Case { name: "denied", title: "403 AssumeRoleDenied", group: ERRORS, run: errors::denied },
    Case { name: "no-path", title: "404 NotFound", group: ERRORS, run: errors::no_path },
    Case { name: "internal", title: "500 InternalServerError", group: ERRORS, run: errors::internal },
    Case {
        name: "sts-silent",
        title: "503 CredentialsUninitialized, STS is silent",
        group: ERRORS,
        run: errors::sts_silent,
    },
];
