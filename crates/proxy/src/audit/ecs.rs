//! The ECS agent's audit line, version 2, for parsers that know it: fields separated by spaces, `-` for what is not known.
//!
//! Unlike the agent's, all ten fields are there on errors too, and the user agent is escaped, so that a line is always ten fields.

use super::record::{Answered, time};
use taskcreds_core::RoleKind;

/// One line, with its end.
pub(super) fn line(answered: &Answered<'_>, container_instance_arn: Option<&str>) -> Vec<u8> {
    let task = answered.task;
    let event = match task.map(|task| task.role_kind()) {
        Some(RoleKind::Execution) => "GetCredentialsExecutionRole",
        Some(RoleKind::Task) | None => "GetCredentials",
    };
    format!(
        "{} {} {} \"{}\" \"{}\" {} {event} 2 {} {}\n",
        time(answered.time),
        answered.status,
        answered.peer,
        answered.path.unwrap_or("-"),
        answered.user_agent().map_or_else(|| "-".to_owned(), |agent| escaped(&agent)),
        task.map_or("-", |task| task.arn().as_str()),
        task.and_then(|task| task.arn().cluster()).unwrap_or("-"),
        container_instance_arn.unwrap_or("-"),
    )
    .into_bytes()
}

/// Neither ends the quotation nor the line.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            // The separators of Unicode end a line for some readers.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => escaped.extend(c.escape_unicode()),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use taskcreds_core::test_util::new_task;
    use taskcreds_core::{Registration, Registry};

    use super::*;

    #[test]
    fn a_line_has_ten_fields_whatever_the_user_agent_says() {
        let registry = Registry::new(1);
        let task = registry.register(Registration::configured(new_task("web"))).unwrap();
        let mut answered = Answered {
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_299_684),
            status: 200,
            code: None,
            peer: "172.17.0.2:4711".parse().unwrap(),
            path: Some("/v2/credentials"),
            user_agent: Some(b"Boto3/1.40 \"x\" \\ \n\xff"),
            reason: None,
            id: Some(task.id()),
            task: Some(&task),
            session: None,
        };
        let text = |answered: &Answered<'_>, instance| String::from_utf8(line(answered, instance)).unwrap();
        assert_eq!(
            text(&answered, Some("arn:aws:ecs:us-west-2:111122223333:container-instance/test/i")),
            "2026-11-21T22:21:24.000Z 200 172.17.0.2:4711 \"/v2/credentials\" \"Boto3/1.40 \\\"x\\\" \\\\ \\u{a}\u{fffd}\" \
             arn:aws:ecs:us-west-2:111122223333:task/test/task-web GetCredentials 2 test \
             arn:aws:ecs:us-west-2:111122223333:container-instance/test/i\n"
        );
        (answered.status, answered.task, answered.user_agent, answered.path) = (400, None, None, None);
        assert_eq!(
            text(&answered, None),
            "2026-11-21T22:21:24.000Z 400 172.17.0.2:4711 \"-\" \"-\" - GetCredentials 2 - -\n"
        );
    }
}
