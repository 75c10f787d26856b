//! Roles from a folder: one JSON file for each role, as `aws iam get-role` prints it, or with `RoleArn` in place of `Arn`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::document::{Fault, TrustPolicy};
use super::json::Json;
use crate::principal::{IamArn, Kind};
use crate::{Role, Tag};

/// Everything that is wrong with the files of a folder.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct RoleFileFaults(pub Vec<FileFault>);

/// One thing that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// The file.
    pub file: PathBuf,
    /// Where in it, and what.
    pub fault: Fault,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.fault)
    }
}

impl Role {
    /// Reads the JSON document of a role: `RoleArn` or `Arn`, and if it likes `AssumeRolePolicyDocument` (without one, the role trusts
    /// everybody), `MaxSessionDuration` and `Tags`, all of that also inside `Role`. What else `aws iam get-role` prints is passed over.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, Vec<Fault>> {
        let fault = |path: &str, message: String| Fault { path: path.to_owned(), message };
        let json: Json = serde_json::from_str(text).map_err(|error| vec![fault("", format!("is no JSON: {error}"))])?;
        let (prefix, json) = match json.get("Role") {
            Some(role) => ("Role.", role),
            None => ("", &json),
        };
        let at = |field: &str| format!("{prefix}{field}");
        let mut faults = Vec::new();
        let mut role = Self::default();
        match (json.get("RoleArn"), json.get("Arn")) {
            (Some(Json::Text(arn)), None) | (None, Some(Json::Text(arn))) if is_role(arn) => role.arn.clone_from(arn),
            (None, None) => faults.push(fault("", "has no RoleArn".to_owned())),
            (written, _) => {
                let field = at(if written.is_some() { "RoleArn" } else { "Arn" });
                faults.push(fault(&field, "must be one ARN such as arn:aws:iam::111122223333:role/NAME".to_owned()));
            }
        }
        match json.get("AssumeRolePolicyDocument") {
            Some(Json::Text(text)) => match text.parse::<TrustPolicy>() {
                Ok(policy) => role.trust_policy = Some(policy),
                Err(malformed) => {
                    faults.extend(malformed.0.into_iter().map(|below| inside(&at("AssumeRolePolicyDocument"), below)))
                }
            },
            Some(document) => match TrustPolicy::read(document, characters(document)) {
                Ok(policy) => role.trust_policy = Some(policy),
                Err(malformed) => {
                    faults.extend(malformed.0.into_iter().map(|below| inside(&at("AssumeRolePolicyDocument"), below)))
                }
            },
            None => {}
        }
        match json.get("MaxSessionDuration") {
            Some(Json::Number(seconds)) if seconds.parse().is_ok_and(|seconds| (3600..=43_200).contains(&seconds)) => {
                role.max_session_duration = seconds.parse().unwrap_or(role.max_session_duration);
            }
            None => {}
            Some(_) => faults.push(fault(&at("MaxSessionDuration"), "must be 3600 to 43200 seconds".to_owned())),
        }
        match json.get("Tags") {
            Some(Json::List(tags)) => {
                let read: Option<Vec<Tag>> = tags.iter().map(tag).collect();
                match read {
                    Some(tags) => role.tags = tags,
                    None => faults.push(fault(&at("Tags"), "must be a list of {\"Key\": …, \"Value\": …}".to_owned())),
                }
            }
            None => {}
            Some(_) => faults.push(fault(&at("Tags"), "must be a list of {\"Key\": …, \"Value\": …}".to_owned())),
        }
        if faults.is_empty() { Ok(role) } else { Err(faults) }
    }

    /// Reads every file of a folder whose name ends in `.json`, in the order of their names.
    ///
    /// # Errors
    /// Everything that is wrong with any of them; a folder without such a file; a role that two files describe.
    pub fn from_folder(folder: &Path) -> Result<Vec<Self>, RoleFileFaults> {
        let of = |file: &Path, message: String| FileFault {
            file: file.to_owned(),
            fault: Fault { path: String::new(), message },
        };
        let cannot = |file: &Path, error: std::io::Error| of(file, format!("cannot be read: {error}"));
        let entries = fs::read_dir(folder).map_err(|error| RoleFileFaults(vec![cannot(folder, error)]))?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        let (mut roles, mut faults) = (Vec::<Self>::new(), Vec::new());
        if files.is_empty() {
            faults.push(of(folder, "has no file whose name ends in .json".to_owned()));
        }
        for file in files {
            match fs::read_to_string(&file) {
                Err(error) => faults.push(cannot(&file, error)),
                Ok(text) => match Self::from_json(&text) {
                    Err(found) => faults.extend(found.into_iter().map(|fault| FileFault { file: file.clone(), fault })),
                    Ok(role) if roles.iter().any(|other| other.arn == role.arn) => {
                        faults.push(of(&file, format!("{} is in another file too", role.arn)));
                    }
                    Ok(role) => roles.push(role),
                },
            }
        }
        if faults.is_empty() { Ok(roles) } else { Err(RoleFileFaults(faults)) }
    }
}

fn is_role(arn: &str) -> bool {
    IamArn::parse(arn).is_some_and(|arn| arn.kind == Kind::Role)
}

fn inside(path: &str, Fault { path: below, message }: Fault) -> Fault {
    Fault { path: if below.is_empty() { path.to_owned() } else { format!("{path}.{below}") }, message }
}

fn tag(json: &Json) -> Option<Tag> {
    match (json.get("Key"), json.get("Value")) {
        (Some(Json::Text(key)), Some(Json::Text(value))) => Some(Tag { key: key.clone(), value: value.clone() }),
        _ => None,
    }
}

/// Characters of a document written without white space between its elements. White space inside texts, which IAM does not count
/// either, is rare enough.
fn characters(json: &Json) -> usize {
    let commas = |n: usize| n.saturating_sub(1);
    match json {
        Json::Null | Json::Bool(true) => 4,
        Json::Bool(false) => 5,
        Json::Number(text) => text.len(),
        Json::Text(text) => 2 + text.chars().filter(|c| !c.is_whitespace()).count(),
        Json::List(values) => 2 + commas(values.len()) + values.iter().map(characters).sum::<usize>(),
        Json::Object(fields) => {
            let fields_of = |(name, value): &(String, Json)| 3 + name.chars().count() + characters(value);
            2 + commas(fields.len()) + fields.iter().map(fields_of).sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;

    #[test]
    fn a_role_is_as_get_role_prints_it_or_shorter() {
        let printed = format!(
            r#"{{"Role":{{"Path":"/","RoleName":"web","RoleId":"AROA1234567890EXAMPLE","Arn":"arn:aws:iam::111122223333:role/web",
                "CreateDate":"2026-11-21T00:00:00Z","AssumeRolePolicyDocument":{POLICY},"Description":"","MaxSessionDuration":7200,
                "Tags":[{{"Key":"stage","Value":"live"}}],"RoleLastUsed":{{}}}}}}"#
        );
        let role = Role::from_json(&printed).unwrap();
        assert_eq!((role.arn.as_str(), role.max_session_duration), ("arn:aws:iam::111122223333:role/web", 7200));
        assert_eq!(role.tags, [Tag { key: "stage".to_owned(), value: "live".to_owned() }]);
        assert_eq!(role.trust_policy, Some(POLICY.parse().unwrap()));
        let text = serde_json::Value::from(POLICY);
        let short = Role::from_json(&format!(
            r#"{{"RoleArn":"arn:aws:iam::111122223333:role/web","AssumeRolePolicyDocument":{text}}}"#
        ));
        assert_eq!(short.unwrap(), Role { tags: Vec::new(), max_session_duration: 3600, ..role });
        let bare = Role::from_json(r#"{"RoleArn":"arn:aws:iam::111122223333:role/web"}"#).unwrap();
        assert_eq!(bare.trust_policy, None);
    }

    #[test]
    fn all_faults_of_all_files_are_told_at_once() {
        let folder = std::env::temp_dir().join(format!("taskcreds-roles-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write(
            "a.json",
            r#"{"Role":{"Arn":"arn:aws:iam::111122223333:user/me","AssumeRolePolicyDocument":{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}]},"MaxSessionDuration":60,"Tags":{}}}"#,
        );
        write("b.json", "{");
        write("c.json", r#"{"RoleArn":"arn:aws:iam::111122223333:role/web"}"#);
        write("d.json", r#"{"RoleArn":"arn:aws:iam::111122223333:role/web"}"#);
        write("e.json", r#"{"AssumeRolePolicyDocument":"{}"}"#);
        write("f.json", r#"{"RoleArn":"web"}"#);
        write("g.json", r#"{"RoleArn":"arn:aws:iam::111122223333:role/a","Arn":"arn:aws:iam::111122223333:role/b"}"#);
        write("read me.txt", "is passed over");
        let told = Role::from_folder(&folder).unwrap_err().to_string();
        let lines: Vec<_> =
            told.lines().map(|line| line.strip_prefix(&format!("{}/", folder.display())).unwrap()).collect();
        let begins = [
            "a.json: Role.Arn: must be one ARN",
            "a.json: Role.AssumeRolePolicyDocument.Statement[0]: Has prohibited field Resource",
            "a.json: Role.MaxSessionDuration: must be",
            "a.json: Role.Tags: must be",
            "b.json: is no JSON",
            "d.json: arn:aws:iam::111122223333:role/web is in another file too",
            "e.json: has no RoleArn",
            "e.json: AssumeRolePolicyDocument: has no Statement",
            "f.json: RoleArn: must be one ARN",
            "g.json: RoleArn: must be one ARN",
        ];
        assert_eq!(lines.len(), begins.len(), "{told}");
        assert!(lines.iter().zip(begins).all(|(line, begin)| line.starts_with(begin)), "{told}");
        for name in ["a.json", "b.json", "d.json", "e.json", "f.json", "g.json"] {
            fs::remove_file(folder.join(name)).unwrap();
        }
        assert_eq!(Role::from_folder(&folder).unwrap().len(), 1);
        fs::remove_file(folder.join("c.json")).unwrap();
        assert!(Role::from_folder(&folder).unwrap_err().to_string().contains("has no file whose name ends in .json"));
        fs::remove_dir_all(&folder).unwrap();
        assert!(Role::from_folder(&folder).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn characters_are_counted_as_in_a_compact_document() {
        let json: Json = serde_json::from_str(&POLICY.replace(':', ": ").replace("sts: ", "sts:")).unwrap();
        assert_eq!(characters(&json), POLICY.len());
    }
}
