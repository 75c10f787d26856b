//! The keys that a call of AssumeRole can have, and which of them have several values.

/// Keys of AssumeRole (Service Authorization Reference, "Condition keys for AWS STS"; IAM User Guide, "AWS global condition context
/// keys"), and whether they have several values. Those that end in `/` go on with a tag key.
const KEYS: [(&str, bool); 63] = [
    ("aws:CalledVia", true),
    ("aws:CalledViaFirst", false),
    ("aws:CalledViaLast", false),
    ("aws:ChatbotSourceArn", false),
    ("aws:CurrentTime", false),
    ("aws:Ec2InstanceSourcePrivateIPv4", false),
    ("aws:Ec2InstanceSourceVpc", false),
    ("aws:EpochTime", false),
    ("aws:FederatedProvider", false),
    ("aws:MultiFactorAuthAge", false),
    ("aws:MultiFactorAuthPresent", false),
    ("aws:PrincipalAccount", false),
    ("aws:PrincipalArn", false),
    ("aws:PrincipalIsAWSService", false),
    ("aws:PrincipalOrgID", false),
    ("aws:PrincipalOrgPaths", true),
    ("aws:PrincipalServiceName", false),
    ("aws:PrincipalServiceNamesList", true),
    ("aws:PrincipalTag/", false),
    ("aws:PrincipalType", false),
    ("aws:Referer", false),
    ("aws:RequestedRegion", false),
    ("aws:RequestTag/", false),
    ("aws:ResourceAccount", false),
    ("aws:ResourceOrgID", false),
    ("aws:ResourceOrgPaths", true),
    ("aws:ResourceTag/", false),
    ("aws:SecureTransport", false),
    ("aws:SignInSessionArn", false),
    ("aws:SourceAccount", false),
    ("aws:SourceArn", false),
    ("aws:SourceIdentity", false),
    ("aws:SourceIp", false),
    ("aws:SourceOrgID", false),
    ("aws:SourceOrgPaths", true),
    ("aws:SourceVpc", false),
    ("aws:SourceVpcArn", false),
    ("aws:SourceVpce", false),
    ("aws:TagKeys", true),
    ("aws:TokenIssueTime", false),
    ("aws:UserAgent", false),
    ("aws:userid", false),
    ("aws:username", false),
    ("aws:ViaAWSService", false),
    ("aws:VpceAccount", false),
    ("aws:VpceOrgID", false),
    ("aws:VpceOrgPaths", true),
    ("aws:VpcSourceIp", false),
    ("codebuild:BuildArn", false),
    ("codebuild:ProjectArn", false),
    ("ec2:RoleDelivery", false),
    ("ec2:SourceInstanceArn", false),
    ("glue:CredentialIssuingService", false),
    ("glue:RoleAssumedBy", false),
    ("iam:ResourceTag/", false),
    ("identitystore:UserId", false),
    ("lambda:SourceFunctionArn", false),
    ("ssm:SourceInstanceArn", false),
    ("sts:DurationSeconds", false),
    ("sts:ExternalId", false),
    ("sts:RoleSessionName", false),
    ("sts:SourceIdentity", false),
    ("sts:TransitiveTagKeys", true),
];

/// How many letters a key may be away from the one that was probably meant.
const NEAR: usize = 2;

/// Whether a condition key has several values; none where AssumeRole does not have it.
#[must_use]
pub fn has_several_values(key: &str) -> Option<bool> {
    // A key that ends in `/` goes on with the key of a tag.
    let is_known = |known: &str| match known.strip_suffix('/') {
        Some(_) => key.len() > known.len() && begins(key, known),
        None => key.eq_ignore_ascii_case(known),
    };
    KEYS.iter().find(|(known, _)| is_known(known)).map(|(_, several)| *several)
}

/// The key that was probably meant by one that AssumeRole does not have.
pub(super) fn near(key: &str) -> Option<String> {
    let (name, tag) = key.split_once('/').map_or((key, None), |(name, tag)| (name, Some(tag)));
    let distance_to = |known: &str| distance(&name.to_lowercase(), &known.to_lowercase());
    let meant = KEYS.iter().filter_map(|(known, _)| match (known.strip_suffix('/'), tag) {
        (Some(known), Some(tag)) if !tag.is_empty() => Some((distance_to(known), format!("{known}/{tag}"))),
        (Some(known), _) => Some((distance_to(known), format!("{known}/TAG"))),
        (None, None) => Some((distance_to(known), (*known).to_owned())),
        (None, Some(_)) => None,
    });
    meant.filter(|(distance, _)| *distance <= NEAR).min().map(|(_, known)| known)
}

/// Whether a text begins so, without case.
pub(super) fn begins(text: &str, beginning: &str) -> bool {
    text.get(..beginning.len()).is_some_and(|head| head.eq_ignore_ascii_case(beginning))
}

/// How many letters have to be put in, left out or changed.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (above, letter) in one.chars().enumerate() {
        let (mut before, mut diagonal) = (above + 1, above);
        for (cell, wanted) in row.iter_mut().skip(1).zip(other.chars()) {
            before = (before + 1).min(*cell + 1).min(diagonal + usize::from(letter != wanted));
            diagonal = std::mem::replace(cell, before);
        }
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_told_by_the_one_that_was_meant() {
        for (key, meant) in [
            ("aws:SourcIp", Some("aws:SourceIp")),
            ("aws:sourceip", Some("aws:SourceIp")),
            ("sts:SourceAccount", Some("aws:SourceAccount")),
            ("aws:PrincipalArm", Some("aws:PrincipalArn")),
            ("aws:PrincipalOrgs", Some("aws:PrincipalOrgID")),
            ("aws:RequestTags/team", Some("aws:RequestTag/team")),
            ("aws:RequestTag/", Some("aws:RequestTag/TAG")),
            ("aws:PrincipalTag", Some("aws:PrincipalTag/TAG")),
            ("aws:SourceIp/team", None),
            ("aws:Something", None),
            ("s3:prefix", None),
            ("", None),
        ] {
            assert_eq!(near(key).as_deref(), meant, "{key}");
        }
    }

    #[test]
    fn a_distance_is_the_number_of_letters() {
        for (one, other, letters) in
            [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("abc", "axc", 1), ("abc", "bc", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(one, other), letters, "{one} {other}");
        }
    }

    #[test]
    fn keys_are_known_without_case_and_with_the_tag_behind_them() {
        for (key, several) in [
            ("AWS:TAGKEYS", Some(true)),
            ("aws:sourcearn", Some(false)),
            ("aws:requesttag/Team", Some(false)),
            ("aws:RequestTag/", None),
            ("aws:RequestTag", None),
            ("aws:Üa", None),
        ] {
            assert_eq!(has_several_values(key), several, "{key}");
        }
    }
}
