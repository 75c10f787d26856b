//! Answers are the XML of the AWS query protocol, element for element in AWS's order, whatever text is put into them.

use std::borrow::Cow;
use std::time::SystemTime;

use quick_xml::escape::escape;

use crate::assume_role::Grant;
use crate::principal::Principal;
use crate::sessions::Key;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The `AssumeRoleResult` element. Since September 2026 `PackedPolicySize` repeats `SessionTokenUtilization`.
pub(crate) fn assume_role(grant: &Grant, key: &Key) -> String {
    let Principal { arn, user_id, .. } = &key.caller.principal;
    let user = [element("AssumedRoleId", user_id), element("Arn", arn)].concat();
    let credentials = [
        element("AccessKeyId", &key.access_key_id),
        element("SecretAccessKey", &key.secret),
        element("SessionToken", key.token()),
        element("Expiration", &timestamp(grant.expires)),
    ]
    .concat();
    let source_identity = grant.source_identity.as_deref().map(|identity| element("SourceIdentity", identity));
    let utilization = grant.token_utilization.to_string();
    let result = [
        wrap("AssumedRoleUser", &user),
        wrap("Credentials", &credentials),
        element("PackedPolicySize", &utilization),
        source_identity.unwrap_or_default(),
        element("SessionTokenUtilization", &utilization),
        element("SessionTokenSize", &grant.token_size.to_string()),
    ];
    wrap("AssumeRoleResult", &result.concat())
}

/// The `GetCallerIdentityResult` element.
pub(crate) fn caller_identity(principal: &Principal) -> String {
    let Principal { arn, user_id, account } = principal;
    let result = [element("Arn", arn), element("UserId", user_id), element("Account", account)];
    wrap("GetCallerIdentityResult", &result.concat())
}

/// A whole answer: `<ACTIONResponse>` with a result element.
pub(crate) fn response(action: &str, result: &str, request_id: &str) -> String {
    let metadata = wrap("ResponseMetadata", &element("RequestId", request_id));
    format!("<{action}Response xmlns=\"{NAMESPACE}\">{result}{metadata}</{action}Response>\n")
}

/// A whole answer: `<ErrorResponse>`. All refusals of the emulator are the sender's to mend.
pub(crate) fn error_response(code: &str, message: &str, request_id: &str) -> String {
    let error = [element("Type", "Sender"), element("Code", code), element("Message", message)].concat();
    let (error, request_id) = (wrap("Error", &error), element("RequestId", request_id));
    format!("<ErrorResponse xmlns=\"{NAMESPACE}\">{error}{request_id}</ErrorResponse>\n")
}

fn wrap(name: &str, content: &str) -> String {
    format!("<{name}>{content}</{name}>")
}

fn element(name: &str, text: &str) -> String {
    wrap(name, &escape(legal(text)))
}

/// XML 1.0 has no way to write most control characters, not even escaped, so they are replaced.
fn legal(text: &str) -> Cow<'_, str> {
    let is_legal = |character: char| matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    if text.chars().all(is_legal) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|character| if is_legal(character) { character } else { '\u{fffd}' }).collect()
}

/// `2026-11-21T17:11:28Z`.
fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_end_an_element() {
        let answer = error_response("Code", "</Message>&\u{0}\u{1b}\"'", "id");
        assert!(answer.contains("<Message>&lt;/Message&gt;&amp;\u{fffd}\u{fffd}&quot;&apos;</Message>"), "{answer}");
    }

    #[test]
    fn an_error_is_written_as_aws_writes_it() {
        assert_eq!(
            error_response("AccessDenied", "No.", "id"),
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>AccessDenied</Code><Message>No.</Message></Error><RequestId>id</RequestId></ErrorResponse>\n"
        );
    }
}
