//! Tips beside what clap says of a command line that it refuses: what another command has, and which variable a value came from.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

/// The same error, with our tips in place of clap's guesses where there are any.
pub(super) fn advised(mut error: Error, command: &Command) -> Error {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let tips = tips(&error, command, &arguments);
    if !tips.is_empty() {
        // The usage that clap shows is that of its guess.
        if error.remove(ContextKind::SuggestedArg).is_some() {
            error.remove(ContextKind::Usage);
        }
        let tips = tips.into_iter().map(StyledStr::from).collect();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

fn tips(error: &Error, command: &Command, arguments: &[String]) -> Vec<String> {
    use ErrorKind::{InvalidValue, MissingRequiredArgument, UnknownArgument, ValueValidation};
    let Some(asked) = arguments.iter().find_map(|argument| command.find_subcommand(argument)) else {
        return Vec::new();
    };
    let wrong = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(wrong)) => wrong.as_str(),
        _ => "",
    };
    let of_command = match (asked.get_name(), error.kind()) {
        ("dev", UnknownArgument) if wrong == "--emulate" => {
            Some("dev has the embedded STS unless --aws is given: leave --emulate out".to_owned())
        }
        ("exec", UnknownArgument) if wrong == "--aws" => {
            Some("exec uses your AWS account unless --emulate is given: leave --aws out".to_owned())
        }
        ("serve" | "check" | "dev", UnknownArgument) if !wrong.starts_with('-') => {
            Some(format!("the configuration file is given as --config {wrong}"))
        }
        ("serve", MissingRequiredArgument) => {
            Some("--admin-socket PATH needs no file: tasks are registered there".to_owned())
        }
        ("check", MissingRequiredArgument) if cfg!(target_os = "linux") => {
            Some("--network needs no file: it looks at the network of this machine".to_owned())
        }
        ("dev", ValueValidation) if wrong.starts_with("--listen ") => {
            Some("dev listens on loopback, as 127.0.0.1:8080 or [::1]:8080, and on 169.254.170.2:80".to_owned())
        }
        _ => None,
    };
    let is_of_value = matches!(error.kind(), InvalidValue | ValueValidation);
    let variable = is_of_value.then(|| variable(wrong, [asked, command], arguments)).flatten();
    of_command.into_iter().chain(variable.map(|name| format!("the value is that of the variable {name}"))).collect()
}

/// The variable that the value of a flag has come from, where the flag itself is not given. `shown` is as `--listen <ADDR:PORT>`.
fn variable(shown: &str, commands: [&Command; 2], arguments: &[String]) -> Option<String> {
    let flag = shown.split([' ', '[', '=']).next()?;
    if arguments.iter().any(|argument| argument.split('=').next() == Some(flag)) {
        return None;
    }
    let mut all = commands.into_iter().flat_map(Command::get_arguments);
    let arg = all.find(|arg| arg.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long)))?;
    Some(arg.get_env()?.to_string_lossy().into_owned())
}
