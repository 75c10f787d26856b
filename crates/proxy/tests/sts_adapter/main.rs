//! The STS adapter against an STS that answers what a test tells it to, and against the embedded one: what is asked,
//! what an answer means, how often and how long it asks, and where its own credentials come from.

#[cfg(test)]
mod base_credentials;
#[cfg(test)]
mod canned;
#[cfg(test)]
mod child;
#[cfg(test)]
mod durations;
#[cfg(test)]
mod embedded;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod replies;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod silence;
