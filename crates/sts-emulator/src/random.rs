//! Keys, secrets and tokens are uniformly random, from the operating system's generator.

use std::iter;

use uuid::Uuid;

/// The characters of access key ids and of the unique ids of users and roles.
pub(crate) const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// The characters of secrets and session tokens: nothing that JSON or XML would have to escape.
pub(crate) const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// `length` random characters. 32 and 64 divide 256, so no character is likelier than another.
pub(crate) fn text(alphabet: &[u8], length: usize) -> String {
    spell(alphabet, bytes()).take(length).collect()
}

/// Bytes written with the characters of an alphabet, one for each.
pub(crate) fn spell(alphabet: &[u8], bytes: impl Iterator<Item = u8>) -> impl Iterator<Item = char> {
    bytes.filter_map(|byte| alphabet.get(usize::from(byte) % alphabet.len()).map(|letter| char::from(*letter)))
}

fn bytes() -> impl Iterator<Item = u8> {
    iter::repeat_with(|| Uuid::new_v4().into_bytes()).flat_map(|uuid| {
        // Bytes 6 and 8 of a version 4 UUID hold its version and variant, which are not random.
        uuid.into_iter().enumerate().filter(|(index, _)| !matches!(index, 6 | 8)).map(|(_, byte)| byte)
    })
}
