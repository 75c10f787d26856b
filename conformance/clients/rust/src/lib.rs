//! What the clients have in common.

use std::{error::Error, future::Future, io::stdin};

/// Makes one call for each line of the input and prints its result. `call` gives the ARN, or none where it has no such thing.
pub async fn lines<F: Future<Output = Result<Option<String>, E>>, E: Error + 'static>(call: impl Fn() -> F) {
    for line in stdin().lines() {
        line.expect("the input is text");
        println!(
            "{}",
            match call().await {
                Ok(Some(arn)) => serde_json::json!({ "ok": true, "arn": arn }),
                Ok(None) => serde_json::json!({ "ok": true }),
                Err(error) => serde_json::json!({ "ok": false, "error": text(&error) }),
            }
        );
    }
}

/// An error and its causes in one line; of a long one the middle is left out.
fn text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    let text: Vec<char> = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().collect();
    if text.len() <= 4000 {
        return text.iter().collect();
    }
    [&text[..1998], &[' ', '…', ' '], &text[text.len() - 1998..]].concat().iter().collect()
}
