//! A registration as it stands in the store: digests only, nothing that opens anything.

use serde::{Deserialize, Serialize};
use taskcreds_core::{
    ExternalId, IdDigest, Origin, PolicyArn, Region, Registration, RoleArn, SessionDuration, SessionName,
    SessionPolicy, SessionSpec, SessionTag, SessionTags, Source, SourceIdentity, TaskArn, TokenDigest, TokenRule,
};

use super::messages::Kind;

/// What does not stand here cannot be restored, so an unknown field is a fault and not ignored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Record {
    task_arn: String,
    role_kind: Kind,
    role_arn: String,
    session_name: String,
    tags: Vec<(String, String)>,
    transitive_tags: bool,
    source_identity: Option<String>,
    external_id: Option<String>,
    policy: Option<String>,
    policy_arns: Vec<String>,
    duration_seconds: u32,
    region: Option<String>,
    tokens: Vec<[u8; 32]>,
    token_always: bool,
    sources: Vec<String>,
    uid: u32,
}

impl Record {
    /// What is kept of a registration; `None` for one that is not the admin socket's.
    pub(super) fn of(registration: &Registration) -> Option<Self> {
        // Taken apart, so that a new field is not forgotten here.
        let Registration { arn, role_kind, spec, id: _, tokens, token_rule, origins, source } = registration;
        let Source::Admin { uid } = *source else { return None };
        let SessionSpec {
            role_arn,
            session_name,
            tags,
            transitive_tags,
            source_identity,
            external_id,
            policy,
            policy_arns,
            duration,
            region,
            // Told from the task ARN.
            fallback_region: _,
        } = spec;
        Some(Self {
            task_arn: arn.to_string(),
            role_kind: (*role_kind).into(),
            role_arn: role_arn.to_string(),
            session_name: session_name.to_string(),
            tags: tags.iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect(),
            transitive_tags: *transitive_tags,
            source_identity: source_identity.as_ref().map(ToString::to_string),
            external_id: external_id.as_ref().map(ToString::to_string),
            policy: policy.as_ref().map(ToString::to_string),
            policy_arns: policy_arns.iter().map(ToString::to_string).collect(),
            duration_seconds: duration.seconds(),
            region: region.as_ref().map(ToString::to_string),
            tokens: tokens.iter().map(|token| *token.bytes()).collect(),
            token_always: *token_rule == TokenRule::Always,
            sources: origins.iter().map(ToString::to_string).collect(),
            uid,
        })
    }

    /// The registration, checked like any other.
    ///
    /// # Errors
    /// The rule that a field breaks, which a field that this program has written does not.
    pub(super) fn registration(self, id: IdDigest) -> Result<Registration, taskcreds_core::Invalid> {
        let arn = TaskArn::new(self.task_arn)?;
        let plain = SessionSpec::new(RoleArn::new(self.role_arn)?, &arn);
        let tags = self.tags.into_iter().map(|(key, value)| SessionTag::new(key, value)).collect::<Result<_, _>>()?;
        let spec = SessionSpec {
            session_name: SessionName::new(self.session_name)?,
            tags: SessionTags::new(tags)?,
            transitive_tags: self.transitive_tags,
            source_identity: self.source_identity.map(SourceIdentity::new).transpose()?,
            external_id: self.external_id.map(ExternalId::new).transpose()?,
            policy: self.policy.map(SessionPolicy::new).transpose()?,
            policy_arns: self.policy_arns.into_iter().map(PolicyArn::new).collect::<Result<_, _>>()?,
            duration: SessionDuration::new(self.duration_seconds)?,
            region: self.region.map(Region::new).transpose()?,
            ..plain
        };
        Ok(Registration {
            arn,
            role_kind: self.role_kind.into(),
            spec,
            id,
            tokens: self.tokens.into_iter().map(TokenDigest::from_bytes).collect(),
            token_rule: if self.token_always { TokenRule::Always } else { TokenRule::Loopback },
            origins: self.sources.iter().map(|source| Origin::new(source)).collect::<Result<_, _>>()?,
            source: Source::Admin { uid: self.uid },
        })
    }
}

#[cfg(test)]
mod tests {
    use taskcreds_core::test_util::new_task;
    use taskcreds_core::{CredentialsId, NewTask, RoleKind, Token};

    use super::*;

    #[test]
    fn every_field_of_a_registration_comes_back_and_neither_id_nor_token_is_kept() {
        let task = new_task("web");
        let (id, token) = (CredentialsId::random(), Token::random());
        let spec = SessionSpec {
            session_name: SessionName::new("a-name").unwrap(),
            tags: SessionTags::new(vec![SessionTag::new("team", "a").unwrap()]).unwrap(),
            transitive_tags: true,
            source_identity: Some(SourceIdentity::new("who").unwrap()),
            external_id: Some(ExternalId::new("ext").unwrap()),
            policy: Some(SessionPolicy::new(r#"{"Statement":[]}"#).unwrap()),
            policy_arns: vec![PolicyArn::new("arn:aws:iam::aws:policy/ReadOnlyAccess").unwrap()],
            duration: SessionDuration::new(7200).unwrap(),
            region: Some(Region::new("eu-west-1").unwrap()),
            ..task.spec.clone()
        };
        for (role_kind, token_rule) in [(RoleKind::Task, TokenRule::Loopback), (RoleKind::Execution, TokenRule::Always)]
        {
            let tokens = vec![token.clone()];
            let origins = vec![Origin::new("172.17.0.0/16").unwrap()];
            let new =
                NewTask { role_kind, token_rule, origins, tokens, id: id.clone(), spec: spec.clone(), ..task.clone() };
            let registration = Registration::of(new, Source::Admin { uid: 1000 });
            let json = serde_json::to_string(&Record::of(&registration).unwrap()).unwrap();
            assert!(!json.contains(id.expose()) && !json.contains(token.expose()), "{json}");
            let back: Record = serde_json::from_str(&json).unwrap();
            assert_eq!(back.registration(id.digest()).unwrap(), registration);
        }
        assert!(Record::of(&Registration::configured(new_task("web"))).is_none());
    }
}
