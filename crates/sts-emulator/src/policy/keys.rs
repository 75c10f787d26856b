//! The keys that a call of AssumeRole can have, and which of them have several values.

/// Keys of AssumeRole (Service Authorization Reference, "Condition keys for AWS STS"; IAM User Guide, "AWS global condition context
/// keys"), and whether they have several values. Those that end in `/` go on with a tag key.
const KEYS: [(&str, bool); 51] = [
    ("aws:calledvia", true),
    ("aws:calledviafirst", false),
    ("aws:calledvialast", false),
    ("aws:currenttime", false),
    ("aws:ec2instancesourceprivateipv4", false),
    ("aws:ec2instancesourcevpc", false),
    ("aws:epochtime", false),
    ("aws:federatedprovider", false),
    ("aws:multifactorauthage", false),
    ("aws:multifactorauthpresent", false),
    ("aws:principalaccount", false),
    ("aws:principalarn", false),
    ("aws:principalisawsservice", false),
    ("aws:principalorgid", false),
    ("aws:principalorgpaths", true),
    ("aws:principalservicename", false),
    ("aws:principalservicenameslist", true),
    ("aws:principaltag/", false),
    ("aws:principaltype", false),
    ("aws:referer", false),
    ("aws:requestedregion", false),
    ("aws:requesttag/", false),
    ("aws:resourceaccount", false),
    ("aws:resourceorgid", false),
    ("aws:resourceorgpaths", true),
    ("aws:resourcetag/", false),
    ("aws:securetransport", false),
    ("aws:sourceaccount", false),
    ("aws:sourcearn", false),
    ("aws:sourceidentity", false),
    ("aws:sourceip", false),
    ("aws:sourceorgid", false),
    ("aws:sourceorgpaths", true),
    ("aws:sourcevpc", false),
    ("aws:sourcevpce", false),
    ("aws:tagkeys", true),
    ("aws:tokenissuetime", false),
    ("aws:useragent", false),
    ("aws:userid", false),
    ("aws:username", false),
    ("aws:viaawsservice", false),
    ("aws:vpcsourceip", false),
    ("ec2:roledelivery", false),
    ("ec2:sourceinstancearn", false),
    ("iam:resourcetag/", false),
    ("lambda:sourcefunctionarn", false),
    ("sts:durationseconds", false),
    ("sts:externalid", false),
    ("sts:rolesessionname", false),
    ("sts:sourceidentity", false),
    ("sts:transitivetagkeys", true),
];

/// Whether a key, in lower case, has several values; none where AssumeRole does not have it.
pub(super) fn has_several_values(key: &str) -> Option<bool> {
    // A key that ends in `/` goes on with the key of a tag.
    let is_known = |known: &str| match known.strip_suffix('/') {
        Some(_) => key.len() > known.len() && key.starts_with(known),
        None => key == known,
    };
    KEYS.iter().find(|(known, _)| is_known(known)).map(|(_, several)| *several)
}
