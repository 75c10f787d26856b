//! One capture of everything that is written about a call fails on any secret in it.

use std::cell::RefCell;
use std::io::{self, Write};

use taskcreds_sts_emulator::Roles;
use tracing_subscriber::filter::LevelFilter;

use crate::harness::{ROLE, Sts, USER, encode};

thread_local! {
    /// What is logged on this thread. The other tests log into theirs, where nobody reads it.
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The server runs on the thread of the test, so all its events end up in the log of this thread. The subscriber is
/// global because tracing lets one for a thread miss events that another thread was the first to reach.
#[tokio::test(flavor = "current_thread")]
async fn no_secret_is_recorded_logged_or_printed() {
    tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(|| Log).init();

    let sts = Sts::start(Roles::Any).await;
    let key = sts.emulator.add_caller(USER).unwrap();
    let user = sts.caller(USER);
    let assume = encode(&[
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", ROLE),
        ("RoleSessionName", "task"),
        ("TokenCode", "271828"),
        ("Policy", r#"{"Statement":{"Sid":"policytext"}}"#),
    ]);
    let granted = assume.replace("TokenCode", "Ignored");
    let reply = sts.exchange(sts.signed(&user, &granted), granted).await;
    let text = |name| reply.element(name).unwrap().to_owned();
    let (secret, token) = (text("SecretAccessKey"), text("SessionToken"));
    let session =
        aws_credential_types::Credentials::new(text("AccessKeyId"), &secret, Some(token.clone()), None, "test");
    sts.exchange(sts.signed(&user, &assume), assume.clone()).await;
    let head = sts.signed(&session, &assume);
    let signature = head.split("Signature=").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
    sts.exchange(head.clone(), assume.clone()).await;
    sts.exchange(head.replace("SHA256", "SHA1"), assume.clone()).await;
    sts.advance(3600);
    sts.exchange(head, assume).await;

    let calls = sts.emulator.calls();
    assert_eq!(calls.len(), 5);
    assert_eq!(calls[0].outcome, "Success");
    let written = LOG.with_borrow(|log| String::from_utf8_lossy(log).into_owned());
    assert!(written.contains("STS request") && written.contains(&calls[0].request_id), "{written}");
    let printed = format!("{calls:?} {:?} {key:?} {:#?}", sts.emulator, sts.emulator);
    assert!(printed.contains(&key.access_key_id));
    let secrets =
        [user.secret_access_key(), &key.secret_access_key, &secret, &token, &signature, "271828", "policytext"];
    for secret in secrets {
        assert!(!written.contains(secret), "in the log: {written}");
        assert!(!printed.contains(secret), "in the record: {printed}");
    }
}
