//! One request, one answer, one record, one event: a straight line from the bytes to the XML, without I/O.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use tracing::debug;
use uuid::Uuid;

use crate::Emulator;
use crate::assume_role::grant;
use crate::calls::Call;
use crate::error::Error;
use crate::faults::{self, Fault};
use crate::form::Form;
use crate::query::{Action, AssumeRole};
use crate::sessions::{Caller, Keys};
use crate::sigv4::Authorization;
use crate::xml;

const X_AMZN_REQUESTID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// Seconds since 1970 in the year 9892: later times, and what is added to them, could not be written in RFC 3339.
const LATEST: u64 = 250_000_000_000;

/// Answers one request whose body has been read, or has failed to arrive. Returns the fault too, if it was met.
pub(crate) fn answer(
    emulator: &Emulator,
    head: &Parts,
    body: Result<Bytes, Error>,
    fault: Option<Fault>,
) -> (Response<Full<Bytes>>, Option<Fault>) {
    let request_id = Uuid::new_v4().to_string();
    let user_agent = head.headers.get(USER_AGENT).map(HeaderValue::as_bytes);
    let now = now(emulator);
    let at = fault.as_ref().map_or(now, |fault| fault.clock(now));
    let mut call = Call::new(at, request_id.clone(), user_agent);
    call.fault = fault.as_ref().filter(|fault| !fault.is_of_good_answers()).map(|fault| fault.told.clone());
    let (status, document) = match perform(emulator, head, body, &mut call, fault.as_ref()) {
        Ok(document) => (StatusCode::OK, document),
        Err(error) => {
            let (status, code) = error.status_and_code();
            let document = xml::error_response(&code, &error.to_string(), &request_id);
            call.outcome = code;
            (status, document)
        }
    };
    call.status = (call.outcome != "Unanswered").then(|| status.as_u16());
    debug!(action = call.action, outcome = %call.outcome, fault = call.fault, request_id, "STS request");
    if let Some(observer) = emulator.shared.observer.get() {
        observer(&call);
    }
    let met = fault.filter(|_| call.fault.is_some());
    emulator.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);

    let mut response = Response::new(Full::new(Bytes::from(document)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    if let Ok(request_id) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert(X_AMZN_REQUESTID, request_id);
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    (response, met)
}

/// The fault of a request, where anybody has asked for faults. What is refused anyway has none, and uses none up.
pub(crate) fn fault_of(emulator: &Emulator, head: &Parts, body: &Result<Bytes, Error>) -> Option<Fault> {
    let (plan, body) = (emulator.shared.plan.get()?, body.as_ref().ok()?);
    let form = Form::parse(body).ok()?;
    if Action::parse(&form).ok()? != Action::AssumeRole {
        return None;
    }
    check_target(head).ok()?;
    authenticate(emulator, head, body, now(emulator)).ok()?;
    (plan.next)(&AssumeRole::parse(&form).ok()?.role_arn)
}

fn perform(
    emulator: &Emulator,
    head: &Parts,
    body: Result<Bytes, Error>,
    call: &mut Call,
    fault: Option<&Fault>,
) -> Result<String, Error> {
    check_target(head)?;
    let body = body?;
    let form = Form::parse(&body)?;
    call.note_action(&form);
    let action = Action::parse(&form)?;
    let (access_key_id, caller) = authenticate(emulator, head, &body, call.at)?;
    // Not before: what anybody may send must not fill the memory.
    call.note_parameters(&form);
    call.caller_arn = Some(caller.principal.arn.clone());
    call.caller_access_key_id = Some(access_key_id);
    match action {
        Action::GetCallerIdentity => {
            let result = xml::caller_identity(&caller.principal);
            Ok(xml::response("GetCallerIdentity", &result, &call.request_id))
        }
        Action::AssumeRole => {
            if let Some(session) = &caller.session {
                call.incoming_transitive_tags.clone_from(&session.transitive_tags);
            }
            let request = AssumeRole::parse(&form)?;
            if let Some(fault) = fault {
                fault.refuse(&caller.principal.arn, &request.role_arn)?;
            }
            let mut grant = grant(&request, &caller, &emulator.shared.options, call.at)?;
            let is_met = |fault: &&Fault| emulator.shared.plan.get().is_some_and(|plan| (plan.is_met)(fault));
            let spoiling = fault.filter(|fault| fault.is_of_good_answers()).filter(is_met);
            if let Some(seconds) = emulator.shared.options.session_seconds {
                grant.expires = grant.expires.min(faults::after(call.at, seconds));
            }
            if let Some(fault) = spoiling {
                call.fault = Some(fault.told.clone());
                grant.expires = fault.expires(call.at, grant.expires);
            }
            let key = keys(emulator).add_session(grant.caller.clone(), grant.expires, grant.token_size, call.at);
            call.issued_access_key_id = Some(key.access_key_id.clone());
            let document = xml::response("AssumeRole", &xml::assume_role(&grant, &key), &call.request_id);
            Ok(match spoiling {
                Some(fault) => fault.spoil(document),
                None => document,
            })
        }
    }
}

/// Signatures are checked for `POST /` only, so nothing else may come as far as that.
fn check_target(head: &Parts) -> Result<(), Error> {
    if head.uri.path() != "/" {
        return Err(Error::NotFound);
    }
    if head.method != Method::POST {
        return Err(Error::MethodNotAllowed);
    }
    if head.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(Error::MalformedInput(
            "The emulator reads no parameters from the URL. Send them as a form in the body.".to_owned(),
        ));
    }
    Ok(())
}

fn authenticate(emulator: &Emulator, head: &Parts, body: &[u8], now: SystemTime) -> Result<(String, Caller), Error> {
    let authorization = Authorization::parse(&head.headers)?;
    let key = keys(emulator).find(authorization.access_key_id, authorization.session_token, now)?;
    authorization.verify(&head.headers, body, &key.secret, now)?;
    let caller = Caller { region: Some(authorization.region().to_owned()), ..key.caller.clone() };
    Ok((key.access_key_id.clone(), caller))
}

fn keys(emulator: &Emulator) -> MutexGuard<'_, Keys> {
    emulator.shared.keys.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time in whole seconds, so that a session ends exactly when its `Expiration` says, and one that can be written.
pub(crate) fn now(emulator: &Emulator) -> SystemTime {
    let since_1970 = (emulator.shared.options.clock)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since_1970.as_secs().min(LATEST))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;
    use http::header::{AUTHORIZATION, HOST};
    use proptest::prelude::*;

    use super::*;
    use crate::principal::IamArn;
    use crate::{Options, Roles};

    fn at(seconds: u64) -> Emulator {
        let clock = Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        Emulator::new(Options { clock, roles: Roles::Any, ..Options::default() })
    }

    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[ -~]{0,70}",
            "arn:aws:iam::[0-9]{12}:(role|policy|user)/[a-z/]{0,9}",
            "[0-9]{0,6}"
        ]
    }

    proptest! {
        #[test]
        fn any_head_and_body_get_an_answer(
            id in prop_oneof![Just(None), "[A-Z/]{0,20}".prop_map(Some)],
            scope in prop_oneof![Just("19700101/r/sts/aws4_request".to_owned()), "[a-z0-9/]{0,30}"],
            signed_headers in prop_oneof![Just("host;x-amz-date;x-any".to_owned()), "[a-z;-]{0,30}"],
            date in prop_oneof![Just("19700101T000000Z".to_owned()), "[0-9TZ]{0,17}"],
            any_header in any::<Vec<u8>>(),
            host in any::<Vec<u8>>(),
            body in any::<Vec<u8>>(),
            seconds in prop_oneof![Just(0), any::<u32>().prop_map(u64::from)],
        ) {
            let emulator = at(seconds);
            let key = emulator.add_caller("arn:aws:iam::111122223333:user/me").unwrap();
            let id = id.unwrap_or(key.access_key_id);
            let authorization =
                format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={signed_headers}, Signature=00");
            let mut request = Request::post("/").header(AUTHORIZATION, authorization).header("x-amz-date", date);
            for (name, value) in [(HOST, host), (HeaderName::from_static("x-any"), any_header)] {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    request = request.header(name, value);
                }
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            let body = [&b"Action=GetCallerIdentity&Version=2011-06-15&"[..], &body].concat();
            let (response, _) = answer(&emulator, &head, Ok(Bytes::from(body)), None);
            prop_assert!(response.status().is_client_error());
            prop_assert!(response.headers().contains_key(X_AMZN_REQUESTID));
            prop_assert_eq!(emulator.calls().len(), 1);
        }

        #[test]
        fn any_parameters_are_granted_or_refused(
            values in prop::collection::vec((0..PARAMETERS.len(), texts()), 0..12),
        ) {
            // A time so late that it has to be cut to be written at all.
            let emulator = at(300_000_000_000);
            let percent = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
            let mut body = String::from("RoleArn=arn:aws:iam::111122223333:role/app&RoleSessionName=task");
            for (number, (parameter, value)) in (2..).zip(&values) {
                let name = PARAMETERS[*parameter].replace('N', &(number / 2).to_string());
                body = format!("{body}&{name}={}", percent(value));
            }
            let Ok(form) = Form::parse(body.as_bytes()) else { return Ok(()) };
            let mut call = Call::new(now(&emulator), String::new(), None);
            call.note_parameters(&form);
            let user = "arn:aws:iam::111122223333:user/me";
            let caller = Caller::added(&IamArn::parse(user).unwrap(), user, Vec::new());
            let options = Options::default();
            let granted = AssumeRole::parse(&form).and_then(|request| grant(&request, &caller, &options, call.at));
            if let Ok(grant) = granted {
                let key = keys(&emulator).add_session(grant.caller.clone(), grant.expires, grant.token_size, call.at);
                prop_assert_eq!(key.token().len(), grant.token_size);
                prop_assert!(xml::assume_role(&grant, &key).contains(&key.access_key_id));
            }
        }
    }

    const PARAMETERS: &[&str] = &[
        "Policy",
        "DurationSeconds",
        "SourceIdentity",
        "ExternalId",
        "MinimumSessionTokenSize",
        "Tags.member.N.Key",
        "Tags.member.N.Value",
        "TransitiveTagKeys.member.N",
        "PolicyArns.member.N.arn",
        "ProvidedContexts.member.N.ProviderArn",
    ];
}
