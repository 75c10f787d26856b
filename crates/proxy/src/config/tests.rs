use super::*;

const ISSUE: &str = include_str!("../../tests/files/two-roles.toml");

fn faults(text: &str) -> Vec<String> {
    match Config::parse("t.toml", text, Path::new(".")) {
        Ok(_) => Vec::new(),
        Err(ConfigError { faults, .. }) => faults.iter().map(ToString::to_string).collect(),
    }
}

fn task(more: &str) -> String {
    format!(
        "[[task]]\ntask_arn = \"arn:aws:ecs:us-west-2:111122223333:task/prod/t1\"\nrole_arn = \"arn:aws:iam::111122223333:role/web\"\n{more}"
    )
}

fn parsed(text: &str) -> Config {
    Config::parse("t.toml", text, Path::new(".")).unwrap()
}

#[test]
fn a_file_with_both_roles_of_a_task_gives_two_registrations() {
    let config = parsed(ISSUE);
    let roles: Vec<_> =
        config.tasks.iter().map(|task| (task.role_kind, task.spec.role_arn.name().to_owned())).collect();
    assert_eq!(roles, [(RoleKind::Task, "web".to_owned()), (RoleKind::Execution, "web-execution".to_owned())]);
    assert_eq!(config.tasks[0].id.expose(), "4b9a3c2e-7d11-4f7e-9a55-0c1d2e3f4a5b");
    assert_eq!(config.tasks[1].id.expose(), "0d9e1c52-6a0b-4f0e-8f7e-6f2f5b1a9c33");
    assert_eq!(config.tasks[0].spec.session_name.as_str(), "0123456789abcdef0123456789abcdef");
    assert_eq!(config.tasks[0].tokens[0].expose(), "a-token");
    assert!(config.made_ids.is_empty());
}

#[test]
fn every_fault_is_told_at_once_with_its_line_column_and_path() {
    let text = "listen = [\"0.0.0.0:80\", \"nonsense\"]\nlisten_on = 1\n[defaults]\nduration_seconds = 10\n[[task]]\n\
                task_arn = \"arn:aws:ecs:us-west-2:1:task/prod/t1\"\nrole_arn = 7\ncredentials_id = \"short\"\n\
                tags = { \"aws:x\" = \"y\" }\npolicy = \"{\"\n";
    let found = faults(text);
    let begins = [
        "t.toml:1:12: listen[0]: would be reached by every neighbour",
        "t.toml:1:26: listen[1]: must be ADDRESS:PORT",
        "t.toml:2:1: listen_on: unknown key",
        "t.toml:4:20: defaults.duration_seconds: must be 900 to 43200",
        "t.toml:6:13: task[0].task_arn: task ARN must have the form",
        "t.toml:7:12: task[0].role_arn: must be a string, not an integer",
        "t.toml:8:19: task[0].credentials_id: credentials id must be 22 to 128 characters",
        "t.toml:9:21: task[0].tags.aws:x: tag may not begin with aws:",
        "t.toml:10:11: task[0].policy: policy must be JSON",
    ];
    assert_eq!(found.len(), begins.len(), "{found:#?}");
    for (fault, begin) in found.iter().zip(begins) {
        assert!(fault.starts_with(begin), "{begin} is not where it belongs in {found:#?}");
    }
}

#[test]
fn a_key_that_nobody_knows_is_told_with_those_that_are_and_with_where_it_belongs() {
    for text in [task("source = []"), "[defaults]\nsource = []".to_owned()] {
        assert!(faults(&text)[0].contains(", sources, "), "{:?}", faults(&text));
    }
    for key in section::TOP {
        let found = faults(&format!("{key} = []\n"));
        assert!(found.iter().all(|fault| !fault.contains("unknown key")), "{found:?}");
        for section in [task(""), "[sts]\n".to_owned()] {
            let found = faults(&format!("{section}\n{key} = []\n"));
            let says = format!("unknown key here; {key} stands at the top of the file, before the first [section]");
            assert!(found.iter().any(|fault| fault.contains(&says)), "{found:?}");
        }
    }
}

#[test]
fn the_link_local_address_is_asked_for_by_true_alone() {
    assert!(
        !parsed("").link_local && !parsed("link_local = false").link_local && parsed("link_local = true").link_local
    );
    assert!(faults("link_local = \"yes\"")[0].contains("link_local: must be true or false"));
}

#[test]
fn port_0_is_another_one_each_time() {
    assert_eq!(parsed("listen = [\"127.0.0.1:0\", \"127.0.0.1:0\", \"[::1]:0\"]").listen.len(), 3);
}

#[test]
fn no_fault_shows_a_secret() {
    let secret = "s3cret value";
    let text = task(&format!("credentials_id = \"{secret}\"\ntoken = \"{secret}\"\nprevious_token = \"{secret}\""));
    let found = faults(&text);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(!found.concat().contains(secret), "{found:#?}");
}

#[test]
fn what_contradicts_itself_is_a_fault() {
    for (text, fault) in [
        ("[[task]]\n".to_owned(), "task_arn is missing"),
        ("[[task]]\ntask_arn = \"arn:aws:ecs:us-west-2:111122223333:task/prod/t1\"".to_owned(), "needs a role_arn"),
        (task("execution_credentials_id = \"0d9e1c52-6a0b-4f0e-8f7e-6f2f5b1a9c33\""), "without execution_role_arn"),
        (task("token = \"a\"\ntoken_file = \"b\""), "both set"),
        (task("previous_token = \"a\""), "without token"),
        (task("") + "\n" + &task(""), "the same task as task[0].task_arn"),
        (task("tags = { \"ECS-Task-Arn\" = \"x\" }"), "ECS-Task-Arn is told from the task"),
        (task("tags = { \"ecs-service-name\" = \"x\" }"), "ecs-service-name is told from the task"),
        (task("tags = { a = \"x\", A = \"y\" }"), "may not hold a key twice"),
        (task("family = \"a;b\""), "task[0].family: tag value may only hold"),
        ("[[task]]\nexternal_id = \"x\"".to_owned(), "task_arn is missing"),
        ("[[task]]\nexternal_id = \"x\"".to_owned(), "external_id: external id must be 2 to"),
        ("[[task]]\ntask_arn = \"x\"\nfamily = \"a;b\"".to_owned(), "task[0].family"),
        (task("tags = { a = \"b\" }\nsession_tags = \"off\""), "keep one"),
        (task("token_file = \"/nonexistent\""), "/nonexistent"),
        (task("token_required = \"always\""), "there is no token"),
        (format!("[defaults]\ntoken_required = \"always\"\n{}", task("")), "there is no token"),
        ("listen = [127.0.0.1:1]".to_owned(), "in \"quotes\""),
        (task("sources = [\"10.0.0.1/8\"]"), "task[0].sources[0]: source has bits behind its prefix; 10.0.0.0/8"),
        (task("token_required = \"sometimes\""), "must be \"loopback\" or \"always\""),
        ("listen = [\"[::1]:1\", \"[::1]:0\", \"[::1]:1\"]".to_owned(), "listen[2]: [::1]:1 is there already"),
        ("listen = \"127.0.0.1:1\"".to_owned(), "must be a list, not a string"),
        ("allowed_hosts = [\"0.0.0.0\"]".to_owned(), "never an allowed Host"),
        ("allowed_hosts = [\"a:80\"]".to_owned(), "without a port"),
        ("a = ".to_owned(), "not TOML"),
        ("max_tasks = 0".to_owned(), "max_tasks: must be 1 to 100000"),
        ("[task]\ntask_arn = \"x\"".to_owned(), "task: must be a list, not a table; write [[task]]"),
        (
            "[admin]\nsocket = \"/x\"\n[admin.allow]\nuid = 1".to_owned(),
            "admin.allow: must be a list, not a table; write [[admin.allow]]",
        ),
        (task("sources = [\"docker0\"]"), "as interface:docker0, or a network namespace, as netns:/run/netns/web"),
        ("[admin]".to_owned(), "admin: socket is missing"),
        ("[admin]\nsocket = \"/x\"\n[[admin.allow]]\nuid = 1".to_owned(), "a rule names a uid and its role_arns"),
        ("[[admin.allow]]\nuid = 1\nrole_arns = [\"*\"]".to_owned(), "admin.allow[0].role_arns[0]: must be an ARN"),
        ("[[admin.allow]]\nuid = 1\n[[admin.allow]]\nuid = 1".to_owned(), "a second rule for uid 1"),
        ("[audit]".to_owned(), "audit: file or ecs_file is missing"),
        ("[audit]\nfile = \"/a\"\necs_file = \"/a\"".to_owned(), "are the same, or one is"),
        ("[audit]\nfile = \"stdout\"\necs_file = \"stdout\"".to_owned(), "are both standard output"),
        ("[audit]\nfile = \"/a.log\"\necs_file = \"/a.log.1\"".to_owned(), "file and ecs_file are the same"),
        ("[audit]\nfile = \"/a.log\"\necs_file = \"/./a-refused.log\"".to_owned(), "the file of the refusals"),
        ("[audit]\nfile = \"/a.log\"\necs_file = \"/a-refused.log.2\"".to_owned(), "the file of the refusals"),
        ("[audit]\nfile = \"/a\"\ncontainer_instance_arn = \"arn: x\"".to_owned(), "must be an ARN"),
        ("[state]\nsessions = \"disk\"".to_owned(), "state.sessions: must be \"service-manager\""),
    ] {
        let found = faults(&text);
        assert!(found.iter().any(|found| found.contains(fault)), "{fault} is not in {found:?}");
    }
    let twice = "credentials_id = \"0d9e1c52-6a0b-4f0e-8f7e-6f2f5b1a9c33\"\nexecution_role_arn = \"arn:aws:iam::111122223333:role/x\"\n\
                 execution_credentials_id = \"0d9e1c52-6a0b-4f0e-8f7e-6f2f5b1a9c33\"";
    assert!(faults(&task(twice))[0].contains("the same id as task[0].credentials_id"));
}

#[test]
fn defaults_hold_for_every_task_that_does_not_say_otherwise() {
    let config = parsed(&format!(
        "[defaults]\nduration_seconds = 7200\nregion = \"eu-west-1\"\nexternal_id = \"ext\"\ntags = {{ team = \"a\", stage = \"b\" }}\n{}",
        task("duration_seconds = 3600\ntags = { Team = \"own\" }")
    ));
    let spec = &config.tasks[0].spec;
    assert_eq!(spec.duration.seconds(), 3600);
    assert_eq!(spec.region.as_ref().unwrap().as_str(), "eu-west-1");
    assert_eq!(spec.external_id.as_ref().unwrap().as_str(), "ext");
    let own: Vec<_> =
        spec.tags.iter().filter(|tag| !tag.key().starts_with("ecs-")).map(|tag| (tag.key(), tag.value())).collect();
    assert_eq!(own, [("Team", "own"), ("stage", "b")]);
}

#[test]
fn a_session_policy_narrows_the_task_role_only() {
    let config = parsed(&task(
        "execution_role_arn = \"arn:aws:iam::111122223333:role/x\"\npolicy = '{\"Statement\":[]}'\npolicy_arns = [\"arn:aws:iam::aws:policy/ReadOnlyAccess\"]",
    ));
    assert!(config.tasks[0].spec.policy.is_some() && config.tasks[0].spec.policy_arns.len() == 1);
    assert!(config.tasks[1].spec.policy.is_none() && config.tasks[1].spec.policy_arns.is_empty());
}

#[test]
fn the_admin_socket_has_a_rule_for_each_user() {
    let config = parsed(
        "[admin]\nsocket = \"/run/x.sock\"\ngid = 7\n[[admin.allow]]\nuid = 1000\nmax_tasks = 5\n\
         role_arns = [\"arn:aws:iam::111122223333:role/ci-*\"]\n[state]\ndir = \"/s\"\nsessions = \"runtime-dir\"",
    );
    let admin = config.admin.unwrap();
    assert_eq!((admin.gid, admin.rules.len(), admin.rules[0].max_tasks), (Some(7), 1, 5));
    let role = |name: &str| taskcreds_core::RoleArn::new(format!("arn:aws:iam::111122223333:role/{name}")).unwrap();
    assert!(admin.rules[0].allows_role(&role("ci-build")) && !admin.rules[0].allows_role(&role("web")));
    assert_eq!((config.state.sessions, config.state.dir), (KeepSessions::RuntimeDir, Some("/s".into())));
    assert!(config.warnings.is_empty());
}

#[test]
fn ids_that_are_not_given_are_random_and_listed() {
    let (one, two) = (parsed(&task("")), parsed(&task("")));
    assert_eq!(one.made_ids.len(), 1);
    assert_eq!(one.made_ids[0].id.expose(), one.tasks[0].id.expose());
    assert_ne!(one.made_ids[0].id.expose(), two.made_ids[0].id.expose());
}

#[test]
fn session_tags_can_be_off_and_short_sessions_are_warned_of() {
    let config = parsed(&task("session_tags = \"off\"\nduration_seconds = 900"));
    assert!(config.tasks[0].spec.tags.is_empty());
    assert!(config.warnings[0].contains("900 s"), "{:?}", config.warnings);
}

#[test]
fn nothing_panics_on_a_file_cut_at_any_byte() {
    for end in 0..ISSUE.len() {
        let _ = Config::parse("t.toml", &ISSUE[..end], Path::new("."));
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_others_may_write_is_refused_and_one_they_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taskcreds.toml");
    std::fs::write(&file, ISSUE).unwrap();
    for (mode, refused, warned) in [(0o600, false, false), (0o644, false, true), (0o666, true, false)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        match Config::load(&file) {
            Ok(config) => assert_eq!((false, warned), (refused, !config.warnings.is_empty())),
            Err(error) => assert!(refused, "{error}"),
        }
    }
    // In a folder where everybody could replace it.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(Config::load(&file).unwrap_err().to_string().contains("everybody can replace it"));
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(Config::load(&file).is_ok());
}

#[test]
fn emulated_roles_have_their_faults_told_with_the_others() {
    let role = |more: &str| format!("[[emulated_role]]\nrole_arn = \"arn:aws:iam::111122223333:role/web\"\n{more}");
    let policy = r#"trust_policy = '{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}}'"#;
    let config = parsed(&role(&format!("{policy}\ntags = {{ stage = \"live\" }}\nmax_session_duration = 7200\n")));
    let [web] = &config.emulated_roles[..] else { panic!("one role") };
    assert_eq!(
        (web.arn.as_str(), web.max_session_duration, web.tags.len()),
        ("arn:aws:iam::111122223333:role/web", 7200, 1)
    );
    assert!(web.trust_policy.is_some());
    let bad = policy.replace("\"*\"", "{\"AWS\":\"me\"}").replace("Effect", "effect");
    let found = faults(&format!(
        "{}\n{bad}\ntrust_policy_file = \"none.json\"\nmax_session_duration = 60\nname = 1\n[[emulated_role]]\n",
        role("")
    ));
    for says in [
        "emulated_role[0]: trust_policy and trust_policy_file are both set",
        "emulated_role[0].trust_policy: Statement[0]: has an unknown element `effect`; written Effect",
        "Statement[0].Principal.AWS: `me` is no principal",
        "emulated_role[0].trust_policy_file: ./none.json: ",
        "emulated_role[0].max_session_duration: must be 3600 to 43200",
        "emulated_role[0].name: unknown key",
        "emulated_role[1]: role_arn is not set",
    ] {
        assert!(found.iter().any(|fault| fault.contains(says)), "{says}: {found:#?}");
    }
}

#[test]
fn the_network_is_looked_after_only_where_that_is_asked_for() {
    let text = "[network]\nmanage = true\nbridges = [\"br0\"]\nnat = true\ninterfaces = [\"br0\", \"lo\"]\n";
    let expected = Network {
        interfaces: vec!["br0".to_owned(), "lo".to_owned()],
        manage: Some(Manage { bridges: vec!["br0".to_owned()], nat: true, ipv6: false }),
    };
    assert_eq!(parsed(text).network, expected);
    assert_eq!(parsed("").network, Network::default());
    let faults = faults("[network]\nnat = true\ninterfaces = [\"a b\", \"docker0\"]\nbridges = [\"lo\"]\n");
    assert_eq!(faults.len(), 3, "{faults:?}");
    for part in
        ["network.interfaces[0]: must be the name of a bridge", "network.bridges[0]: must be", "are for manage = true"]
    {
        assert!(faults.iter().any(|fault| fault.contains(part)), "{part}: {faults:?}");
    }
}
