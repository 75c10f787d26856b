//! A client with the AWS SDK for Rust.

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let sts = aws_sdk_sts::Client::new(&config);
    taskcreds_conformance_rust::lines(async || sts.get_caller_identity().send().await.map(|out| out.arn)).await;
}
