//! A client with object_store.

use object_store::{ObjectStore, aws::AmazonS3Builder};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let s3 = AmazonS3Builder::from_env()
        .with_endpoint(std::env::var("CONFORMANCE_S3").expect("CONFORMANCE_S3 is set"))
        .with_allow_http(true)
        .with_bucket_name("conformance")
        .build()
        .expect("the settings fit");
    taskcreds_conformance_rust::lines(async || s3.list_with_delimiter(None).await.map(|_| None)).await;
}
