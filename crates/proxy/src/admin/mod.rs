//! The admin socket.
mod folder;
mod record;
pub mod store;
