//! What clients do not do, as they are made, and no other reason for a case that does not come out.

use std::ops::RangeInclusive;

use crate::cases::Failed;
use crate::clients::{Client, Knows};

/// What a client does not do, as it is made.
pub(crate) struct Limit {
    pub(crate) why: &'static str,
    /// The status that it is answered then, each time; none where it does not ask at all.
    answers: Option<u64>,
    /// How many times it asks then.
    tries: RangeInclusive<usize>,
    /// Whether this is what happens depends on the moment.
    pub(crate) by_chance: bool,
}

impl Limit {
    /// Whether this is what has happened, and no other fault.
    pub(crate) fn explains(&self, failed: &Failed) -> bool {
        let Some(statuses) = &failed.statuses else { return false };
        self.tries.contains(&statuses.len()) && statuses.iter().all(|status| Some(*status) == self.answers)
    }
}

/// Of this client in this case.
pub(crate) fn limit(client: &Client, case: &str) -> Option<Limit> {
    let unasked = |why| Some(Limit { why, answers: None, tries: 0..=0, by_chance: false });
    let refused = |why, status| Some(Limit { why, answers: Some(status), tries: 1..=9, by_chance: false });
    let few = |status, by_chance| {
        let (why, tries) = few_tries(client.name)?;
        Some(Limit { why, answers: Some(status), tries, by_chance })
    };
    match (client.name, client.knows, case) {
        (_, Knows::Relative, "token" | "token-file" | "v1" | "ipv6" | "localhost" | "link-local") => {
            unasked("knows the relative URI alone")
        }
        (_, Knows::FullWithTokenFile, "token" | "v1" | "ipv6" | "localhost" | "link-local") => {
            unasked("a full URI needs a token file")
        }
        ("js2" | "minio-py", _, "ipv6" | "link-local")
        | ("awscli2", _, "ipv6")
        | ("minio-go" | "rclone" | "restic", _, "link-local") => unasked("refuses this host"),
        ("awscli2" | "rclone" | "restic", _, "token-file") => refused("older than token files", 401),
        ("minio-go", _, "cold-1.5" | "cold-3" | "503" | "503-retry-after")
        | ("async-aws" | "gdal" | "rclone" | "ruby", _, "cold-3") => few(503, false),
        // The session comes 0.1 s after its only answer.
        ("minio-go", _, "cold-0.8")
        // It waits 0.9 to 1.1 s before it asks again, and gives up what it waits for after 1.0 s.
        | ("async-aws", _, "cold-0.8" | "cold-1.5" | "503")
        // Their last answer comes about as late as the session.
        | ("rust" | "js2" | "kotlin" | "awscrt" | "restic", _, "cold-3") => few(503, true),
        ("async-aws", _, "429") => few(429, true),
        ("rust" | "java1" | "java2" | "minio-go" | "minio-py" | "s3fs", _, "429") => {
            refused("takes it for “no credentials”", 429)
        }
        _ => None,
    }
}

/// How often a client asks before it gives up.
fn few_tries(client: &str) -> Option<(&'static str, RangeInclusive<usize>)> {
    Some(match client {
        "minio-go" => ("asks once", 1..=1),
        "async-aws" => ("asks once or twice", 1..=2),
        "rclone" => ("asks twice", 2..=2),
        "rust" | "kotlin" | "ruby" | "gdal" => ("asks three times", 3..=3),
        "js2" | "awscrt" | "restic" => ("asks four times", 4..=4),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::answered;
    use crate::clients::CLIENTS;

    #[test]
    fn who_gives_up_sooner_or_is_answered_something_else_is_not_explained() {
        let limit = |name, case| limit(CLIENTS.iter().find(|client| client.name == name)?, case);
        let gdal = limit("gdal", "cold-3").unwrap();
        assert!(gdal.explains(&answered("", vec![503; 3])));
        for statuses in [vec![], vec![503; 2], vec![503; 4], vec![503, 503, 400]] {
            assert!(!gdal.explains(&answered("", statuses.clone())), "{statuses:?}");
        }
        assert!(limit("boto3", "cold-3").is_none());
    }
}
