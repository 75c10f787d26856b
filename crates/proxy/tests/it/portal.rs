//! IAM Identity Center as far as the AWS SDK asks it: the portal's GetRoleCredentials and OIDC's CreateToken, over plain HTTP.
//!
//! Sources: IAM Identity Center Portal API Reference, GetRoleCredentials; IAM Identity Center OIDC API Reference, CreateToken.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_sdk_sts::types::Credentials;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::rig::runtime;
use crate::secrets::{self, Kind};
use crate::tasks::ACCOUNT;

/// The role of the permission set.
pub(crate) const ROLE: &str = "AWSReservedSSO_proxy_0123456789abcdef";
const START_URL: &str = "https://corp.example/start";
const HOUR: Duration = Duration::from_secs(3600);

/// The two ways in which a profile names its login, and the file in `~/.aws/sso/cache` that `aws sso login` writes for it: the SHA-1
/// of the session's name or of the start URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// `sso_session = corp`, whose access token can be refreshed.
    Session,
    /// `sso_start_url` in the profile itself.
    Legacy,
}

/// A running portal. Gone when dropped.
pub(crate) struct Portal {
    endpoint: String,
    state: Arc<Mutex<State>>,
    running: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// What each access token gives, one after the other; the last one stays.
    roles: HashMap<String, VecDeque<Credentials>>,
    /// The access token that each refresh token gives.
    refreshes: HashMap<String, String>,
    /// The access tokens that credentials were asked with.
    asked: Vec<String>,
}

/// A new secret of a login.
fn secret(what: &str) -> String {
    let secret = format!("{what}-{}", uuid::Uuid::new_v4().simple());
    secrets::remember(Kind::Login, &secret);
    secret
}

/// A time as the cache has it: RFC 3339, whole seconds.
fn stamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

impl Portal {
    /// One that nobody has logged in to.
    pub(crate) fn new() -> Self {
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let running = runtime().spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let answering = service_fn(move |request| answer(Arc::clone(&state), request));
                all.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answering));
            }
        });
        Self { endpoint, state, running }
    }

    /// What a proxy needs to ask this portal, and nobody else whatever an SDK asks besides. Variables, because aws-runtime 1.10 looks for
    /// OIDC's endpoint under `sso-oidc` in a `services` section, where AWS's reference has `sso_oidc`.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let names = ["AWS_ENDPOINT_URL_SSO", "AWS_ENDPOINT_URL_SSO_OIDC", "AWS_ENDPOINT_URL"];
        names.map(|name| (name, self.endpoint.clone())).to_vec()
    }

    /// A new access token, which gives these credentials.
    pub(crate) fn access_token(&self, roles: impl IntoIterator<Item = Credentials>) -> String {
        let token = secret("access");
        self.state.lock().unwrap().roles.insert(token.clone(), roles.into_iter().collect());
        token
    }

    /// A new refresh token, which gives this access token.
    pub(crate) fn refresh_token(&self, access_token: &str) -> String {
        let token = secret("refresh");
        self.state.lock().unwrap().refreshes.insert(token.clone(), access_token.to_owned());
        token
    }

    /// The access tokens that credentials were asked with so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Profile {
    /// Writes `~/.aws/config`.
    pub(crate) fn write(self, home: &Path) {
        let login = match self {
            Self::Session => "sso_session = corp".to_owned(),
            Self::Legacy => format!("sso_start_url = {START_URL}\nsso_region = eu-central-1"),
        };
        let text = format!(
            "[profile work]\n{login}\nsso_account_id = {ACCOUNT}\nsso_role_name = {ROLE}\n\n\
             [sso-session corp]\nsso_start_url = {START_URL}\nsso_region = eu-central-1\n"
        );
        std::fs::create_dir_all(home.join(".aws")).unwrap();
        std::fs::write(home.join(".aws/config"), text).unwrap();
    }

    /// The file of its login.
    pub(crate) fn cache(self, home: &Path) -> PathBuf {
        let name = match self {
            Self::Session => "ee0bfd2552fbd840c02cc48b6e823320543c450f",
            Self::Legacy => "f7c9b39d0b4c7a7d82c79307585f77e1c5e74378",
        };
        home.join(".aws/sso/cache").join(name).with_extension("json")
    }

    /// As `aws sso login` does: writes an access token that ends in an hour.
    pub(crate) fn login(self, home: &Path, access_token: &str) {
        self.keep(home, &json!({"accessToken": access_token, "expiresAt": stamp(SystemTime::now() + HOUR)}));
    }

    /// What a login leaves whose access token has ended an hour ago.
    pub(crate) fn ended_login(self, home: &Path, refresh_token: Option<&str>) {
        let mut login = json!({"accessToken": secret("ended"), "expiresAt": stamp(SystemTime::now() - HOUR)});
        if let Some(token) = refresh_token {
            login["refreshToken"] = token.into();
            login["clientId"] = "a-client".into();
            login["clientSecret"] = secret("client").into();
            login["registrationExpiresAt"] = stamp(SystemTime::now() + HOUR).into();
        }
        self.keep(home, &login);
    }

    fn keep(self, home: &Path, login: &Value) {
        let file = self.cache(home);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, login.to_string()).unwrap();
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let answer = match (parts.method.as_str(), parts.uri.path()) {
        ("GET", "/federation/credentials") => {
            let query = parts.uri.query().unwrap_or_default();
            let (role, account) = (format!("role_name={ROLE}"), format!("account_id={ACCOUNT}"));
            let is_known = query.split('&').all(|pair| pair == role || pair == account);
            let token = parts.headers.get("x-amz-sso_bearer_token").and_then(|token| token.to_str().ok());
            state.lock().unwrap().credentials(token.filter(|_| is_known).unwrap_or_default())
        }
        ("POST", "/token") => state.lock().unwrap().token(&serde_json::from_slice(&body).unwrap()),
        _ => Err((404, "ResourceNotFoundException")),
    };
    let (status, code, body) = match answer {
        Ok(body) => (200, None, body),
        Err((status, code)) => (status, Some(code), json!({"message": "said by the portal"})),
    };
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    if let Some(code) = code {
        response = response.header("x-amzn-errortype", code);
    }
    Ok(response.body(Full::from(body.to_string())).unwrap())
}

impl State {
    fn credentials(&mut self, token: &str) -> Result<Value, (u16, &'static str)> {
        self.asked.push(token.to_owned());
        let roles = self.roles.get_mut(token).ok_or((401, "UnauthorizedException"))?;
        let role = if roles.len() > 1 { roles.pop_front() } else { roles.front().cloned() }.unwrap();
        let end = (SystemTime::now() + HOUR).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        Ok(json!({"roleCredentials": {
            "accessKeyId": role.access_key_id(),
            "secretAccessKey": role.secret_access_key(),
            "sessionToken": role.session_token(),
            "expiration": u64::try_from(end).unwrap(),
        }}))
    }

    fn token(&mut self, asked: &Value) -> Result<Value, (u16, &'static str)> {
        let is_known = asked["grantType"] == "refresh_token" && asked["clientId"] == "a-client";
        let token = asked["refreshToken"].as_str().filter(|_| is_known).unwrap_or_default();
        let access = self.refreshes.remove(token).ok_or((400, "InvalidGrantException"))?;
        let next = secret("refresh");
        self.refreshes.insert(next.clone(), access.clone());
        Ok(json!({"accessToken": access, "tokenType": "Bearer", "expiresIn": 3600, "refreshToken": next}))
    }
}
