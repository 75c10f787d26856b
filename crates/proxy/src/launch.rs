//! What a program is given so that its AWS SDK asks this proxy and nobody else.
//!
//! `FULL_URI` or `RELATIVE_URI` but never both, the token as variable and as file, the proxy out of the way of HTTP proxies, and
//! nothing left that an SDK would take before it asks a container endpoint.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use taskcreds_core::{CredentialsId, Token};

use crate::failure::Failure;
use crate::http::ENDPOINT;

/// Resolved at 169.254.170.2 by every SDK.
pub(crate) const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
/// Taken as it is.
pub(crate) const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";

/// Set in the environment, these come before the container endpoint in the SDKs' chains, or point them elsewhere.
const OUTRANKING: [&str; 19] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    // Older names, which the Go, Java and Ruby SDKs still read.
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AMAZON_ACCESS_KEY_ID",
    "AMAZON_SECRET_ACCESS_KEY",
    "AMAZON_SESSION_TOKEN",
    "SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    // The one service that has such a token today; its requests go with it and without the role's signature.
    "AWS_BEARER_TOKEN_BEDROCK",
    RELATIVE,
    FULL,
];
/// A token for one service, whose signing name follows.
const BEARER_TOKEN: &str = "AWS_BEARER_TOKEN_";
/// With these an SDK refuses or ignores the endpoint of the embedded STS.
const AGAINST_EMULATOR: [&str; 3] =
    ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"];
const NO_PROXY: &str = "127.0.0.1,localhost,169.254.170.2,169.254.170.23";
/// Where a program is. Python reads the second, everybody else the first.
pub(crate) const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
/// Settings of a profile that give credentials.
const CREDENTIAL_SETTINGS: [&str; 8] = [
    "aws_access_key_id",
    "credential_process",
    "credential_source",
    "login_session",
    "role_arn",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
];

/// Whether a variable is one of those that lead to the container endpoint.
#[must_use]
pub fn leads_to_credentials(variable: &str) -> bool {
    [RELATIVE, FULL, TOKEN, TOKEN_FILE].contains(&variable)
}

/// Whether a variable comes before the container endpoint in the SDKs' chains.
#[must_use]
pub fn outranks(variable: &str) -> bool {
    OUTRANKING.contains(&variable) || variable.starts_with(BEARER_TOKEN)
}

/// One program's way to its credentials.
pub struct Launch {
    /// None: a task without a role has no credentials, and nobody else's either.
    credentials: Option<Credentials>,
    surroundings: Surroundings,
}

struct Credentials {
    uri: (&'static str, String),
    token: Token,
    token_file: PathBuf,
}

/// What else a program must know, whichever task it is.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The region to set, where the program would otherwise have none or lose it with a hidden profile.
    pub region: Option<String>,
    /// The embedded STS, `http://127.0.0.1:PORT`, where it is used.
    pub embedded_sts: Option<String>,
    /// The control interface, `http://127.0.0.1:PORT`, where there is one.
    pub control: Option<String>,
}

/// The loopback address of these that suits most clients: 127.0.0.1 before ::1, the one form that every client accepts.
#[must_use]
pub fn loopback(listening: &[SocketAddr]) -> Option<&SocketAddr> {
    listening.iter().filter(|address| address.ip().is_loopback()).min_by_key(|address| address.is_ipv6())
}

/// The variable and the value that lead to a task's credentials: the full URI where one of the addresses is loopback, the relative one
/// where the endpoint is at 169.254.170.2:80 alone.
#[must_use]
pub fn uri(listening: &[SocketAddr], id: &CredentialsId) -> (&'static str, String) {
    let path = format!("/v2/credentials/{}", id.expose());
    let relative = listening.contains(&ENDPOINT);
    match loopback(listening).or(listening.first().filter(|_| !relative)) {
        Some(address) => (FULL, format!("http://{address}{path}")),
        None => (RELATIVE, path),
    }
}

impl Launch {
    /// Writes the token's file, 0600, into `folder` under `name`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(
        listening: &[SocketAddr],
        id: &CredentialsId,
        token: Token,
        folder: &Path,
        name: &str,
        surroundings: Surroundings,
    ) -> Result<Self, Failure> {
        let token_file = folder.join(name);
        let mut options = std::fs::File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&token_file).and_then(|mut file| file.write_all(token.expose().as_bytes())).map_err(|error| {
            Failure::software(&format!("cannot write the token to {}", token_file.display()), error)
        })?;
        Ok(Self { credentials: Some(Credentials { uri: uri(listening, id), token, token_file }), surroundings })
    }

    /// What a program gets that has no role.
    #[must_use]
    pub fn without_credentials(surroundings: Surroundings) -> Self {
        Self { credentials: None, surroundings }
    }

    /// The variables to set, given those that are set already.
    #[must_use]
    pub fn set(&self, environment: &HashMap<String, String>) -> Vec<(&'static str, String)> {
        let mut set = Vec::new();
        if let Some(credentials) = &self.credentials {
            set.push(credentials.uri.clone());
            set.push((TOKEN, credentials.token.expose().to_owned()));
            set.push((TOKEN_FILE, credentials.token_file.display().to_string()));
        }
        let given = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        for name in ["NO_PROXY", "no_proxy"] {
            let already = given(name).or_else(|| given("NO_PROXY")).or_else(|| given("no_proxy"));
            let exempt = match already {
                // Alone, and only alone, it is everything to Python and curl.
                Some(already) if already.trim() == "*" => already.clone(),
                Some(already) if already.contains(NO_PROXY) => already.clone(),
                Some(already) => format!("{already},{NO_PROXY}"),
                None => NO_PROXY.to_owned(),
            };
            set.push((name, exempt));
        }
        if let Some(region) = &self.surroundings.region {
            set.extend(REGIONS.map(|name| (name, region.clone())));
        }
        if let Some(endpoint) = &self.surroundings.embedded_sts {
            set.push(("AWS_ENDPOINT_URL_STS", endpoint.clone()));
        }
        if let Some(control) = &self.surroundings.control {
            set.push(("TASKCREDS_CONTROL", control.clone()));
        }
        set
    }

    /// The variables to remove.
    #[must_use]
    pub fn removed(&self) -> Vec<&'static str> {
        let own = self.credentials.as_ref().map(|credentials| credentials.uri.0);
        let emulator = self.surroundings.embedded_sts.iter().flat_map(|_| AGAINST_EMULATOR);
        OUTRANKING.into_iter().filter(|name| Some(*name) != own).chain(emulator).collect()
    }
}

/// A folder that only this user can read, gone when it is dropped.
///
/// # Errors
/// It cannot be made.
pub fn private_folder() -> Result<tempfile::TempDir, Failure> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("taskcreds-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir().map_err(|error| Failure::software("cannot make a private folder for the token", error))
}

/// The shared files of the AWS SDKs whose default profile holds credentials, which SDKs take before they ask a container
/// endpoint: the variable that names the file, and the file.
#[must_use]
pub fn default_profiles(environment: &HashMap<String, String>) -> Vec<(&'static str, PathBuf)> {
    let gives_credentials =
        |file: &PathBuf| default_settings(file).iter().any(|key| CREDENTIAL_SETTINGS.contains(&key.as_str()));
    SHARED_FILES
        .into_iter()
        .filter_map(|(variable, name)| Some((variable, shared_file(environment, variable, name)?)))
        .filter(|(_, file)| gives_credentials(file))
        .collect()
}

const SHARED_FILES: [(&str, &str); 2] = [("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")];

/// AWS SDKs and Tools Reference Guide, "Location of the shared files".
fn shared_file(environment: &HashMap<String, String>, variable: &str, name: &str) -> Option<PathBuf> {
    let set = environment.get(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = environment.get("HOME").or_else(|| environment.get("USERPROFILE"));
    set.or_else(|| Some(Path::new(home?).join(".aws").join(name)))
}

/// The names of the default profile's settings; none where the file cannot be read, which is told unless it is not there. What is no
/// UTF-8 stands in comments and values: SDKs read the rest of such a file, some of them past a byte order mark.
fn default_settings(file: &Path) -> Vec<String> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let ini = std::fs::read(file).unwrap_or_else(|error| {
        if !matches!(error.kind(), NotFound | NotADirectory) {
            let file = file.display();
            tracing::warn!(%error, "{file} cannot be read: a default profile with credentials in it would not be hidden");
        }
        Vec::new()
    });
    let ini = String::from_utf8_lossy(&ini);
    let (mut settings, mut in_default) = (Vec::new(), false);
    for line in ini.trim_start_matches('\u{feff}').lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let name = section.split(']').next().unwrap_or_default().trim();
            in_default = name == "default" || name.strip_prefix("profile").is_some_and(|name| name.trim() == "default");
        } else if in_default && let Some((key, _)) = line.split_once('=') {
            settings.push(key.trim().to_ascii_lowercase());
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(listening: &[&str], surroundings: Surroundings) -> (Launch, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let listening: Vec<SocketAddr> = listening.iter().map(|address| address.parse().unwrap()).collect();
        let id = CredentialsId::new("0d9e1c52-6a0b-4f0e-8f7e-6f2f5b1a9c33").unwrap();
        let launch =
            Launch::new(&listening, &id, Token::new("tok").unwrap(), folder.path(), "token", surroundings).unwrap();
        (launch, folder)
    }

    fn get(set: &[(&'static str, String)], name: &str) -> Option<String> {
        set.iter().find(|(given, _)| *given == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn a_program_gets_the_full_uri_on_loopback_or_the_relative_one_never_both() {
        let path = "/v2/credentials/0d9e1c52-6a0b-4f0e-8f7e-6f2f5b1a9c33";
        for (listening, full, relative) in [
            (&["[::1]:9", "127.0.0.1:8"][..], Some(format!("http://127.0.0.1:8{path}")), None),
            (&["[::1]:9"], Some(format!("http://[::1]:9{path}")), None),
            (&["169.254.170.2:80"], None, Some(path.to_owned())),
            (&["169.254.170.2:80", "127.0.0.1:8"], Some(format!("http://127.0.0.1:8{path}")), None),
        ] {
            let (launch, _folder) = launch(listening, Surroundings::default());
            let set = launch.set(&HashMap::new());
            assert_eq!(get(&set, "AWS_CONTAINER_CREDENTIALS_FULL_URI"), full);
            assert_eq!(get(&set, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"), relative);
            let removed = launch.removed();
            assert_eq!(removed.contains(&"AWS_CONTAINER_CREDENTIALS_FULL_URI"), full.is_none());
            assert!(set.iter().all(|(name, _)| !removed.contains(name)));
        }
    }

    #[test]
    fn the_token_is_given_as_variable_and_as_a_file_without_a_line_end() {
        let (launch, _folder) = launch(&["127.0.0.1:8"], Surroundings::default());
        let set = launch.set(&HashMap::new());
        let file = get(&set, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "tok");
        assert_eq!(get(&set, "AWS_CONTAINER_AUTHORIZATION_TOKEN").unwrap(), "tok");
    }

    #[test]
    fn no_proxy_is_extended_and_not_replaced() {
        let (launch, _folder) = launch(&["127.0.0.1:8"], Surroundings::default());
        let set = launch.set(&HashMap::from([("no_proxy".to_owned(), "corp.example".to_owned())]));
        for name in ["NO_PROXY", "no_proxy"] {
            assert_eq!(get(&set, name).unwrap(), format!("corp.example,{NO_PROXY}"));
        }
    }

    #[test]
    fn no_proxy_for_everything_is_left_alone() {
        let (launch, _folder) = launch(&["127.0.0.1:8"], Surroundings::default());
        for given in ["NO_PROXY", "no_proxy"] {
            let set = launch.set(&HashMap::from([(given.to_owned(), "*".to_owned())]));
            for name in ["NO_PROXY", "no_proxy"] {
                assert_eq!(get(&set, name).unwrap(), "*", "{name}, where {given} is set");
            }
        }
    }

    #[test]
    fn the_embedded_sts_brings_its_endpoint_and_a_region() {
        let embedded_sts = Some("http://127.0.0.1:7".to_owned());
        let surroundings = Surroundings { embedded_sts, region: Some("us-east-1".to_owned()), control: None };
        let (launch, _folder) = launch(&["127.0.0.1:8"], surroundings);
        let set = launch.set(&HashMap::new());
        assert_eq!(get(&set, "AWS_ENDPOINT_URL_STS").unwrap(), "http://127.0.0.1:7");
        assert_eq!(get(&set, "AWS_REGION").unwrap(), "us-east-1");
        assert_eq!(get(&set, "AWS_DEFAULT_REGION").unwrap(), "us-east-1");
        assert!(launch.removed().contains(&"AWS_USE_FIPS_ENDPOINT"));
    }

    #[test]
    fn a_default_profile_with_credentials_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        let environment = HashMap::from([
            ("AWS_CONFIG_FILE".to_owned(), file.display().to_string()),
            ("HOME".to_owned(), folder.path().display().to_string()),
        ]);
        for (ini, found) in [
            ("[default]\naws_access_key_id = x\n", true),
            ("[default]\nregion = x\n", false),
            ("[profile default]\nsso_session=x\nregion=y", true),
            ("[ default ]\nCredential_Process=x\n", true),
            ("[other]\naws_access_key_id = x\n[default]\nregion=y", false),
            ("[default]\noutput=y\n[other]\naws_access_key_id = x\nregion = z", false),
            ("", false),
            ("\u{feff}[default]\naws_access_key_id = x\n", true),
        ] {
            std::fs::write(&file, ini).unwrap();
            let expected = if found { vec![("AWS_CONFIG_FILE", file.clone())] } else { Vec::new() };
            assert_eq!(default_profiles(&environment), expected, "{ini}");
        }
        std::fs::write(&file, b"# Schl\xfcssel\n[default]\naws_access_key_id = x\n").unwrap();
        assert_eq!(default_profiles(&environment), [("AWS_CONFIG_FILE", file)], "a comment in Latin-1");
    }
}
