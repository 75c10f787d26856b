//! A registration as JSON, read by the rules of `[[task]]`: the same keys in camelCase, all faults at once.

use std::borrow::Cow;
use std::path::Path;

use serde_json::Value as Json;
use taskcreds_core::{NewTask, RoleKind, Token};
use toml_span::value::{Key, Table, Value, ValueInner};
use toml_span::{Span, value};

use super::section::{Fault, Faults, Placed, Section};
use super::task::{Settings, Tasks};

/// What a request asks to register: one task, one or both of its roles.
#[derive(Debug)]
pub struct Request {
    /// The roles of the task.
    pub tasks: Vec<NewTask>,
    /// Which of them got an id that was made here.
    pub made_ids: Vec<RoleKind>,
    /// Whether the token was made here, because the request asks for one.
    pub token_is_made: bool,
    /// What works but deserves attention.
    pub warnings: Vec<String>,
}

/// Reads a request. The file's `[defaults]` have no say in it.
///
/// # Errors
/// Every fault at once; none shows a value.
pub fn parse(body: &[u8]) -> Result<Request, Vec<Fault>> {
    let fault = |path: &str, message: String| Fault { place: "request".to_owned(), path: path.to_owned(), message };
    let json: Json = match serde_json::from_slice(body) {
        Ok(Json::Object(object)) => Json::Object(object),
        Ok(_) => return Err(vec![fault("", "must be a JSON object".to_owned())]),
        // The library's message tells the place and never a value.
        Err(error) => return Err(vec![fault("", format!("not JSON: {error}"))]),
    };
    let mut before = Vec::new();
    let mut table = table(json);
    let token_is_made = match table.remove("with_token").map(|mut value| value.take()) {
        None | Some(ValueInner::Boolean(false)) => false,
        Some(ValueInner::Boolean(true)) => true,
        Some(_) => {
            before.push(fault("withToken", "must be true or false".to_owned()));
            false
        }
    };
    if token_is_made && table.contains_key("token") {
        before.push(fault("", "token and withToken are both set; keep one".to_owned()));
    } else if token_is_made {
        let made = ValueInner::String(Token::random().expose().to_owned().into());
        table.insert(key("token".into()), Value::new(made));
    }
    if table.remove("token_file").is_some() {
        before.push(fault("tokenFile", "is for the configuration file; send token or withToken".to_owned()));
    }
    let mut faults = Faults { file: "request", text: "", found: Vec::new() };
    let mut tasks = Tasks::default();
    let placed = Placed { value: ValueInner::Table(table), span: Span::default(), path: String::new() };
    if let Some(section) = Section::new(placed, &mut faults) {
        tasks.read(section, &Settings::default(), Path::new("/"), &mut faults);
    }
    before.extend(faults.in_order().into_iter().map(in_camel_case));
    if before.is_empty() {
        let made_ids = tasks.made.iter().map(|made| made.role_kind).collect();
        Ok(Request { tasks: tasks.tasks, made_ids, token_is_made, warnings: tasks.warnings })
    } else {
        Err(before)
    }
}

/// The keys of the outermost object are this program's, those of the others the user's.
fn table(json: Json) -> Table<'static> {
    let Json::Object(object) = json else { return Table::new() };
    let known = object.into_iter().filter_map(|(name, json)| Some((key(in_snake_case(&name).into()), value(json)?)));
    known.collect()
}

fn key(name: Cow<'static, str>) -> Key<'static> {
    Key { name, span: Span::default() }
}

/// `null` is as good as absent.
fn value(json: Json) -> Option<Value<'static>> {
    Some(Value::new(match json {
        Json::Null => return None,
        Json::Bool(value) => ValueInner::Boolean(value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => ValueInner::Integer(integer),
            None => ValueInner::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => ValueInner::String(text.into()),
        Json::Array(items) => ValueInner::Array(items.into_iter().filter_map(value).collect::<value::Array<'_>>()),
        Json::Object(object) => ValueInner::Table(
            object.into_iter().filter_map(|(name, json)| Some((key(name.into()), value(json)?))).collect(),
        ),
    }))
}

/// `taskArn` is `task_arn`. A key that has an underscore already is none of ours and stays unknown.
fn in_snake_case(name: &str) -> String {
    if name.contains('_') {
        return name.replace('_', "__");
    }
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// Faults speak of the file's keys; here they have other names.
fn in_camel_case(fault: Fault) -> Fault {
    let place = "request".to_owned();
    let path = match fault.path.split_once('.') {
        Some((first, rest)) => format!("{}.{rest}", camel(first)),
        None => camel(&fault.path),
    };
    // A request may ask for a token and names no file.
    let message = camel(&fault.message)
        .replace("set token or tokenFile", "set withToken or token")
        .replace("tokenFile", "withToken");
    Fault { place, path, message }
}

/// `task_arn` is `taskArn`; an underscore that does not join two letters stays.
fn camel(text: &str) -> String {
    let mut camel = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        match chars.peek().copied() {
            Some('_') if c == '_' => {
                chars.next();
                camel.push('_');
            }
            Some(next) if c == '_' && before.is_ascii_alphanumeric() && next.is_ascii_alphabetic() => {
                chars.next();
                camel.push(next.to_ascii_uppercase());
            }
            _ => camel.push(c),
        }
        before = c;
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:ecs:us-west-2:111122223333:task/prod/t1";
    const ROLE: &str = "arn:aws:iam::111122223333:role/web";

    fn faults(json: &str) -> String {
        match parse(json.as_bytes()) {
            Ok(_) => String::new(),
            Err(faults) => faults.iter().map(|fault| format!("{fault}\n")).collect(),
        }
    }

    #[test]
    fn a_request_has_the_keys_of_the_file_in_camel_case() {
        let body = serde_json::json!({
            "taskArn": ARN, "roleArn": ROLE, "executionRoleArn": format!("{ROLE}-execution"), "durationSeconds": 7200,
            "credentialsId": "4b9a3c2e-7d11-4f7e-9a55-0c1d2e3f4a5b", "tags": {"costCenter": "x", "a_b": "y"}, "family": null,
            "policyArns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"], "withToken": true, "transitiveTags": true,
        });
        let request = parse(body.to_string().as_bytes()).unwrap();
        let [task, execution] = request.tasks.as_slice() else { panic!("{request:?}") };
        assert_eq!(task.id.expose(), "4b9a3c2e-7d11-4f7e-9a55-0c1d2e3f4a5b");
        assert_eq!((request.made_ids, request.token_is_made), (vec![RoleKind::Execution], true));
        assert_eq!(task.tokens[0].expose(), execution.tokens[0].expose());
        assert!(task.spec.duration.seconds() == 7200 && task.spec.transitive_tags && task.spec.policy_arns.len() == 1);
        for key in ["costCenter", "a_b"] {
            assert!(task.spec.tags.iter().any(|tag| tag.key() == key), "{key}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once_in_the_words_of_the_request() {
        let found = faults(
            r#"{"taskArn":"x","roleArn":7,"tags":{"aws:x_y":"v"},"task_arn":"y","tokenFile":"/etc/shadow","withToken":1,"noSuch":1}"#,
        );
        for fault in [
            "request: taskArn: task ARN must have the form",
            "request: roleArn: must be a string",
            "request: tags.aws:x_y: tag may not begin with aws:",
            "request: task_arn: unknown key; the keys here are taskArn",
            "withToken",
            "request: noSuch: unknown key",
            "request: tokenFile: is for the configuration file",
            "request: withToken: must be true or false",
        ] {
            assert!(found.contains(fault), "{fault} is not in\n{found}");
        }
        assert!(faults("{}").contains("taskArn is missing") && faults("{}").contains("a task needs a roleArn"));
        assert!(faults("[]").contains("must be a JSON object") && faults("{").contains("not JSON"));
        assert!(faults(r#"{"token":"a","withToken":true}"#).contains("keep one"));
    }

    #[test]
    fn a_key_that_nobody_knows_is_told_with_all_that_the_interface_has() {
        let document: Json = serde_json::from_str(include_str!("../../../../docs/openapi.json")).unwrap();
        let found = faults(r#"{"noSuch":1}"#);
        for key in document["components"]["schemas"]["Register"]["properties"].as_object().unwrap().keys() {
            let is_told = found.split([' ', ',', '\n']).any(|word| word == key);
            assert!(is_told, "{key} is not in {found}");
        }
    }

    #[test]
    fn no_fault_shows_a_value() {
        let secret = "s3cret value";
        for key in ["credentialsId", "token", "previousToken", "policy", "taskArn"] {
            let found = faults(&serde_json::json!({ key: secret }).to_string());
            assert!(!found.is_empty() && !found.contains(secret), "{found}");
        }
    }

    #[test]
    fn nothing_panics_on_a_request_cut_at_any_byte() {
        let whole = serde_json::json!({"taskArn": ARN, "roleArn": ROLE, "tags": {"é": [1.5, null, {}]}}).to_string();
        for end in 0..=whole.len() {
            let _ = parse(&whole.as_bytes()[..end]);
        }
        let _ = parse("[".repeat(100_000).as_bytes());
    }
}
