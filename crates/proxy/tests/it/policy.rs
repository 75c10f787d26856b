//! `taskcreds policy`, and the embedded STS with roles that have trust policies: the real binary, the AWS CLI, moto's IAM.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;

use serde_json::Value;

use crate::python::{self, Venv};
use crate::rig::{self, Ended, Start, taskcreds};
use crate::sdk::Moto;
use crate::skip;
use crate::tasks::{Config, Task};

const TASK: &str = "arn:aws:ecs:us-west-2:111122223333:task/prod/0123456789abcdef";
const PLACE: &str = "--account 111122223333 --region us-west-2";
const PROXY: &str = "--proxy arn:aws:iam::111122223333:role/taskcreds-proxy";

fn policy(arguments: &str) -> Ended {
    taskcreds("policy").args(arguments).run()
}

fn written(arguments: &str) -> String {
    let ended = policy(arguments);
    assert_eq!(ended.code(), 0, "{arguments}: {}", ended.stderr);
    ended.stdout
}

/// Writes a file for a command to read.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn test(trust: &str, more: &str) -> Ended {
    policy(&format!("test --trust {trust} --task-arn {TASK} {more}"))
}

#[test]
fn what_trust_writes_is_clean_and_lets_in_whom_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let trust = |arguments: &str| file(folder.path(), "trust.json", &written(&format!("trust {arguments} {PLACE}")));
    for (arguments, more, ecs, proxy) in [
        ("task", "--as both", true, false),
        ("execution", "--as both", true, false),
        (&format!("task {PROXY}"), "--as both", true, true),
        (&format!("task {PROXY} --cluster prod"), "--as both", true, true),
        (&format!("execution {PROXY} --cluster prod"), "--as both", true, true),
        (&format!("task {PROXY} --cluster dev"), "--as both", true, false),
        (&format!("task {PROXY} --cluster prod"), "--session-tags off", true, false),
        (&format!("task {PROXY}"), "--source-identity scheduler", true, false),
        (&format!("task {PROXY} --source-identity"), "--source-identity scheduler", true, true),
        (&format!("task {PROXY} --session-tags off"), "--session-tags off", true, true),
        (&format!("task {PROXY} --without-service"), "--as both", false, true),
        ("anywhere", "--as both", false, false),
    ] {
        let trust = trust(arguments);
        let linted = policy(&format!("lint {trust}"));
        assert_eq!(linted.code(), 0, "{arguments}: {}{}", linted.stdout, linted.stderr);
        let tested = test(&trust, &format!("{more} --json"));
        let verdicts: Value = serde_json::from_str(&tested.stdout).unwrap();
        let allowed = |who: &str| verdicts[who]["allowed"].as_bool().unwrap();
        assert_eq!((allowed("as-ecs"), allowed("as-proxy")), (ecs, proxy), "{arguments} {more}: {}", tested.stdout);
        assert_eq!(tested.code(), if ecs && proxy { 0 } else { 77 }, "{arguments} {more}");
    }
    // Written as people read it.
    let text = written(&format!("trust task {PLACE}"));
    let at = |key: &&str| text.find(&format!("\"{key}\"")).unwrap();
    assert!(
        ["Version", "Statement", "Sid", "Effect", "Principal", "Action", "Condition"].is_sorted_by_key(at),
        "{text}"
    );
    // Without the source the confused deputy is found.
    let linted = policy(&format!("lint {}", trust("task --without-source")));
    assert_eq!(linted.code(), 1);
    assert!(linted.stdout.contains("Statement[0] \"EcsTasks\": trap confused-deputy"), "{}", linted.stdout);
}

#[test]
fn test_says_what_decided_and_its_exit_status_is_of_those_who_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let narrow = written(&format!("trust task {PLACE} {PROXY}")).replace("111122223333:*", "111122223333:task/prod/*");
    let trust = file(folder.path(), "trust.json", &narrow);
    let ended = test(&trust, "--as ecs");
    assert_eq!(ended.code(), 77);
    assert!(ended.stdout.starts_with("as-ecs: DENIED\n") && !ended.stdout.contains("as-proxy"), "{}", ended.stdout);
    for part in [
        "Statement[0] \"EcsTasks\" does not apply",
        "ArnLike aws:SourceArn",
        "ECS supports aws:SourceArn only for all clusters",
        "1 trap in this policy",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert!(ended.stderr.contains("the role cannot be assumed as-ecs"), "{}", ended.stderr);
    assert_eq!(test(&trust, "--as proxy").code(), 0);
    let ended = test(&trust, "--as proxy --proxy arn:aws:iam::111122223333:user/me --json");
    let verdict: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(verdict["as-proxy"]["caller"], "arn:aws:iam::111122223333:user/me");
    assert_eq!(verdict["as-proxy"]["actions"][0]["effect"], "implicitDeny");
    assert_eq!((verdict["traps"].clone(), ended.code()), (Value::from(1), 77));

    // What is not known decides nothing, until somebody says it.
    let from_office = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:*",
        "Condition":{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"},"StringEquals":{"sts:ExternalId":"open","aws:RequestTag/team":"blue"}}}]}"#;
    let trust = file(folder.path(), "office.json", from_office);
    let given = "--as proxy --external-id open --tag team=blue";
    let ended = test(&trust, given);
    assert_eq!(ended.code(), 77);
    assert!(ended.stdout.contains("--context KEY=VALUE"), "{}", ended.stdout);
    let ended = test(&trust, &format!("{given} --context aws:SourceIp=203.0.113.9"));
    assert_eq!(ended.code(), 0, "{}", ended.stdout);
    assert!(ended.stdout.contains("the caller's own policies must allow sts:TagSession too"), "{}", ended.stdout);
    assert_eq!(
        test(&trust, &format!("{given} --context aws:SourceIp=203.0.113.9 --without-identity-policy")).code(),
        77
    );
    assert_eq!(
        test(&trust, "--as proxy --tag team=blue --context aws:SourceIp=203.0.113.9").code(),
        77,
        "no external id"
    );
}

/// What the call tells, what its caller never has and what no call has: a verdict about such a call would be about none that is made.
#[test]
fn what_the_call_tells_cannot_be_given_by_context() {
    let folder = tempfile::tempdir().unwrap();
    let trust = |name: &str, condition: &str| {
        let principals =
            r#"{"Service":"ecs-tasks.amazonaws.com","AWS":"arn:aws:iam::111122223333:role/taskcreds-proxy"}"#;
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{principals},"Action":"sts:*","Condition":{condition}}}]}}"#
        );
        file(folder.path(), name, &text)
    };
    let source = r#"{"ArnLike":{"aws:SourceArn":"arn:aws:ecs:us-west-2:111122223333:task/prod/*"}}"#;
    let account = r#"{"StringEquals":{"aws:SourceAccount":"111122223333"}}"#;
    for (condition, who, context, why) in [
        (source, "ecs", format!("aws:SourceArn={TASK}"), "the task's ARN tells it"),
        (account, "proxy", "aws:SourceAccount=111122223333".to_owned(), "only the call of an AWS service has it"),
        (
            r#"{"StringEquals":{"sts:ExternalId":"x1"}}"#,
            "ecs",
            "sts:ExternalId=x1".to_owned(),
            "ECS sends no external id",
        ),
        (
            r#"{"StringEquals":{"aws:RequestTag/a":"x1"}}"#,
            "ecs",
            "aws:RequestTag/a=x1".to_owned(),
            "ECS passes no session tags",
        ),
        (
            r#"{"StringLike":{"aws:PrincipalArn":"*"}}"#,
            "ecs",
            "aws:PrincipalArn=arn:aws:iam::111122223333:role/x".to_owned(),
            "an AWS service is no IAM principal",
        ),
        (
            r#"{"StringLike":{"aws:PrincipalArn":"*/x"}}"#,
            "proxy",
            "aws:PrincipalArn=arn:aws:iam::111122223333:role/x".to_owned(),
            "the caller's ARN tells it",
        ),
        (
            r#"{"NumericLessThan":{"sts:DurationSeconds":"3600"}}"#,
            "proxy",
            "sts:DurationSeconds=900".to_owned(),
            "AssumeRole never has it",
        ),
    ] {
        let trust = trust("trust.json", condition);
        assert_eq!(test(&trust, &format!("--as {who}")).code(), 77, "{condition}");
        let ended = test(&trust, &format!("--as {who} --context {context}"));
        assert_eq!((ended.code(), ended.stdout.as_str()), (64, ""), "{context}");
        assert!(ended.stderr.contains(why) && ended.stderr.contains("said by --proxy"), "{context}: {}", ended.stderr);
    }
    // All of it at once, with what was meant.
    let office = trust("office.json", r#"{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}}"#);
    let ended = test(&office, "--context aws:SourcIp=203.0.113.9 --context s3:prefix=x --context aws:SourceArn=x");
    assert_eq!(ended.code(), 64);
    for part in [
        "--context aws:SourcIp: AssumeRole has no such key; aws:SourceIp is meant?",
        "--context s3:prefix: AssumeRole has no such key",
        "--context aws:SourceArn: as-ecs: the task's ARN tells it; as-proxy: only the call of an AWS service has it",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    let address = "--context aws:SourceIp=203.0.113.9";
    assert_eq!(test(&office, address).code(), 0);
    let ended = test(&office, &format!("{address} --context AWS:sourceip=198.51.100.1"));
    assert!(ended.code() == 64 && ended.stderr.contains("is given twice, and has one value"), "{}", ended.stderr);
    // A key that only one of the two may bring is for that one.
    let organization = trust("organization.json", r#"{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}"#);
    let ended = test(&organization, "--context aws:PrincipalOrgID=o-1 --json");
    let verdicts: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&verdicts["as-ecs"]["allowed"], &verdicts["as-proxy"]["allowed"]), (&false.into(), &true.into()));
    assert_eq!(test(&organization, "--as ecs --context aws:PrincipalOrgID=o-1").code(), 64);
}

#[test]
fn a_file_that_iam_would_refuse_is_64_with_all_its_faults() {
    let folder = tempfile::tempdir().unwrap();
    let bad = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotPrincipal":{"AWS":"*"},"Action":"sts:AssumeRole","Resource":"*"}]}"#;
    let bad = file(folder.path(), "bad.json", bad);
    let role = file(
        folder.path(),
        "role.json",
        &format!(
            r#"{{"Role":{{"Arn":"arn:aws:iam::111122223333:role/web","AssumeRolePolicyDocument":{}}}}}"#,
            written(&format!("trust task {PLACE}"))
        ),
    );
    for ended in [policy(&format!("lint {role} {bad} /no/such/file")), test(&bad, "--as both")] {
        assert_eq!(ended.code(), 64);
        for part in
            ["bad.json: Statement[0]: has NotPrincipal", "bad.json: Statement[0]: Has prohibited field Resource"]
        {
            assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
        }
    }
    assert!(policy("lint /no/such/file").stderr.contains("/no/such/file"));
    // A role brings its own ARN.
    assert!(test(&role, "--as ecs").stdout.contains("assumes arn:aws:iam::111122223333:role/web for"));
    for wrong in ["--proxy me", "--tag ecs-task-arn=x", "--tag aws:x=y", "--session-tags off --tag a=b"] {
        assert_eq!(test(&role, wrong).code(), 64, "{wrong}");
    }
    for wrong in [
        "trust task",
        "trust task --account 1 --region us-west-2",
        "permissions proxy",
        "permissions anywhere --format cloudformation",
        &format!("trust task {PLACE} --cluster prod"),
        &format!("trust task {PLACE} {PROXY} --cluster a/b"),
        &format!("trust task {PLACE} --name a/b"),
        &format!("trust task {PLACE} --session-tags off"),
    ] {
        assert_eq!(policy(wrong).code(), 64, "{wrong}");
    }
    let foreign = policy("permissions exec --narrow --cluster prod --role arn:aws:iam::111122223333:role/web");
    assert_eq!(foreign.code(), 64);
    let told = "--role is for proxy; --narrow is for execution and anywhere; --cluster is for anywhere";
    assert!(foreign.stderr.contains(told), "{}", foreign.stderr);
}

#[test]
fn permissions_are_those_of_the_documentation_and_no_more() {
    let json = |arguments: &str| serde_json::from_str::<Value>(&written(&format!("permissions {arguments}"))).unwrap();
    let proxy = json("proxy --role arn:aws:iam::111122223333:role/web --role arn:aws:iam::111122223333:role/db");
    let statement = &proxy["Statement"][0];
    assert_eq!(statement["Action"], serde_json::json!(["sts:AssumeRole", "sts:TagSession"]));
    assert_eq!(
        statement["Resource"],
        serde_json::json!(["arn:aws:iam::111122223333:role/web", "arn:aws:iam::111122223333:role/db"])
    );
    let proxy = json("proxy --role arn:aws:iam::111122223333:role/web --session-tags off --source-identity");
    assert_eq!(proxy["Statement"][0]["Action"], serde_json::json!(["sts:AssumeRole", "sts:SetSourceIdentity"]));
    let exec = json("exec");
    assert_eq!(exec["Statement"][0]["Action"].as_array().unwrap().len(), 4);
    assert_eq!(
        json("execution --partition aws-cn")["ManagedPolicyArns"],
        serde_json::json!(["arn:aws-cn:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"])
    );
    assert_eq!(json("anywhere")["ManagedPolicyArns"].as_array().unwrap().len(), 2);
    let narrow = json(&format!("anywhere --narrow --cluster prod {PLACE}")).to_string();
    assert!(narrow.contains("arn:aws:ecs:us-west-2:111122223333:cluster/prod"), "{narrow}");
    for left_out in ["ecs:CreateCluster", "ssm:GetParameter", "ssm:GetDocument", "ssm:PutInventory", "ec2:DescribeTags"]
    {
        assert!(!narrow.contains(left_out), "{left_out}");
    }
}

/// Tasks of a region have ARNs of its partition, and so must what is held to them.
#[test]
fn documents_are_of_the_partition_of_their_region() {
    for (region, partition) in [
        ("us-west-2", "aws"),
        ("eu-central-1", "aws"),
        ("us-gov-west-1", "aws-us-gov"),
        ("cn-north-1", "aws-cn"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eu-isoe-west-1", "aws-iso-e"),
        ("us-isof-south-1", "aws-iso-f"),
        ("eusc-de-east-1", "aws-eusc"),
    ] {
        let place = format!("--account 111122223333 --region {region}");
        let proxy = format!("--proxy arn:{partition}:iam::111122223333:role/taskcreds-proxy --cluster prod");
        let folder = tempfile::tempdir().unwrap();
        let trust = file(folder.path(), "trust.json", &written(&format!("trust task {place} {proxy}")));
        let task = format!("arn:{partition}:ecs:{region}:111122223333:task/prod/0123456789abcdef");
        let ended = policy(&format!("test --trust {trust} --task-arn {task}"));
        assert_eq!(ended.code(), 0, "{region}: {}", ended.stdout);
        let managed = written(&format!("permissions execution --region {region}"));
        assert!(managed.contains(&format!("\"arn:{partition}:iam::aws:policy/")), "{region}: {managed}");
        assert_eq!(
            written(&format!("trust task {place} --partition {partition}")),
            written(&format!("trust task {place}"))
        );
    }
    for (contradiction, says) in [
        ("--region us-gov-west-1 --partition aws", "the region is of the partition aws-us-gov"),
        ("--region us-west-2 --partition aws-cn", "the region is of the partition aws"),
        (&format!("--region cn-north-1 {PROXY}"), "is of another partition than the role, which is of aws-cn"),
    ] {
        let ended = policy(&format!("trust task --account 111122223333 {contradiction}"));
        assert_eq!(ended.code(), 64, "{contradiction}");
        assert!(ended.stderr.contains(says), "{contradiction}: {}", ended.stderr);
    }
    // One that is not known here is taken at its word.
    let new = written("trust task --account 111122223333 --region xx-new-1 --partition aws-new");
    assert!(new.contains("arn:aws-new:ecs:xx-new-1:111122223333:*"), "{new}");
}

#[test]
fn every_document_is_written_in_every_format() {
    let documents = [
        ("trust task", true, 0),
        ("trust execution", true, 0),
        ("trust anywhere", true, 0),
        ("permissions proxy --role arn:aws:iam::111122223333:role/web", false, 1),
        ("permissions execution", false, 1),
        ("permissions execution --narrow", false, 1),
        ("permissions exec", false, 1),
        ("permissions anywhere", false, 2),
        ("permissions anywhere --narrow", false, 1),
    ];
    for (arguments, is_trust, policies) in documents {
        let json = |format: &str| {
            serde_json::from_str::<Value>(&written(&format!("{arguments} {PLACE} --format {format}"))).unwrap()
        };
        let template = json("cloudformation");
        assert_eq!(template["AWSTemplateFormatVersion"], "2010-09-09");
        let resources = template["Resources"].as_object().unwrap();
        assert_eq!(resources.len(), 1, "{arguments}");
        let resource = resources.values().next().unwrap();
        let kind = resource["Type"].as_str().unwrap();
        let managed = resource["Properties"]["ManagedPolicyArns"].as_array().map_or(0, Vec::len);
        let is_inline = kind == "AWS::IAM::RolePolicy" && resource["Properties"]["PolicyDocument"].is_object();
        let is_role = kind == "AWS::IAM::Role" && resource["Properties"]["AssumeRolePolicyDocument"].is_object();
        assert!(is_role && managed == policies || is_inline && policies == 1, "{arguments}: {template}");
        let terraform = json("terraform");
        let terraform = terraform["resource"].as_object().unwrap();
        let made: usize = terraform.values().map(|of_kind| of_kind.as_object().unwrap().len()).sum();
        assert_eq!((terraform.contains_key("aws_iam_role"), made), (is_trust, policies.max(1)), "{arguments}");
        for text in terraform.values().flat_map(|of_kind| of_kind.as_object().unwrap().values()) {
            let text = text["assume_role_policy"].as_str().or(text["policy"].as_str());
            assert!(text.is_none_or(|text| serde_json::from_str::<Value>(text).is_ok()), "{arguments}");
        }
    }
}

/// A script with the binary and the AWS CLI on its PATH.
fn shell(script: &str, folder: &Path, venv: &Venv) -> Start {
    let binary = rig::binary();
    let folders = [Path::new(&binary).parent().unwrap().to_owned(), venv.folder()].into_iter();
    let path = std::env::join_paths(folders.chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())));
    rig::shell(script, folder).env("PATH", path.unwrap()).env("AWS_DEFAULT_REGION", "us-west-2")
}

#[test]
fn the_commands_for_the_aws_cli_make_roles_in_an_iam_and_these_pass_the_lint() {
    let Some(venv) = skip::unless("policy --format cli", python::venv()) else { return };
    let moto = Moto::start(&venv);
    let folder = tempfile::tempdir().unwrap();
    for (role, trust, permissions) in [
        ("web", format!("task {PROXY} --cluster prod"), "exec"),
        ("web-execution", "execution".to_owned(), "execution --narrow"),
        ("instances", "anywhere".to_owned(), "anywhere --narrow"),
        (
            "taskcreds-proxy",
            format!("task {PROXY} --without-service"),
            "proxy --role arn:aws:iam::111122223333:role/web",
        ),
    ] {
        let common = format!("--name {role} {PLACE} --format cli");
        let script = format!(
            "taskcreds policy trust {trust} {common} > {role}.sh\ntaskcreds policy permissions {permissions} {common} >> {role}.sh\n\
             sh -eu {role}.sh\naws iam get-role --role-name {role} > {role}.json\ntaskcreds policy lint {role}.json\n"
        );
        let start = shell(&script, folder.path(), &venv).env("AWS_ENDPOINT_URL", &moto.endpoint);
        let start =
            start.env("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST").env("AWS_SECRET_ACCESS_KEY", "opens-nothing");
        let ended = start.run();
        assert_eq!(ended.code(), 0, "{role}: {}{}", ended.stdout, ended.stderr);
    }
    // As that IAM has it, but for the account, which moto gives everybody: a task gets no role of another one.
    let web = folder.path().join("web.json").display().to_string();
    assert!(test(&web, PROXY).stdout.contains("the role is of another account than the task"));
    assert_eq!(test(&web, &format!("{PROXY} --role arn:aws:iam::111122223333:role/web")).code(), 0);
}

/// A folder of roles: `web` trusts the user of the embedded STS and ECS, `ops` trusts nobody here.
fn roles() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let web = r#"{"RoleArn":"arn:aws:iam::111122223333:role/web","AssumeRolePolicyDocument":{"Version":"2012-10-17","Statement":[
        {"Sid":"Me","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/taskcreds"},"Action":["sts:AssumeRole","sts:TagSession"],
         "Condition":{"StringEquals":{"aws:RequestTag/ecs-cluster-name":"dev"}}},
        {"Sid":"Ecs","Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole",
         "Condition":{"StringEquals":{"aws:SourceAccount":"111122223333"}}}]}}"#;
    let ops = r#"{"Role":{"Arn":"arn:aws:iam::111122223333:role/ops","AssumeRolePolicyDocument":{"Version":"2012-10-17","Statement":[
        {"Sid":"Ops","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/ops-team"},"Action":"sts:AssumeRole"}]}}}"#;
    file(folder.path(), "web.json", web);
    file(folder.path(), "ops.json", ops);
    folder
}

fn exec(folder: &Path, arguments: &str) -> Start {
    rig::exec().arg("--emulate").arg("--emulated-roles").arg(folder).args(arguments)
}

#[test]
fn exec_assumes_an_emulated_role_only_if_that_trusts_its_caller() {
    let folder = roles();
    let web = "--role arn:aws:iam::111122223333:role/web";
    for (arguments, code, says) in [
        (format!("{web} -- true"), 0, ""),
        (
            format!("{web} --session-tags off -- true"),
            77,
            "StringEquals aws:RequestTag/ecs-cluster-name: the request does not have it",
        ),
        (format!("{web} --emulated-caller ecs -- true"), 0, ""),
        (
            "--role arn:aws:iam::111122223333:role/wbe -- true".to_owned(),
            77,
            "(the emulator has no role of this ARN; it has arn:aws:iam::111122223333:role/",
        ),
        (
            format!("{web} --emulated-caller arn:aws:iam::111122223333:user/other -- true"),
            77,
            "does not trust arn:aws:iam::111122223333:user/other",
        ),
        (
            "--role arn:aws:iam::111122223333:role/ops -- true".to_owned(),
            77,
            "Statement[0] \"Ops\" does not trust arn:aws:iam::111122223333:user/taskcreds: it trusts arn:aws:iam::111122223333:role/ops-team",
        ),
        (
            "--role arn:aws:iam::111122223333:role/none -- true".to_owned(),
            77,
            "is not authorized to perform: sts:AssumeRole",
        ),
        (format!("{web} --emulated-caller me -- true"), 64, "--emulated-caller: `me` is not the ARN"),
        (
            format!("{web} --emulated-caller arn:aws-cn:iam::111122223333:user/taskcreds -- true"),
            64,
            "is of the partition aws-cn and the role of aws",
        ),
    ] {
        let ended = exec(folder.path(), &arguments).run();
        assert_eq!(ended.code(), code, "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{arguments}: {}", ended.stderr);
    }
    // Also where every role is there; who is not named is of the role's partition.
    let cn = "--emulate --role arn:aws-cn:iam::111122223333:role/web";
    let ended = rig::exec().args(&format!("{cn} --emulated-caller arn:aws:iam::111122223333:user/x -- true")).run();
    assert_eq!((ended.code(), ended.stderr.contains("another partition")), (64, true), "{}", ended.stderr);
    let role = r#"{"RoleArn":"arn:aws-cn:iam::111122223333:role/web","AssumeRolePolicyDocument":{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Principal":{"AWS":"arn:aws-cn:iam::111122223333:user/taskcreds"},"Action":["sts:AssumeRole","sts:TagSession"]}]}}"#;
    let listed = tempfile::tempdir().unwrap();
    file(listed.path(), "web.json", role);
    for more in [String::new(), format!(" --emulated-roles {}", listed.path().display())] {
        let ended = rig::exec().args(&format!("{cn}{more} -- true")).run();
        assert_eq!(ended.code(), 0, "{more}: {}", ended.stderr);
    }
    file(folder.path(), "bad.json", r#"{"RoleArn":"me","AssumeRolePolicyDocument":{}}"#);
    file(folder.path(), "worse.json", "{");
    let ended = exec(folder.path(), "-- true").run();
    assert_eq!(ended.code(), 64);
    for part in
        ["bad.json: RoleArn: must be", "bad.json: AssumeRolePolicyDocument: has no Statement", "worse.json: is no JSON"]
    {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    let ended = rig::exec()
        .arg("--emulated-roles")
        .arg(folder.path())
        .args("--role arn:aws:iam::111122223333:role/web -- true")
        .run();
    assert_eq!((ended.code(), ended.stderr.contains("add --emulate")), (64, true), "{}", ended.stderr);
}

#[test]
fn the_aws_cli_and_boto3_are_told_access_denied_with_what_decided() {
    let Some(venv) = skip::unless("emulated roles with the AWS CLI", python::venv()) else { return };
    let folder = roles();
    let python = "import boto3, botocore.exceptions as e\ntry:\n    boto3.client('sts').assume_role(RoleArn='arn:aws:iam::111122223333:role/ops', RoleSessionName='next')\nexcept e.ClientError as error:\n    print(error.response['Error']['Code'], error.response['ResponseMetadata']['HTTPStatusCode'])\n    print(error)\n";
    let script = format!(
        "aws sts get-caller-identity --query Arn --output text\naws sts assume-role --role-arn arn:aws:iam::111122223333:role/ops --role-session-name next 2>&1 || echo \"status $?\"\npython -c \"{python}\""
    );
    let path = std::env::join_paths(
        [venv.folder()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let start = exec(folder.path(), "--role arn:aws:iam::111122223333:role/web -- sh -c").arg(script);
    let ended = start.env("PATH", path.unwrap()).run();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stdout.starts_with("arn:aws:sts::111122223333:assumed-role/web/"), "{}", ended.stdout);
    assert!(ended.stdout.contains("\nstatus 25") && ended.stdout.contains("\nAccessDenied 403\n"), "{}", ended.stdout);
    let told = "is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::111122223333:role/ops (the emulator, of the role's trust policy: Statement[0] \"Ops\" does not trust";
    assert_eq!(ended.stdout.matches(told).count(), 2, "{}", ended.stdout);
}

#[test]
fn dev_has_the_roles_of_its_file() {
    let role = "[[emulated_role]]\nrole_arn = \"arn:aws:iam::111122223333:role/web\"\nmax_session_duration = 7200\ntags = { stage = \"live\" }\n\
                trust_policy = '''{\"Statement\":{\"Sid\":\"Ecs\",\"Effect\":\"Allow\",\"Principal\":{\"Service\":\"ecs-tasks.amazonaws.com\"},\"Action\":\"sts:AssumeRole\"}}'''\n";
    let dev = rig::dev_with(Config::with(role, &[Task::with_token("web")])).args("--listen 127.0.0.1:0").spawn();
    dev.logs("does not trust arn:aws:iam::111122223333:user/taskcreds: it trusts ecs-tasks.amazonaws.com");
    assert_eq!(dev.end().code(), 0);
    let as_ecs = Task::with_token("web").and("session_tags = \"off\"");
    let dev = rig::dev_with(Config::with(role, &[as_ecs])).args("--listen 127.0.0.1:0 --emulated-caller ecs").spawn();
    dev.logs("session loaded");
    assert_eq!(dev.end().code(), 0);
    let ended = rig::dev_with(Config::with(role, &[Task::new("web")])).args("--aws --emulated-caller ecs").run();
    assert_eq!(ended.code(), 64);
}
