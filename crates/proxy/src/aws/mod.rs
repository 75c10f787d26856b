//! AWS: the STS client, what its errors mean, and where its own credentials come from.

mod base_credentials;
mod classify;
mod environment;
mod sts;

pub use environment::points_at_itself;
pub(crate) use environment::{IGNORE_ENDPOINTS, sts_endpoint};
#[doc(hidden)]
pub use sts::outcome;
pub use sts::{Base, Embedded, Sts, own_region_name};
