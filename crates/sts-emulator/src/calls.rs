//! The record of calls holds what a test wants to assert on and never a secret, a token or a signature.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::SystemTime;

use crate::form::Form;
use crate::sessions::Tag;

/// Calls kept; the oldest go first.
const MAX_CALLS: usize = 10_000;
/// Bytes kept of one text, so that requests of nonsense cannot fill the memory either.
const MAX_TEXT: usize = 2048;
/// Of what anybody may send.
const MAX_UNSIGNED: usize = 256;
const MAX_ELEMENTS: usize = 50;

/// One request that reached the emulator, whether it was granted or refused.
///
/// The parameters are as they were sent, valid or not (texts up to 2,048 bytes, lists up to 50 elements). CloudTrail's
/// `AssumeRole` event has the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// When, by the clock of the emulator, in whole seconds.
    pub at: SystemTime,
    /// The request id of the answer, also in its header `x-amzn-requestid`.
    pub request_id: String,
    /// `"Success"`, or the code of the error that was answered, such as `"AccessDenied"`; `"Unanswered"` where a fault was that.
    pub outcome: Cow<'static, str>,
    /// The status of the answer; none where there was none.
    pub status: Option<u16>,
    /// The fault that was met, in the words of whoever asked for it.
    pub fault: Option<String>,
    /// `Action`.
    pub action: Option<String>,
    /// Who called; none if the signature was not good.
    pub caller_arn: Option<String>,
    /// The access key id that it was signed with; none if the signature was not good.
    pub caller_access_key_id: Option<String>,
    /// The access key id of the session that was issued. An identifier, not a secret.
    pub issued_access_key_id: Option<String>,
    /// The header `User-Agent`.
    pub user_agent: Option<String>,
    /// `RoleArn`.
    pub role_arn: Option<String>,
    /// `RoleSessionName`.
    pub role_session_name: Option<String>,
    /// `DurationSeconds`; none if it was left out or is not a number.
    pub duration_seconds: Option<u32>,
    /// `Tags`, in their order.
    pub tags: Vec<Tag>,
    /// `TransitiveTagKeys`, in their order.
    pub transitive_tag_keys: Vec<String>,
    /// The tags that the caller's session hands on to the new one.
    pub incoming_transitive_tags: Vec<Tag>,
    /// `SourceIdentity`.
    pub source_identity: Option<String>,
    /// `ExternalId`, which AWS does not treat as a secret either.
    pub external_id: Option<String>,
    /// Whether there was a session policy: `Policy` or `PolicyArns`.
    pub has_session_policy: bool,
}

impl Call {
    pub(crate) fn new(at: SystemTime, request_id: String, user_agent: Option<&[u8]>) -> Self {
        Self {
            at,
            request_id,
            outcome: Cow::Borrowed("Success"),
            status: None,
            fault: None,
            action: None,
            caller_arn: None,
            caller_access_key_id: None,
            issued_access_key_id: None,
            user_agent: user_agent.map(|bytes| bounded(&String::from_utf8_lossy(bytes), MAX_UNSIGNED)),
            role_arn: None,
            role_session_name: None,
            duration_seconds: None,
            tags: Vec::new(),
            transitive_tag_keys: Vec::new(),
            incoming_transitive_tags: Vec::new(),
            source_identity: None,
            external_id: None,
            has_session_policy: false,
        }
    }

    /// Notes the action, before anybody knows who asks: little of it.
    pub(crate) fn note_action(&mut self, form: &Form) {
        self.action = form.text("Action").map(|text| bounded(text, MAX_UNSIGNED));
    }

    /// Notes the parameters of a caller who is known, before anybody has checked them.
    pub(crate) fn note_parameters(&mut self, form: &Form) {
        let bounded = |text: &str| bounded(text, MAX_TEXT);
        let text = |name| form.text(name).map(bounded);
        let list = |name| form.list(name).unwrap_or_default().into_iter().take(MAX_ELEMENTS);
        self.role_arn = text("RoleArn");
        self.role_session_name = text("RoleSessionName");
        self.duration_seconds = form.text("DurationSeconds").and_then(|seconds| seconds.parse().ok());
        self.source_identity = text("SourceIdentity");
        self.external_id = text("ExternalId");
        self.has_session_policy = form.text("Policy").is_some() || list("PolicyArns").next().is_some();
        let part = |element: &crate::form::Element<'_>, name| bounded(element.get(name).copied().unwrap_or_default());
        self.tags =
            list("Tags").map(|element| Tag { key: part(&element, "Key"), value: part(&element, "Value") }).collect();
        self.transitive_tag_keys = list("TransitiveTagKeys").map(|element| part(&element, "")).collect();
    }
}

fn bounded(text: &str, length: usize) -> String {
    text.get(..text.floor_char_boundary(length)).unwrap_or_default().to_owned()
}

/// The last calls.
#[derive(Default)]
pub(crate) struct Calls(VecDeque<Call>);

impl Calls {
    pub(crate) fn push(&mut self, call: Call) {
        if self.0.len() == MAX_CALLS {
            self.0.pop_front();
        }
        self.0.push_back(call);
    }

    /// The oldest first.
    pub(crate) fn all(&self) -> Vec<Call> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_bounded_and_keeps_the_last_calls() {
        let mut calls = Calls::default();
        for number in 0..=MAX_CALLS {
            calls.push(Call::new(SystemTime::UNIX_EPOCH, number.to_string(), None));
        }
        let calls = calls.all();
        assert_eq!(calls.len(), MAX_CALLS);
        assert_eq!(calls[0].request_id, "1");
        assert_eq!(calls[MAX_CALLS - 1].request_id, MAX_CALLS.to_string());
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let long = "ü".repeat(5000);
        let form = Form::parse(format!("Action={long}&RoleArn={long}").as_bytes()).unwrap();
        let mut call = Call::new(SystemTime::UNIX_EPOCH, String::new(), Some(b"a\xff"));
        call.note_action(&form);
        assert_eq!((call.action.clone(), call.role_arn.clone()), (Some("ü".repeat(MAX_UNSIGNED / 2)), None));
        call.note_parameters(&form);
        assert_eq!(call.role_arn, Some("ü".repeat(MAX_TEXT / 2)));
        assert_eq!(call.user_agent.as_deref(), Some("a\u{fffd}"));
    }
}
