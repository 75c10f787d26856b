//! The proxy's own credentials through IAM Identity Center or a `credential_process`: a login that is missing, ended, refreshed or
//! done anew, and what STS calls expired.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::slice;

use crate::http::get;
use crate::portal::{Portal, Profile, ROLE};
use crate::rig::{self, Process, until};
use crate::sts::Sts;
use crate::tasks::{ACCOUNT, Config, Task};

const LOGIN: &str = "run `aws sso login`";

/// A proxy with one task, whose own credentials are in a profile of its home.
struct Proxy {
    process: Process,
    home: PathBuf,
    task: Task,
}

impl Proxy {
    /// With what is written into its home before it starts.
    fn start(sts: &Sts, environment: Vec<(&'static str, String)>, write: impl FnOnce(&Path)) -> Self {
        let task = Task::new("web");
        let start = rig::serve(Config::new(slice::from_ref(&task))).args("--operations-listen 127.0.0.1:0");
        let home = start.home().to_owned();
        write(&home);
        let start = start.env("AWS_ENDPOINT_URL_STS", &sts.endpoint).env("AWS_REGION", "us-west-2").envs(environment);
        Self { process: start.env("AWS_PROFILE", "work").spawn(), home, task }
    }

    fn operations(&self) -> SocketAddr {
        let said = self.process.says("operations at http://");
        let (_, address) = said.split_once("operations at http://").unwrap();
        address.lines().next().unwrap().parse().unwrap()
    }

    fn is_ready(&self) -> bool {
        get(self.operations(), "/readyz").status == 200
    }

    /// Why it is not ready: the message about the base credentials.
    fn unready(&self) -> String {
        let answer = get(self.operations(), "/readyz");
        assert_eq!((answer.status, get(self.operations(), "/healthz").status), (503, 200));
        let reasons = answer.json()["reasons"].clone();
        assert_eq!((reasons[0]["check"].as_str(), reasons.as_array().unwrap().len()), (Some("base_credentials"), 1));
        reasons[0]["message"].as_str().unwrap().to_owned()
    }

    fn is_served(&self) -> bool {
        get(self.process.address(), &self.task.path()).status == 200
    }

    /// It has begun without credentials of its own, and says this in readiness, to readers and in the log, there once.
    fn tells(&self, remedy: &str) {
        let message = self.unready();
        assert!(message.contains(remedy), "{message}");
        until("the cause in the answer", || {
            let answer = get(self.process.address(), &self.task.path());
            assert_eq!((answer.status, answer.error().0.as_str()), (503, "CredentialsUninitialized"));
            answer.error().1.contains(remedy)
        });
        // More failures than one.
        let log = self.process.logs("in_a_row=2");
        let told: Vec<_> = log.lines().filter(|line| line.contains(remedy) && !line.contains("DEBUG")).collect();
        assert_eq!(told.len(), 1, "{log}");
        assert!(told.iter().all(|line| line.contains("WARN") && line.contains("no new session")), "{told:?}");
    }

    fn recovers(&self) {
        until("ready", || self.is_ready());
        until("served", || self.is_served());
    }
}

/// Outcomes and callers of the AssumeRole calls that came of the proxy.
fn calls(sts: &Sts) -> Vec<(String, Option<String>)> {
    let calls = sts.assume_role_calls().into_iter();
    calls
        .filter(|call| call.role_session_name.as_deref() != Some("proxy"))
        .map(|it| (it.outcome.into_owned(), it.caller_arn))
        .collect()
}

fn granted(role: &str) -> (String, Option<String>) {
    ("Success".to_owned(), Some(format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/proxy")))
}

#[test]
fn a_login_gives_the_credentials_that_the_sessions_are_got_with() {
    for profile in [Profile::Session, Profile::Legacy] {
        let (sts, portal) = (Sts::new(), Portal::new());
        let token = portal.access_token([sts.session(ROLE)]);
        let proxy = Proxy::start(&sts, portal.environment(), |home| {
            profile.write(home);
            profile.login(home, &token);
        });
        proxy.recovers();
        assert_eq!(calls(&sts), [granted(ROLE)], "{profile:?}");
        assert_eq!(portal.asked(), [token], "{profile:?}");
    }
}

type Before<'a> = &'a dyn Fn(Profile, &Path);

#[test]
fn without_a_login_that_stands_it_starts_says_so_and_recovers_with_the_next_login() {
    let missing = |_: Profile, _: &Path| ();
    let ended = |profile: Profile, home: &Path| profile.ended_login(home, None);
    let cut = |profile: Profile, home: &Path| {
        profile.ended_login(home, None);
        let file = std::fs::OpenOptions::new().write(true).open(profile.cache(home)).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    };
    let cases: [(Profile, Before<'_>); 5] = [
        (Profile::Session, &missing),
        (Profile::Session, &ended),
        (Profile::Session, &cut),
        (Profile::Legacy, &missing),
        (Profile::Legacy, &ended),
    ];
    for (profile, before) in cases {
        let (sts, portal) = (Sts::new(), Portal::new());
        let proxy = Proxy::start(&sts, portal.environment(), |home| {
            profile.write(home);
            before(profile, home);
        });
        proxy.tells(LOGIN);
        let is_there = profile.cache(&proxy.home).exists();
        assert_eq!(proxy.unready().contains("No such file"), !is_there, "{}", proxy.unready());
        assert!(calls(&sts).is_empty());
        profile.login(&proxy.home, &portal.access_token([sts.session(ROLE)]));
        proxy.recovers();
        assert_eq!(calls(&sts), [granted(ROLE)], "{profile:?}");
    }
}

#[test]
fn an_access_token_that_has_ended_is_refreshed_and_kept_for_the_next_start() {
    let (sts, portal, profile) = (Sts::new(), Portal::new(), Profile::Session);
    let access = portal.access_token([sts.session(ROLE)]);
    let refresh = portal.refresh_token(&access);
    let proxy = Proxy::start(&sts, portal.environment(), |home| {
        profile.write(home);
        profile.ended_login(home, Some(&refresh));
    });
    proxy.recovers();
    assert_eq!(calls(&sts), [granted(ROLE)]);
    let kept = std::fs::read_to_string(profile.cache(&proxy.home)).unwrap();
    assert!(kept.contains(&access) && !kept.contains(&refresh), "the new tokens are in the cache");
}

#[test]
fn a_refresh_that_is_refused_asks_for_a_login() {
    let (sts, portal, profile) = (Sts::new(), Portal::new(), Profile::Session);
    let unknown = Portal::new().refresh_token("an access token of another portal");
    let proxy = Proxy::start(&sts, portal.environment(), |home| {
        profile.write(home);
        profile.ended_login(home, Some(&unknown));
    });
    proxy.tells(LOGIN);
}

/// The credentials of the first login would stand for an hour.
#[test]
fn a_login_that_is_done_anew_or_taken_back_is_noticed_at_once() {
    for profile in [Profile::Session, Profile::Legacy] {
        let (sts, portal) = (Sts::new(), Portal::new());
        let [first, second] = [0, 1].map(|_| portal.access_token([sts.session(ROLE)]));
        let proxy = Proxy::start(&sts, portal.environment(), |home| {
            profile.write(home);
            profile.login(home, &first);
        });
        proxy.recovers();
        profile.login(&proxy.home, &second);
        assert!(proxy.is_ready() && proxy.is_ready());
        assert_eq!(portal.asked(), [first, second], "{profile:?}");
        std::fs::remove_file(profile.cache(&proxy.home)).unwrap();
        assert!(proxy.unready().contains(LOGIN), "{profile:?}");
    }
}

#[test]
fn what_sts_calls_expired_is_got_anew_from_the_portal_and_the_call_is_made_once_more() {
    let (sts, portal) = (Sts::new(), Portal::new());
    let ended = sts.ended_session(ROLE);
    let token = portal.access_token([ended, sts.session("another")]);
    let proxy = Proxy::start(&sts, portal.environment(), |home| {
        Profile::Session.write(home);
        Profile::Session.login(home, &token);
    });
    until("served", || proxy.is_served());
    assert_eq!(calls(&sts), [("ExpiredToken".to_owned(), None), granted("another")]);
    assert_eq!(portal.asked(), [token.clone(), token]);
    assert!(!proxy.process.end().stderr.contains("no new session"));
}

#[test]
fn where_the_portal_has_only_what_sts_calls_expired_the_call_is_not_made_again_at_once() {
    let (sts, portal) = (Sts::new(), Portal::new());
    let token = portal.access_token([sts.ended_session(ROLE)]);
    let proxy = Proxy::start(&sts, portal.environment(), |home| {
        Profile::Session.write(home);
        Profile::Session.login(home, &token);
    });
    let log = proxy.process.logs("in_a_row=2");
    assert!(log.contains("ExpiredToken"), "{log}");
    proxy.process.end();
    // Each load asks the portal for more, and STS once.
    assert!(calls(&sts).len() <= portal.asked().len(), "{:?}", calls(&sts));
}

/// A profile with a process that prints the file `now`, which `next` takes the place of afterwards, if it is there.
fn write_process(home: &Path) {
    let script = "cat now || { echo 'unlock the vault first' >&2; exit 1; }; test ! -e next || mv next now";
    std::fs::create_dir_all(home.join(".aws")).unwrap();
    std::fs::write(home.join("process.sh"), format!("cd '{}'; {script}\n", home.display())).unwrap();
    let profile = format!("[profile work]\ncredential_process = /bin/sh {}/process.sh\n", home.display());
    std::fs::write(home.join(".aws/config"), profile).unwrap();
}

fn process_answer(session: &aws_sdk_sts::types::Credentials) -> String {
    serde_json::json!({
        "Version": 1,
        "AccessKeyId": session.access_key_id(),
        "SecretAccessKey": session.secret_access_key(),
        "SessionToken": session.session_token(),
        "Expiration": "2099-01-01T00:00:00Z",
    })
    .to_string()
}

#[test]
fn a_process_that_fails_is_told_and_run_again_until_it_does_not() {
    let sts = Sts::new();
    let proxy = Proxy::start(&sts, Vec::new(), write_process);
    proxy.tells("give the proxy AWS credentials");
    assert!(proxy.unready().contains("unlock the vault first"), "{}", proxy.unready());
    std::fs::write(proxy.home.join("now"), process_answer(&sts.session("vault"))).unwrap();
    proxy.recovers();
    assert_eq!(calls(&sts), [granted("vault")]);
}

#[test]
fn what_sts_calls_expired_is_got_anew_from_the_process_and_the_call_is_made_once_more() {
    let sts = Sts::new();
    let (ended, next) = (process_answer(&sts.ended_session("vault")), process_answer(&sts.session("another")));
    let proxy = Proxy::start(&sts, Vec::new(), |home| {
        write_process(home);
        std::fs::write(home.join("now"), ended).unwrap();
        std::fs::write(home.join("next"), next).unwrap();
    });
    until("served", || proxy.is_served());
    assert_eq!(calls(&sts), [("ExpiredToken".to_owned(), None), granted("another")]);
    assert!(!proxy.process.end().stderr.contains("no new session"));
}
