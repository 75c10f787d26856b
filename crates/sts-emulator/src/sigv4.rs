//! A request passes only if it was signed, as it is, with the secret of the key it names, within 15 minutes of now.
//!
//! Verifying is signing again: `aws-sigv4` signs the headers that the client says it signed, and the two signatures are
//! compared in constant time. What signing does not settle (the age, the scope, which headers must be signed) is
//! checked here, in AWS's words ("Signature Version 4 signing process", IAM User Guide).

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SessionTokenMode, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName};
use subtle::ConstantTimeEq;

use crate::error::Error;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "sts";
const TERMINATOR: &str = "aws4_request";
const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// How far the time of signing may be from now, either way.
const SKEW: Duration = Duration::from_secs(15 * 60);

/// What a request says about its own signature; nothing of it is verified yet.
pub(crate) struct Authorization<'a> {
    pub(crate) access_key_id: &'a str,
    pub(crate) session_token: Option<&'a str>,
    scope: Scope<'a>,
    signed_at: SystemTime,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

struct Scope<'a> {
    date: &'a str,
    region: &'a str,
    service: &'a str,
    terminator: &'a str,
}

impl<'a> Authorization<'a> {
    /// The region of the scope.
    pub(crate) fn region(&self) -> &'a str {
        self.scope.region
    }

    /// Reads `Authorization`, `X-Amz-Date` and `X-Amz-Security-Token`.
    pub(crate) fn parse(headers: &'a HeaderMap) -> Result<Self, Error> {
        let authorization = single(headers, &AUTHORIZATION)?.map(str::trim).filter(|value| !value.is_empty());
        let authorization = authorization.ok_or(Error::MissingAuthenticationToken)?;
        let (algorithm, fields) = authorization.split_once(' ').unwrap_or((authorization, ""));
        if algorithm != ALGORITHM {
            // Anything else may be a secret of another scheme, so only what is surely an algorithm is repeated.
            let named = if algorithm.starts_with("AWS4-") { algorithm } else { "…" };
            return Err(incomplete(format!("Unsupported AWS 'algorithm': '{named}'. Sign with {ALGORITHM}.")));
        }
        let field = |name: &str| {
            let mut values = fields.split(',').filter_map(|field| {
                let (key, value) = field.trim().split_once('=')?;
                (key == name).then_some(value)
            });
            match (values.next(), values.next()) {
                (Some(value), None) => Ok(value),
                _ => Err(incomplete(format!("Authorization header requires '{name}' parameter."))),
            }
        };
        let mut credential = field("Credential")?.split('/');
        let mut part = || credential.next().unwrap_or_default();
        let (access_key_id, scope) =
            (part(), Scope { date: part(), region: part(), service: part(), terminator: part() });
        if access_key_id.is_empty() || scope.terminator.is_empty() || credential.next().is_some() {
            return Err(incomplete(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.",
            ));
        }
        let signed_headers = field("SignedHeaders")?.split(';').collect();
        let signature = field("Signature")?;
        let date = single(headers, &X_AMZ_DATE)?
            .ok_or_else(|| incomplete("Authorization header requires existence of a 'X-Amz-Date' header."))?;
        let signed_at = parse_basic(date).ok_or_else(|| {
            incomplete("Date must be in ISO-8601 'basic format', e.g. 20261121T171128Z. Check the 'X-Amz-Date' header.")
        })?;
        let session_token = single(headers, &X_AMZ_SECURITY_TOKEN)?;
        Ok(Self { access_key_id, session_token, scope, signed_at, signed_headers, signature })
    }

    /// Whether this signature of `POST /` with these headers and this body was made with `secret`, at about `now`.
    pub(crate) fn verify(&self, headers: &HeaderMap, body: &[u8], secret: &str, now: SystemTime) -> Result<(), Error> {
        self.check_age(now)?;
        self.check_scope()?;
        // Without the host header aws-sigv4 would take the host from the URL, and panic where there is none.
        if !self.signs(&HOST) || !headers.contains_key(HOST) {
            return Err(mismatch("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."));
        }
        if !self.signs(&X_AMZ_DATE) {
            return Err(mismatch("'X-Amz-Date' must be a 'SignedHeader' in the AWS Authorization."));
        }
        // aws-sigv4 makes this list itself; a list that differs from it was not what is signed here.
        let in_order = self.signed_headers.is_sorted_by(|one, next| one < next);
        let there = |name: &&str| headers.keys().any(|key| key.as_str() == *name);
        if !in_order || !self.signed_headers.iter().all(there) {
            return Err(mismatch("SignedHeaders must be names of headers of the request, in lower case and sorted."));
        }
        let expected = self.sign_again(headers, body, secret)?;
        if bool::from(expected.as_bytes().ct_eq(self.signature.as_bytes())) {
            return Ok(());
        }
        Err(mismatch(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details.",
        ))
    }

    fn signs(&self, header: &HeaderName) -> bool {
        self.signed_headers.contains(&header.as_str())
    }

    fn check_age(&self, now: SystemTime) -> Result<(), Error> {
        let (signed, today) = (basic(self.signed_at), basic(now));
        if self.signed_at + SKEW < now {
            let limit = basic(now - SKEW);
            return Err(mismatch(format!(
                "Signature expired: {signed} is now earlier than {limit} ({today} - 15 min.)"
            )));
        }
        if now + SKEW < self.signed_at {
            let limit = basic(now + SKEW);
            return Err(mismatch(format!(
                "Signature not yet current: {signed} is still later than {limit} ({today} + 15 min.)"
            )));
        }
        Ok(())
    }

    /// Any region will do: one emulator stands for STS in all of them.
    fn check_scope(&self) -> Result<(), Error> {
        let Scope { date, service, terminator, .. } = self.scope;
        if service != SERVICE {
            return Err(mismatch(format!("Credential should be scoped to correct service: '{SERVICE}'.")));
        }
        if terminator != TERMINATOR {
            return Err(mismatch(format!("Credential should be scoped with a valid terminator: '{TERMINATOR}'.")));
        }
        let signed = basic(self.signed_at);
        if !signed.starts_with(date) || date.len() != "YYYYMMDD".len() {
            return Err(mismatch(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: {signed}."
            )));
        }
        Ok(())
    }

    fn sign_again(&self, headers: &HeaderMap, body: &[u8], secret: &str) -> Result<String, Error> {
        // aws-sigv4 adds these two itself, from the time and the credentials.
        let added = [X_AMZ_DATE, X_AMZ_SECURITY_TOKEN];
        let signed: Vec<(&str, &str)> = headers
            .iter()
            .filter(|(name, _)| self.signs(name) && !added.contains(name))
            .map(|(name, value)| Ok((name.as_str(), std::str::from_utf8(value.as_bytes())?)))
            .collect::<Result<_, std::str::Utf8Error>>()
            .map_err(|_| incomplete("A signed header is not UTF-8 text."))?;
        let request = SignableRequest::new("POST", "/", signed.into_iter(), SignableBody::Bytes(body));

        let token = self.session_token.map(str::to_owned);
        let identity = Credentials::new(self.access_key_id, secret, token, None, "sts-emulator").into();
        let mut settings = SigningSettings::default();
        // What is signed is the client's decision: by default aws-sigv4 would leave out the user agent, for one.
        settings.excluded_headers = None;
        if !self.signs(&X_AMZ_SECURITY_TOKEN) {
            settings.session_token_mode = SessionTokenMode::Exclude;
        }
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.scope.region)
            .name(SERVICE)
            .time(self.signed_at)
            .settings(settings)
            .build()
            .map_err(|error| incomplete(error.to_string()))?
            .into();
        let output = request.and_then(|request| sign(request, &parameters));
        Ok(output.map_err(|error| incomplete(error.to_string()))?.into_parts().1)
    }
}

/// The value of a header that may be there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(incomplete(format!("Header '{name}' is given more than once.")));
    }
    value.to_str().map(Some).map_err(|_| incomplete(format!("Header '{name}' is not ASCII text.")))
}

/// A time in ISO 8601 basic format, `20261121T171128Z`. Years before 1970 are not taken.
fn parse_basic(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(date, 8) || !digits(time, 6) {
        return None;
    }
    let (year, month, day) = (date.get(..4)?, date.get(4..6)?, date.get(6..)?);
    let (hour, minute, second) = (time.get(..2)?, time.get(2..4)?, time.get(4..)?);
    humantime::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()
}

fn basic(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string().replace(['-', ':'], "")
}

fn incomplete(message: impl Into<String>) -> Error {
    Error::IncompleteSignature(message.into())
}

fn mismatch(message: impl Into<String>) -> Error {
    Error::SignatureDoesNotMatch(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Signed by botocore 1.43.11, an implementation that shares no code with aws-sigv4.
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const BODY: &[u8] = b"Action=GetCallerIdentity&Version=2011-06-15";
    const PLAIN: (&str, &str) =
        ("content-type;host;x-amz-date;x-extra", "f8324263decf608119c59b491bc683cf3052759354694d15995f23d7c9b7330f");
    const WITH_TOKEN: (&str, &str) = (
        "content-type;host;x-amz-date;x-amz-security-token;x-extra",
        "8d29303cde767168d478b1e45226fdda3cda76ec6208d5d17924dbf91f62a3cd",
    );
    const WITH_USER_AGENT: (&str, &str) = (
        "content-type;host;user-agent;x-amz-date;x-extra",
        "18e05092267675fa69dadc9a69a4236939c4ed68e903a4ea6e347dd80b80701e",
    );
    const TOKEN: (&str, &str) = ("x-amz-security-token", "IQoJb3JpZ2luX2Vj+/token");
    const USER_AGENT: (&str, &str) = ("user-agent", "test/1");

    fn authorization((signed_headers, signature): (&str, &str)) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261121/eu-central-1/sts/aws4_request, \
             SignedHeaders={signed_headers}, Signature={signature}"
        )
    }

    fn headers(authorization: &str, more: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "127.0.0.1:4566".parse().unwrap());
        headers.insert("content-type", "application/x-www-form-urlencoded; charset=utf-8".parse().unwrap());
        headers.insert("x-extra", "a   b  c".parse().unwrap());
        headers.insert(X_AMZ_DATE, "20261121T171128Z".parse().unwrap());
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        for (name, value) in more {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    fn signing_time() -> SystemTime {
        parse_basic("20261121T171128Z").unwrap()
    }

    fn verify(headers: &HeaderMap, body: &[u8], secret: &str, now: SystemTime) -> Result<(), Error> {
        Authorization::parse(headers)?.verify(headers, body, secret, now)
    }

    fn judge(authorization: &str, more: &[(&'static str, &str)]) -> Result<(), Error> {
        verify(&headers(authorization, more), BODY, SECRET, signing_time())
    }

    #[test]
    fn signatures_of_another_implementation_are_accepted() {
        judge(&authorization(PLAIN), &[]).unwrap();
        judge(&authorization(WITH_TOKEN), &[TOKEN]).unwrap();
        judge(&authorization(WITH_USER_AGENT), &[USER_AGENT]).unwrap();
    }

    #[test]
    fn headers_that_are_not_signed_may_be_there() {
        judge(&authorization(PLAIN), &[USER_AGENT, TOKEN, ("x-amzn-trace-id", "Root=1")]).unwrap();
    }

    #[test]
    fn anything_signed_that_differs_is_a_mismatch() {
        let is_mismatch = |result| matches!(result, Err(Error::SignatureDoesNotMatch(_)));
        let plain = headers(&authorization(PLAIN), &[]);
        assert!(is_mismatch(verify(&plain, b"Action=AssumeRole", SECRET, signing_time())));
        assert!(is_mismatch(verify(&plain, BODY, "another", signing_time())));
        for changed in [("host", "127.0.0.1:4567"), ("x-extra", "a b d"), ("x-amz-date", "20261121T171129Z")] {
            assert!(is_mismatch(judge(&authorization(PLAIN), &[changed])), "{changed:?}");
        }
        assert!(is_mismatch(judge(&authorization(WITH_TOKEN), &[("x-amz-security-token", "other")])));
        assert!(is_mismatch(judge(&authorization(WITH_TOKEN), &[])));
        assert!(is_mismatch(judge(&authorization((PLAIN.0, "")), &[])));
        assert!(is_mismatch(judge(&authorization((PLAIN.0, &PLAIN.1.to_uppercase())), &[])));
        for signed_headers in [
            "host;content-type;x-amz-date;x-extra",
            "content-type;host;host;x-amz-date;x-extra",
            "content-type;host;x-amz-date;x-extra;x-missing",
            "Content-Type;content-type;host;x-amz-date;x-extra",
        ] {
            assert!(is_mismatch(judge(&authorization((signed_headers, PLAIN.1)), &[])), "{signed_headers}");
        }
    }

    #[test]
    fn host_and_date_have_to_be_signed() {
        for signed in ["content-type;x-amz-date;x-extra", "content-type;host;x-extra", ""] {
            let refused = judge(&authorization((signed, PLAIN.1)), &[]);
            assert!(refused.is_err_and(|error| error.to_string().contains("must be a 'SignedHeader'")), "{signed}");
        }
        let mut without_host = headers(&authorization(PLAIN), &[]);
        without_host.remove(HOST);
        assert!(matches!(verify(&without_host, BODY, SECRET, signing_time()), Err(Error::SignatureDoesNotMatch(_))));
    }

    #[test]
    fn a_signature_is_good_for_fifteen_minutes_before_and_after() {
        let plain = headers(&authorization(PLAIN), &[]);
        let at = |now| verify(&plain, BODY, SECRET, now).map_err(|error| error.to_string());
        assert_eq!(at(signing_time() + SKEW), Ok(()));
        assert_eq!(at(signing_time() - SKEW), Ok(()));
        assert_eq!(
            at(signing_time() + SKEW + Duration::from_secs(1)),
            Err(
                "Signature expired: 20261121T171128Z is now earlier than 20261121T171129Z (20261121T172629Z - 15 min.)"
                    .to_owned()
            )
        );
        assert_eq!(
            at(signing_time() - SKEW - Duration::from_secs(1)),
            Err("Signature not yet current: 20261121T171128Z is still later than 20261121T171127Z \
                 (20261121T165627Z + 15 min.)"
                .to_owned())
        );
        assert!(at(SystemTime::UNIX_EPOCH).is_err());
    }

    #[test]
    fn the_scope_names_sts_and_the_day_of_signing() {
        for (from, to, expected) in [
            ("/sts/", "/iam/", "Credential should be scoped to correct service: 'sts'."),
            ("aws4_request", "aws5_request", "Credential should be scoped with a valid terminator: 'aws4_request'."),
            ("/20261121/", "/20261120/", "Date in Credential scope does not match"),
            ("/20261121/", "/2026/", "Date in Credential scope does not match"),
            ("/20261121/", "//", "Date in Credential scope does not match"),
        ] {
            let refused = judge(&authorization(PLAIN).replace(from, to), &[]);
            let message = refused.unwrap_err();
            assert!(matches!(&message, Error::SignatureDoesNotMatch(text) if text.starts_with(expected)), "{message}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_incomplete() {
        let good = authorization(PLAIN);
        for (name, value) in [
            ("authorization", "garbage".to_owned()),
            ("authorization", "Bearer abc".to_owned()),
            ("authorization", good.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")),
            ("authorization", "AWS4-HMAC-SHA256".to_owned()),
            ("authorization", good.replace("Signature=", "Sig=")),
            ("authorization", good.replace("SignedHeaders=", "Headers=")),
            ("authorization", good.replace("Credential=", "")),
            ("authorization", good.replace("/aws4_request", "")),
            ("authorization", good.replace("/aws4_request", "/aws4_request/more")),
            ("authorization", format!("{good}, Signature=00")),
            ("x-amz-date", "2026-11-21T17:11:28Z".to_owned()),
            ("x-amz-date", "20261341T171128Z".to_owned()),
            ("x-amz-date", "20261121T171128".to_owned()),
            ("x-amz-date", String::new()),
        ] {
            let refused = judge(&good, &[(name, &value)]);
            assert!(matches!(refused, Err(Error::IncompleteSignature(_))), "{name}: {value}: {refused:?}");
        }
        let mut twice = headers(&good, &[]);
        twice.append(AUTHORIZATION, good.parse().unwrap());
        assert!(matches!(Authorization::parse(&twice), Err(Error::IncompleteSignature(_))));
    }

    #[test]
    fn no_authorization_is_not_the_same_as_a_bad_one() {
        for headers in [HeaderMap::new(), headers("  ", &[])] {
            assert!(matches!(Authorization::parse(&headers), Err(Error::MissingAuthenticationToken)));
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_what_may_be_a_secret() {
        for authorization in
            ["hunter2", "Bearer hunter2", "AWS4-HMAC-SHA256 hunter2", "AWS4-HMAC-SHA256 Signature=hunter2"]
        {
            let message = judge(authorization, &[]).unwrap_err().to_string();
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
