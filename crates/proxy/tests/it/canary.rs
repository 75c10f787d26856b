//! Every secret that a proxy can have, through every route and every kind of trouble that comes from outside, and then the search in
//! everything that it leaves. A panic is in the tests of src/telemetry.rs: nothing from outside causes one.
//!
//! Standard output and error are searched by the rig at the end of every process, with all logs at `trace`.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use taskcreds_sts_emulator::{Role, Roles};

use crate::http::{Connection, get, get_with_token};
use crate::operations::operations;
use crate::place::{Place, read, started};
use crate::rig;
use crate::secrets;
use crate::sts::Sts;
use crate::tasks::{Config, Task};

/// The kinds of secrets in all files below a folder.
fn found_below(folder: &Path) -> Vec<(String, Vec<secrets::Kind>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(found_below(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            let kinds = secrets::found_in(&String::from_utf8_lossy(&bytes), &[]);
            found.extend((!kinds.is_empty()).then(|| (path.display().to_string(), kinds)));
        }
    }
    found
}

#[test]
fn no_secret_is_in_anything_that_a_proxy_leaves_but_its_answers() {
    let [plain, with_token, denied] = [Task::new("plain"), Task::with_token("with-token"), Task::new("denied")];
    let (added, late) = (Task::without_id("added"), Task::without_id("late"));
    let known = [&plain, &with_token, &added, &late].map(|task| Role { arn: task.role_arn(), ..Role::default() });
    let (sts, place) = (Sts::with(Roles::Listed(known.into())), Place::new());
    let audit = place.folder.path().join("audit");
    let head = format!("[audit]\nfile = {:?}\necs_file = {:?}\n", audit.join("audit.log"), audit.join("ecs.log"));
    let config = Config::with(&head, &[plain.clone(), with_token.clone(), denied.clone()]);
    let file = config.file();
    // The proxy's own credentials come from a file: a variable would be in /proc by design.
    let start = place.start_with(rig::serve(config)).env("RUST_BACKTRACE", "full");
    let home = start.home().join(".aws");
    fs::create_dir(&home).unwrap();
    let key = &sts.key;
    let profile = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        key.access_key_id, key.secret_access_key
    );
    fs::write(home.join("credentials"), profile).unwrap();
    let environment = sts.environment().into_iter().filter(|(name, _)| !name.contains("ACCESS_KEY"));
    let proxy = started(start.envs(environment));
    let address = proxy.address();

    // Answers of every kind, asked with secrets in every part that a client controls.
    let (id, token) = (plain.id.clone().unwrap(), with_token.token.clone().unwrap());
    assert_eq!(get(address, &plain.path()).status, 200);
    assert_eq!(get_with_token(address, &with_token.path(), &token).status, 200);
    assert_eq!(get(address, &denied.path()).error().0, "AssumeRoleDenied");
    let heads = [
        format!("GET {} HTTP/1.1\r\nHost: x\r\nAuthorization: wrong-{token}\r\n\r\n", with_token.path()),
        format!("GET /v1/credentials?id={id}x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        format!("GET /v2/credentials/{id}/{token} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        format!("GET /{id} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        format!("POST /v2/credentials/{id} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        format!("GET {} HTTP/1.1\r\nHost: {token}\r\n\r\n", plain.path()),
        format!("GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\nVia: {token}\r\n\r\n", plain.path()),
        format!("GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}x\r\n\r\n", with_token.path()),
        format!("{id} {token}\r\n\r\n"),
    ];
    for head in &heads {
        let status = Connection::open(address).send(head).answer().status;
        assert!((400..500).contains(&status), "{status}");
    }
    // Registrations, refused ones included, with secrets where they do not belong.
    let added = place.add(&added, "--with-token");
    let own_token = added["token"].as_str().unwrap();
    for body in [
        serde_json::json!({ "taskArn": id, "roleArn": token, "token": own_token, "credentialsId": own_token, "policy": token }),
        serde_json::json!({ "tokenFile": id, "noSuchKey": token }),
        serde_json::json!({ "taskArn": added["taskArn"], "roleKind": token, "credentialsId": id }),
    ] {
        for path in ["/v1/tasks", "/v1/tasks/rotate", "/v1/tasks/revoke"] {
            assert!(place.post(path, &body).status >= 400);
        }
    }
    let rotated = place.task(&format!("rotate {}", added["taskArn"].as_str().unwrap()));
    let [path, new_token] = ["relativeUri", "token"].map(|key| rotated[key].as_str().unwrap());
    assert_eq!(get_with_token(address, path, new_token).status, 200);
    // Reloads, of a file with secrets in the wrong places and of a good one.
    let good = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        format!("{good}\n[[task]]\ntask_arn = \"{token}\"\ncredentials_id = \"{token}{token}{token}\"\nno_such_key = \"{id}\"\n"),
    )
    .unwrap();
    proxy.logs("the configuration was not reloaded");
    fs::write(&file, good).unwrap();
    proxy.signal(Signal::HUP);
    proxy.logs("configuration reloaded");

    // STS has gone.
    drop(sts);
    assert_eq!(read(&proxy, &place.add(&late, "")).status, 503);

    let metrics = get(operations(&proxy), "/metrics").body + &get(operations(&proxy), "/readyz").body;
    assert_eq!(secrets::found_in(&metrics, &[]), []);
    for name in ["cmdline", "environ", "status", "maps", "limits"] {
        let text = fs::read(format!("/proc/{}/{name}", proxy.id())).unwrap();
        assert_eq!(secrets::found_in(&String::from_utf8_lossy(&text), &[]), [], "{name}");
    }
    assert_eq!(proxy.end().code(), 0);
    let folders = [audit, place.state()];
    for folder in &folders {
        assert!(fs::read_dir(folder).unwrap().count() > 0);
        assert_eq!(found_below(folder), []);
    }
}
