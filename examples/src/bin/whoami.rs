//! Prints who AWS says the caller is, through the default credentials chain, as any application would.
//!
//! `taskcreds exec --emulate -- cargo run -p taskcreds-examples --bin whoami`

use aws_config::BehaviorVersion;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "a program that tells its user something")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = aws_config::load_defaults(BehaviorVersion::v2026_01_12()).await;
    let identity = aws_sdk_sts::Client::new(&config).get_caller_identity().send().await?;
    println!("{}", identity.arn().unwrap_or("nobody"));
    Ok(())
}
