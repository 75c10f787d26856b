//! A reply of STS, read by the SDK's deserializer of AssumeRole alone, without the client around it, which takes most of the time
//! of `sts_reply`.

#![no_main]

mod sts;

use std::sync::LazyLock;

use aws_sdk_sts::config::RuntimePlugin;
use aws_sdk_sts::error::SdkError;
use aws_sdk_sts::operation::assume_role::{AssumeRole, AssumeRoleError, AssumeRoleOutput};
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_types::config_bag::{ConfigBag, FrozenLayer};
use libfuzzer_sys::{Corpus, fuzz_target};

static OPERATION: LazyLock<FrozenLayer> = LazyLock::new(|| AssumeRole::new().config().unwrap());

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some(reply) = sts::reply(bytes) else { return Corpus::Reject };
    let deserializer = OPERATION.load::<SharedResponseDeserializer>().unwrap();
    let status = reply.status().as_u16();
    let asked = match deserializer.deserialize_nonstreaming_with_config(&reply, &ConfigBag::base()) {
        Ok(output) => Ok(output.downcast::<AssumeRoleOutput>().unwrap()),
        Err(error) => {
            let mut of_operation = None;
            let _ = error.map_operation_error(|error| of_operation = Some(error));
            Err(SdkError::service_error(of_operation.unwrap().downcast::<AssumeRoleError>().unwrap(), reply))
        }
    };
    sts::check(asked, status, bytes);
    Corpus::Keep
});
