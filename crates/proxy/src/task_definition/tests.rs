//! Documents as they come from AWS, and what is told of those that do not.

use super::*;

/// As `aws ecs register-task-definition --cli-input-json` takes it.
const REGISTERED: &str = r#"{
  "family": "web",
  "taskRoleArn": "arn:aws:iam::111122223333:role/apps/web",
  "executionRoleArn": "ecsTaskExecutionRole",
  "networkMode": "awsvpc",
  "requiresCompatibilities": ["FARGATE"],
  "cpu": "256",
  "memory": "512",
  "runtimePlatform": {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"},
  "volumes": [],
  "containerDefinitions": [
    {
      "name": "app",
      "image": "111122223333.dkr.ecr.us-west-2.amazonaws.com/web:latest",
      "essential": true,
      "portMappings": [{"containerPort": 80, "hostPort": 80, "protocol": "tcp", "appProtocol": "http"}],
      "environment": [{"name": "STAGE", "value": "prod"}, {"name": "EMPTY"}, {"name": "BUCKET", "value": "a-bucket"}],
      "environmentFiles": [{"value": "arn:aws:s3:::a-bucket/app.env", "type": "s3"}],
      "secrets": [{"name": "DB_PASSWORD", "valueFrom": "arn:aws:secretsmanager:us-west-2:111122223333:secret:db-AbCdEf"}],
      "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/ecs/web"}},
      "healthCheck": {"command": ["CMD-SHELL", "curl -f http://localhost/ || exit 1"], "interval": 30}
    },
    {"name": "log_router", "image": "fluent-bit", "firelensConfiguration": {"type": "fluentbit"}, "cpu": 0}
  ]
}"#;

/// As `aws ecs describe-task-definition` prints it.
const DESCRIBED: &str = r#"{
  "taskDefinition": {
    "taskDefinitionArn": "arn:aws-cn:ecs:cn-north-1:444455556666:task-definition/sleep360:19",
    "containerDefinitions": [
      {"name": "sleep", "image": "busybox", "cpu": 10, "command": ["sleep", "360"], "environment": [], "mountPoints": [],
       "portMappings": [], "volumesFrom": [], "systemControls": [], "memory": 10, "essential": true}
    ],
    "family": "sleep360",
    "taskRoleArn": "sleeper",
    "revision": 19,
    "volumes": [],
    "status": "ACTIVE",
    "requiresAttributes": [{"name": "com.amazonaws.ecs.capability.task-iam-role"}],
    "placementConstraints": [],
    "compatibilities": ["EXTERNAL", "EC2"],
    "registeredAt": "2026-11-21T14:02:11.415000-08:00",
    "registeredBy": "arn:aws:sts::444455556666:assumed-role/Admin/somebody",
    "enableFaultInjection": false,
    "aFieldOfNextYear": {"x": [1, null]}
  },
  "tags": []
}"#;

fn read(definition: &str, overrides: Option<&str>, account: Account<'_>) -> Result<TaskDefinition, String> {
    let overrides = overrides.map(|text| Document { name: "overrides", text });
    let read = parse(Document { name: "td.json", text: definition }, overrides, account, &BOTH);
    read.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

const BOTH: [RoleKind; 2] = [RoleKind::Task, RoleKind::Execution];
const ANY: Account<'_> = Account { given: None, fallback: Some("111122223333") };

fn arn(text: &str) -> Option<RoleArn> {
    Some(RoleArn::new(text).unwrap())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_role_that_nobody_asks_for_is_left_alone() {
    let nobodys = Account::default();
    assert!(read(REGISTERED, None, nobodys).unwrap_err().contains("executionRoleArn: is the name of a role"));
    let definition = Document { name: "td.json", text: REGISTERED };
    let read = parse(definition, None, nobodys, &[RoleKind::Task]).unwrap();
    assert_eq!((read.task_role, read.execution_role), (arn("arn:aws:iam::111122223333:role/apps/web"), None));
}

#[test]
fn a_definition_is_read_as_it_is_registered() {
    let read = read(REGISTERED, None, ANY).unwrap();
    assert_eq!((read.family.as_str(), read.revision, read.registered), ("web", None, None));
    assert_eq!(read.task_role, arn("arn:aws:iam::111122223333:role/apps/web"));
    assert_eq!(read.execution_role, arn("arn:aws:iam::111122223333:role/ecsTaskExecutionRole"));
    assert_eq!(
        read.containers.iter().map(|container| container.name.as_str()).collect::<Vec<_>>(),
        ["app", "log_router"]
    );
    let app = &read.containers[0];
    assert_eq!(app.environment, pairs(&[("STAGE", "prod"), ("EMPTY", ""), ("BUCKET", "a-bucket")]));
    assert_eq!((app.secrets.as_slice(), app.environment_files.len()), (&["DB_PASSWORD".to_owned()][..], 1));
    assert!(read.containers[1].environment.is_empty() && read.warnings.is_empty());
}

#[test]
fn a_definition_is_read_as_it_is_described() {
    let read = read(DESCRIBED, None, ANY).unwrap();
    assert_eq!((read.family.as_str(), read.revision), ("sleep360", Some(19)));
    let registered = read.registered.unwrap();
    assert_eq!((registered.partition.as_str(), registered.region.as_str()), ("aws-cn", "cn-north-1"));
    // The account of its ARN comes before that of the embedded STS.
    assert_eq!(read.task_role, arn("arn:aws-cn:iam::444455556666:role/sleeper"));
    assert_eq!(read.execution_role, None);
}

#[test]
fn the_account_of_a_bare_name_is_the_given_one_else_the_definitions_else_the_fallback() {
    let given = Account { given: Some("777788889999"), fallback: Some("111122223333") };
    assert_eq!(read(DESCRIBED, None, given).unwrap().task_role, arn("arn:aws-cn:iam::777788889999:role/sleeper"));
    let told = read(REGISTERED, None, Account::default()).unwrap_err();
    assert!(
        told.starts_with("td.json: executionRoleArn: is the name of a role") && told.contains("--account"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "the task role is an ARN");
    let with_a_path = REGISTERED.replace("ecsTaskExecutionRole", "/service/exec");
    assert_eq!(
        read(&with_a_path, None, ANY).unwrap().execution_role,
        arn("arn:aws:iam::111122223333:role/service/exec")
    );
}

#[test]
fn null_and_an_empty_role_are_as_good_as_absent() {
    let skeleton = r#"{"family":"f","taskRoleArn":"","executionRoleArn":null,"revision":null,"taskDefinitionArn":null,
        "containerDefinitions":[{"name":"c","environment":null,"secrets":null,"environmentFiles":null}]}"#;
    let read = read(skeleton, Some(r#"{"taskRoleArn":"","containerOverrides":null}"#), Account::default()).unwrap();
    assert_eq!((read.task_role, read.execution_role, read.containers.len()), (None, None, 1));
}

#[test]
fn overrides_win_and_what_they_do_not_name_stays() {
    let overrides = r#"{
      "taskRoleArn": "arn:aws:iam::111122223333:role/other",
      "cpu": "512",
      "containerOverrides": [
        {"name": "app", "command": ["x"], "environment": [{"name": "STAGE", "value": "test"}, {"name": "NEW", "value": "1"}],
         "environmentFiles": [{"value": "arn:aws:s3:::a-bucket/test.env", "type": "s3"}]},
        {"name": "log_router"}
      ]
    }"#;
    let read = read(REGISTERED, Some(overrides), ANY).unwrap();
    assert_eq!(read.task_role, arn("arn:aws:iam::111122223333:role/other"));
    assert_eq!(read.execution_role, arn("arn:aws:iam::111122223333:role/ecsTaskExecutionRole"));
    let app = &read.containers[0];
    assert_eq!(app.environment, pairs(&[("EMPTY", ""), ("BUCKET", "a-bucket"), ("STAGE", "test"), ("NEW", "1")]));
    assert_eq!(app.environment_files, ["arn:aws:s3:::a-bucket/test.env"]);
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
}

#[test]
fn a_role_that_is_overridden_needs_no_account() {
    let overrides = r#"{"executionRoleArn": "arn:aws:iam::111122223333:role/other"}"#;
    assert!(read(REGISTERED, Some(overrides), Account::default()).is_ok());
}

#[test]
fn an_override_that_nobody_knows_is_told() {
    let overrides = r#"{"overrides": {"taskRoleArn": "x"}, "taskRole": "y"}"#;
    let warnings = read(REGISTERED, Some(overrides), ANY).unwrap().warnings;
    for key in ["overrides", "taskRole"] {
        assert!(warnings.iter().any(|warning| warning.starts_with(&format!("overrides: {key}: "))), "{warnings:?}");
    }
}

#[test]
fn all_faults_of_both_documents_are_told_at_once_with_their_paths() {
    let definition = r#"{"taskDefinition": {
      "family": "not a family", "revision": "x", "taskDefinitionArn": "arn:aws:ecs:x", "taskRoleArn": {"Fn::GetAtt": []},
      "executionRoleArn": "arn:aws:iam::1:role/x",
      "containerDefinitions": [
        {"name": "app", "environment": [{"value": "s3cret"}, {"name": "PORT", "value": 8080}, {"name": "A=B", "value": ""}, 7],
         "secrets": [{"valueFrom": "x"}], "environmentFiles": "x"},
        {"name": "app"}, {}, [], {"name": "two words"}
      ]
    }}"#;
    let overrides =
        r#"{"taskRoleArn": "no such name!", "containerOverrides": [{"name": "other"}, {"environment": {}}]}"#;
    let told = read(definition, Some(overrides), ANY).unwrap_err();
    for fault in [
        "td.json: taskDefinition.family: must be 1 to 255",
        "td.json: taskDefinition.revision: must be a whole number",
        "td.json: taskDefinition.taskDefinitionArn: must be as arn:aws:ecs:",
        "td.json: taskDefinition.taskRoleArn: must be a string",
        "td.json: taskDefinition.executionRoleArn: role ARN must",
        "td.json: taskDefinition.containerDefinitions[0].environment[0].name: is missing",
        "td.json: taskDefinition.containerDefinitions[0].environment[1].value: must be a string",
        "td.json: taskDefinition.containerDefinitions[0].environment[2].name: must be the name of a variable",
        "td.json: taskDefinition.containerDefinitions[0].environment[3]: must be an object",
        "td.json: taskDefinition.containerDefinitions[0].secrets[0].name: is missing",
        "td.json: taskDefinition.containerDefinitions[0].environmentFiles: must be a list",
        "td.json: taskDefinition.containerDefinitions[1].name: is the name of another container too",
        "td.json: taskDefinition.containerDefinitions[2].name: is missing",
        "td.json: taskDefinition.containerDefinitions[3]: must be an object",
        "td.json: taskDefinition.containerDefinitions[4].name: must be 1 to 255",
        "overrides: taskRoleArn: role name may only hold",
        "overrides: containerOverrides[0].name: is no container of the definition, which has app",
        "overrides: containerOverrides[1].name: is missing",
        "overrides: containerOverrides[1].environment: must be a list",
    ] {
        assert!(told.lines().any(|line| line.starts_with(fault)), "{fault} is not in\n{told}");
    }
    assert_eq!(told.lines().count(), 19, "{told}");
    assert!(!told.contains("s3cret") && !told.contains("8080"), "{told}");
}

#[test]
fn what_is_no_task_definition_is_told_in_one_line() {
    for (text, says) in [
        ("{", "td.json: is not JSON"),
        ("[]", "td.json: must be a task definition"),
        (r#"{"taskDefinition": "web:1"}"#, "td.json: taskDefinition: must be a task definition"),
        (r#"{"Family": "web", "ContainerDefinitions": []}"#, "CloudFormation and Terraform have another form"),
        (r#"{"family": "web", "containerDefinitions": []}"#, "td.json: containerDefinitions: is empty"),
        (r#"{"containerDefinitions": [{"name": "c"}]}"#, "td.json: family: is missing"),
    ] {
        let told = read(text, None, ANY).unwrap_err();
        assert!(told.contains(says) && told.lines().count() == 1, "{text}: {told}");
    }
    let told = read("{}", Some("["), ANY).unwrap_err();
    assert_eq!(told.lines().count(), 3, "{told}");
    assert!(read(&format!("\u{feff}{DESCRIBED}"), None, ANY).is_ok());
}

#[test]
fn nothing_panics_on_documents_cut_at_any_byte() {
    for end in (0..REGISTERED.len()).filter(|end| REGISTERED.is_char_boundary(*end)) {
        let _ = read(&REGISTERED[..end], None, ANY);
        let _ = read(DESCRIBED, Some(&REGISTERED[..end]), ANY);
    }
    let _ = read(&"[".repeat(100_000), None, ANY);
    for arn in
        ["", "arn", "arn:aws:ecs:r:111122223333:task-definition/f:", "arn:aws:ecs:r:111122223333:task-definition/f"]
    {
        assert_eq!(definition_arn(arn), None, "{arn}");
    }
}
