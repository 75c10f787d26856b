//! A reply of STS, as the AWS SDK's client gets it from the network, is a session that can be served or a failure that tells
//! nothing of it.

#![no_main]

mod sts;

use std::cell::RefCell;
use std::sync::LazyLock;

use aws_sdk_sts::Client;
use aws_sdk_sts::config::http::{HttpRequest, HttpResponse};
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::{BehaviorVersion, Config, Credentials, Region, RuntimeComponents};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use libfuzzer_sys::{Corpus, fuzz_target};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static REPLY: RefCell<Option<HttpResponse>> = const { RefCell::new(None) };
}

/// The network: one reply to whatever is asked.
#[derive(Clone, Debug)]
struct Network;

impl HttpConnector for Network {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(Ok(REPLY.take().unwrap()))
    }
}

impl HttpClient for Network {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Self)
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());
static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new("AKIATESTTESTTESTTEST", "secret", None, None, "fuzz"))
        .http_client(Network)
        .retry_config(RetryConfig::disabled());
    Client::from_conf(config.build())
});

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some(reply) = sts::reply(bytes) else { return Corpus::Reject };
    let status = reply.status().as_u16();
    REPLY.set(Some(reply));
    let call = CLIENT.assume_role().role_arn("arn:aws:iam::111122223333:role/web").role_session_name("t1");
    sts::check(RUNTIME.block_on(call.send()), status, bytes);
    Corpus::Keep
});
