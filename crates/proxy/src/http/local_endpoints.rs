//! The paths of amazon-ecs-local-container-endpoints, for `dev` where a flag asks for them: a role is named in place of an id.
//!
//! A path chooses among the task roles that are listed, byte for byte, and is turned into the credentials id of one of them. From
//! there on it is a request with that id: the task's token, sources and session. No role is ever made from a path, so STS sees none
//! that is not registered, and the proxy's own credentials are behind no path at all.
//!
//! | path | answer |
//! |---|---|
//! | `/creds` | the session of the default role: the only one, or the one that `--creds-role` names |
//! | `/role/NAME` | the session of the role of that name, whatever its path in IAM |
//! | `/role-arn/ARN` | the session of that role |
//! | `/v2/metadata`, `/v2/stats`, `/v3`, `/v4` | 404: task metadata is not served |
//!
//! One slash more at the end is taken, as there. Execution roles are the agent's and have no such path.

use http::request::Parts;
use taskcreds_core::{CredentialsId, NewTask, Refusal, RoleArn, RoleKind};

use super::error::{Fault, Version};
use super::guard::{self, AllowedHosts, Asked};

/// What the other server has and this one has not.
const METADATA: [&str; 4] = ["/v2/metadata", "/v2/stats", "/v3", "/v4"];

/// The roles that a path may name, in the order in which they are listed.
#[derive(Debug)]
pub struct LocalEndpoints {
    roles: Vec<(RoleArn, CredentialsId)>,
    /// Whose session `/creds` is.
    default: Option<CredentialsId>,
}

impl LocalEndpoints {
    /// The task roles of these tasks; of several tasks with one role the first stands for it. `default` is a role's name or ARN.
    ///
    /// # Errors
    /// `default` names none of the roles, or more than one.
    pub fn new(tasks: &[NewTask], default: Option<&str>) -> Result<Self, String> {
        let mut roles: Vec<(RoleArn, CredentialsId)> = Vec::new();
        for task in tasks.iter().filter(|task| task.role_kind == RoleKind::Task) {
            if roles.iter().all(|(arn, _)| *arn != task.spec.role_arn) {
                roles.push((task.spec.role_arn.clone(), task.id.clone()));
            }
        }
        let only = match roles.as_slice() {
            [(_, only)] => Some(only.clone()),
            _ => None,
        };
        let mut local = Self { roles, default: only };
        if let Some(name) = default {
            let id = local.by_arn(name).map_or_else(|| local.by_name(name), Ok).map_err(|several| {
                let which =
                    if several { "the name of several of the roles; give its ARN" } else { "none of the roles" };
                let listed = local.roles.iter().map(|(arn, _)| arn.as_str()).collect::<Vec<_>>().join(", ");
                format!("is {which}: {listed}")
            });
            local.default = Some(id?.clone());
        }
        Ok(local)
    }

    /// The paths that are answered with a session, and with which role's.
    pub fn paths(&self) -> impl Iterator<Item = (String, &RoleArn)> {
        let is_default = |id: &CredentialsId| self.default.as_ref().is_some_and(|own| own.digest() == id.digest());
        let default =
            self.roles.iter().filter(move |(_, id)| is_default(id)).map(|(arn, _)| ("/creds".to_owned(), arn));
        let named = self.roles.iter().filter(|(arn, _)| self.by_name(arn.name()).is_ok());
        let named = named.map(|(arn, _)| (format!("/role/{}", arn.name()), arn));
        default.chain(named).chain(self.roles.iter().map(|(arn, _)| (format!("/role-arn/{arn}"), arn)))
    }

    /// Checks a request by the rules of [`guard::check`], with these paths beside the endpoint's own.
    ///
    /// # Errors
    /// The [`Fault`] of the first rule that it breaks.
    pub fn check<'a>(&'a self, request: &'a Parts, hosts: &AllowedHosts) -> Result<Asked<'a>, Fault> {
        let token = guard::all_but_path(request, hosts)?;
        let (version, id) = match self.find(guard::path(request)) {
            Some(found) => found?,
            None => guard::id(request).map_err(|fault| match fault {
                Fault::Path => Fault::NotServed(
                    "credentials are at /creds, /role/NAME, /role-arn/ARN, /v2/credentials/ID and /v1/credentials?id=ID",
                ),
                other => other,
            })?,
        };
        Ok(Asked { version, id, token })
    }

    /// The id that a path stands for; `None` where the path is none of these.
    fn find(&self, path: &str) -> Option<Result<(Version, &str), Fault>> {
        if METADATA.iter().any(|at| path.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        {
            return Some(Err(Fault::NotServed(
                "task metadata is not served here, credentials are: unset ECS_CONTAINER_METADATA_URI and \
                 ECS_CONTAINER_METADATA_URI_V4",
            )));
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let found = if path == "/creds" {
            let several =
                Fault::Malformed("no role is the default: start dev with --creds-role NAME, or ask for /role/NAME");
            self.default.as_ref().ok_or(several).map(|id| (Version::Creds, id))
        } else if let Some(name) = path.strip_prefix("/role/") {
            self.by_name(name).map(|id| (Version::Role, id)).map_err(|several| {
                let with_a_path = Fault::Malformed("a role is named without its path, as /role/NAME");
                match several {
                    true => Fault::Malformed("several of the listed roles have this name: ask for /role-arn/ARN"),
                    false if name.contains('/') => with_a_path,
                    false => unlisted(Version::Role, name),
                }
            })
        } else if let Some(arn) = path.strip_prefix("/role-arn/") {
            self.by_arn(arn).map(|id| (Version::RoleArn, id)).ok_or_else(|| unlisted(Version::RoleArn, arn))
        } else {
            return None;
        };
        Some(found.map(|(version, id)| (version, id.expose())))
    }

    fn by_arn(&self, arn: &str) -> Option<&CredentialsId> {
        self.roles.iter().find(|(listed, _)| listed.as_str() == arn).map(|(_, id)| id)
    }

    /// The only role of this name; otherwise whether there are several.
    fn by_name(&self, name: &str) -> Result<&CredentialsId, bool> {
        let mut named = self.roles.iter().filter(|(listed, _)| listed.name() == name);
        match (named.next(), named.next()) {
            (Some((_, id)), None) => Ok(id),
            (several, _) => Err(several.is_some()),
        }
    }
}

/// Nothing is decoded: what is written with percent signs is told so, for somebody meant a role by it.
fn unlisted(version: Version, role: &str) -> Fault {
    match role {
        "" => Fault::NoId(version),
        role if role.contains('%') => guard::NOT_CANONICAL,
        _ => Fault::Refused(version, Refusal::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use taskcreds_core::test_util::new_task;

    use super::*;

    const WEB: &str = "arn:aws:iam::111122223333:role/web";
    const DEEP: &str = "arn:aws:iam::111122223333:role/a/b/deep+1@x,y=z.w";

    fn task(role: &str, kind: RoleKind) -> NewTask {
        let mut task = new_task("x");
        task.spec.role_arn = RoleArn::new(role).unwrap();
        NewTask { role_kind: kind, id: CredentialsId::random(), ..task }
    }

    fn roles(arns: &[&str]) -> Vec<NewTask> {
        arns.iter().map(|arn| task(arn, RoleKind::Task)).collect()
    }

    /// The place in the list of the role whose session it is.
    fn ask(local: &LocalEndpoints, tasks: &[NewTask], path: &str) -> Result<(Version, usize), Fault> {
        let request = http::Request::get(path).header("host", "169.254.170.2").header("authorization", "tok");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let asked = local.check(&parts, &AllowedHosts::with([]))?;
        assert_eq!(asked.token, b"tok");
        Ok((asked.version, tasks.iter().position(|task| task.id.expose() == asked.id).unwrap()))
    }

    #[test]
    fn a_listed_role_is_found_by_its_name_and_its_arn_whatever_its_path() {
        let tasks = roles(&[WEB, DEEP]);
        let local = LocalEndpoints::new(&tasks, None).unwrap();
        for (path, found) in [
            ("/role/web".to_owned(), (Version::Role, 0)),
            ("//role/web/".to_owned(), (Version::Role, 0)),
            ("/role/web?role=deep".to_owned(), (Version::Role, 0)),
            ("/role/deep+1@x,y=z.w".to_owned(), (Version::Role, 1)),
            (format!("/role-arn/{WEB}"), (Version::RoleArn, 0)),
            (format!("/role-arn/{DEEP}/"), (Version::RoleArn, 1)),
            (format!("/v2/credentials/{}", tasks[1].id.expose()), (Version::V2, 1)),
            (format!("/v1/credentials?id={}", tasks[0].id.expose()), (Version::V1, 0)),
        ] {
            assert_eq!(ask(&local, &tasks, &path), Ok(found), "{path}");
        }
        let paths: Vec<_> = local.paths().map(|(path, _)| path).collect();
        assert_eq!(paths.len(), 4, "{paths:?}");
        assert!(paths.iter().all(|path| ask(&local, &tasks, path).is_ok()));
    }

    #[test]
    fn what_is_not_listed_or_not_as_it_is_listed_is_not_there() {
        let tasks = roles(&[WEB, DEEP]);
        let local = LocalEndpoints::new(&tasks, None).unwrap();
        for path in ["/role/admin", "/role/we", "/role/WEB", "/role/web.", "/role/..", "/role/deep"] {
            assert_eq!(ask(&local, &tasks, path), Err(Fault::Refused(Version::Role, Refusal::Unknown)), "{path}");
        }
        let other = "/role-arn/arn:aws:iam::444455556666:role/web";
        for path in [other, "/role-arn/web", "/role-arn/arn:aws:iam::111122223333:role/", "/role-arn/arn"] {
            assert_eq!(ask(&local, &tasks, path), Err(Fault::Refused(Version::RoleArn, Refusal::Unknown)), "{path}");
        }
        for path in [
            "/role/%77eb",
            "/role/web%2f",
            "/role-arn/arn%3Aaws%3Aiam::111122223333:role/web",
            "/role/a/web",
            "/role//web",
            "/role/web//",
            "/role/../role/web",
            "/%72ole/web",
            "/creds/../role/web",
        ] {
            assert!(matches!(ask(&local, &tasks, path), Err(Fault::Malformed(_))), "{path}");
        }
        for path in ["/role", "/role/", "/role-arn/", "/Role/web", "/roles/web", "/", "/credsx", "/tempcreds"] {
            let refused = ask(&local, &tasks, path);
            assert!(matches!(refused, Err(Fault::NotServed(_) | Fault::NoId(_))), "{path}: {refused:?}");
        }
    }

    #[test]
    fn creds_is_the_only_role_or_the_one_that_is_named() {
        let creds = |tasks: &[NewTask], default| ask(&LocalEndpoints::new(tasks, default).unwrap(), tasks, "/creds");
        assert_eq!(creds(&roles(&[WEB]), None), Ok((Version::Creds, 0)));
        assert!(
            matches!(creds(&roles(&[WEB, DEEP]), None), Err(Fault::Malformed(why)) if why.contains("--creds-role"))
        );
        assert_eq!(creds(&roles(&[DEEP, WEB]), Some("web")), Ok((Version::Creds, 1)));
        assert_eq!(creds(&roles(&[WEB, DEEP]), Some(DEEP)), Ok((Version::Creds, 1)));
        let error = LocalEndpoints::new(&roles(&[WEB]), Some("admin")).unwrap_err();
        assert!(error.contains("none of the roles") && error.contains(WEB), "{error}");
    }

    #[test]
    fn of_a_name_that_several_roles_have_the_arn_must_be_told() {
        let other = "arn:aws:iam::111122223333:role/other/web";
        let tasks = roles(&[WEB, other]);
        let local = LocalEndpoints::new(&tasks, None).unwrap();
        assert!(matches!(ask(&local, &tasks, "/role/web"), Err(Fault::Malformed(why)) if why.contains("/role-arn/")));
        assert_eq!(ask(&local, &tasks, &format!("/role-arn/{other}")), Ok((Version::RoleArn, 1)));
        assert!(LocalEndpoints::new(&tasks, Some("web")).unwrap_err().contains("give its ARN"));
        assert!(local.paths().all(|(path, _)| path.starts_with("/role-arn/")));
    }

    #[test]
    fn of_several_tasks_with_one_role_the_first_stands_for_it_and_execution_roles_are_not_there() {
        let mut tasks = vec![task(DEEP, RoleKind::Execution)];
        tasks.extend(roles(&[WEB, WEB]));
        let local = LocalEndpoints::new(&tasks, None).unwrap();
        assert_eq!(ask(&local, &tasks, "/role/web"), Ok((Version::Role, 1)));
        assert_eq!(ask(&local, &tasks, "/creds"), Ok((Version::Creds, 1)));
        assert!(matches!(ask(&local, &tasks, &format!("/role-arn/{DEEP}")), Err(Fault::Refused(..))));
    }

    #[test]
    fn task_metadata_is_told_to_be_elsewhere() {
        let tasks = roles(&[WEB]);
        let local = LocalEndpoints::new(&tasks, None).unwrap();
        for path in ["/v2/metadata", "/v2/metadata/x", "/v2/stats/", "/v3", "/v3/containers/x/task", "/v4/task/stats"] {
            let told = matches!(ask(&local, &tasks, path), Err(Fault::NotServed(why)) if why.contains("task metadata"));
            assert!(told, "{path}");
        }
        assert!(matches!(ask(&local, &tasks, "/v33"), Err(Fault::NotServed(why)) if why.contains("/role/NAME")));
    }

    #[test]
    fn the_rules_of_every_request_are_theirs_too() {
        let tasks = roles(&[WEB]);
        let local = LocalEndpoints::new(&tasks, None).unwrap();
        let outcome = |method: &str, headers: &[(&str, &str)]| {
            let request = http::Request::builder().method(method).uri("/role/web");
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let (parts, ()) = request.body(()).unwrap().into_parts();
            local.check(&parts, &AllowedHosts::with([])).map(|asked| asked.token.to_vec())
        };
        assert_eq!(outcome("GET", &[("host", "169.254.170.2")]), Ok(Vec::new()));
        for headers in [
            &[("host", "evil.example")][..],
            &[("host", "localhost"), ("origin", "http://evil.example")],
            &[("host", "localhost"), ("sec-fetch-site", "cross-site")],
            &[("host", "localhost"), ("x-forwarded-for", "10.0.0.1")],
            &[("host", "localhost"), ("via", "1.1 proxy")],
        ] {
            assert!(matches!(outcome("GET", headers), Err(Fault::Forbidden(_))), "{headers:?}");
        }
        assert!(matches!(outcome("GET", &[]), Err(Fault::Malformed(_))));
        assert!(matches!(outcome("GET", &[("host", "localhost"), ("content-length", "1")]), Err(Fault::Malformed(_))));
        assert_eq!(outcome("POST", &[("host", "localhost")]), Err(Fault::Method));
    }
}
