//! An ordinary program under `taskcreds exec`, through the Rust SDK's whole default chain.

use std::path::Path;
use std::process::Command;

#[test]
fn an_ordinary_program_is_the_role_that_exec_gives_it() {
    let whoami = Path::new(env!("CARGO_BIN_EXE_whoami"));
    let taskcreds = whoami.with_file_name(format!("taskcreds{}", std::env::consts::EXE_SUFFIX));
    if !taskcreds.exists() {
        let why = format!("{} is not built: cargo test --workspace builds it", taskcreds.display());
        assert_ne!(std::env::var("TASKCREDS_TEST_REQUIRE").as_deref(), Ok("all"), "{why}");
        println!("skipped: {why}");
        return;
    }
    let mut exec = Command::new(taskcreds);
    exec.env_clear().env("AWS_EC2_METADATA_DISABLED", "true").args(["exec", "--emulate", "--"]).arg(whoami);
    let output = exec.output().unwrap();
    let (told, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{log}");
    assert!(told.starts_with("arn:aws:sts::111122223333:assumed-role/demo/"), "{told}{log}");
}
