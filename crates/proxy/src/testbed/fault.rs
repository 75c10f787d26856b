//! One fault in words: the same in a flag, in a file and over the control interface.
//!
//! `TARGET:WORD[=VALUE][,WORD[=VALUE]]…`. The target is a task of the credentials endpoint, by its name or its task id; `*` is
//! every task. `sts` is every role at the embedded STS, `sts/ROLE` one of them. All that is wrong with a text is told at once.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use taskcreds_core::Task;
use taskcreds_sts_emulator::Effect;

/// Every word, as it is told to who has used another one.
const WORDS: &str = "status=N (with code=, message=), delay=TIME, hang, drop, truncated, malformed, missing=FIELD, wrong-type=FIELD, \
                     expired, short=SECONDS, skew=SECONDS, throttling, access-denied, rotate, expire, times=N";
/// Those that stand with a value.
const WITH_VALUES: [&str; 9] =
    ["status", "code", "message", "delay", "missing", "wrong-type", "short", "skew", "times"];
/// The fields of an answer of the credentials endpoint.
const FIELDS: [&str; 5] = ["RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"];
/// The elements of STS's answer that a client reads.
const ELEMENTS: [&str; 6] = ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "AssumedRoleId", "Arn"];
/// Longer than any client waits.
const LONGEST_DELAY: Duration = Duration::from_secs(600);
/// The longest text of a fault, in bytes.
const MAX_TEXT: usize = 1024;

/// What is to go wrong, where and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub target: Target,
    /// How much later than usual the answer begins.
    pub delay: Duration,
    /// What is wrong beside that.
    pub wrong: Option<Wrong>,
    /// How often, counted where it is met; none: until it is cleared.
    pub times: Option<NonZeroU32>,
    text: String,
}

/// Whose answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Those of the credentials endpoint: of one task, or of all.
    Task(Option<String>),
    /// Those of the embedded STS: of one role, or of all.
    Sts(Option<String>),
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The answer.
    Answer(Effect),
    /// The session is a new one, which is loaded before the answer.
    Rotate,
    /// The session is ended at STS as soon as it is answered.
    Expire,
}

impl Fault {
    /// Whether it is for this task's answers.
    #[must_use]
    pub fn is_for(&self, task: &Task) -> bool {
        matches!(&self.target, Target::Task(name) if name.as_deref().is_none_or(|name| is_called(task, name)))
    }

    /// Whether it is for the embedded STS's answers to this role.
    #[must_use]
    pub fn is_for_role(&self, role_arn: &str) -> bool {
        let name = role_arn.rsplit('/').next();
        matches!(&self.target, Target::Sts(role) if role.is_none() || role.as_deref() == name)
    }

    /// Whether it changes a good answer, and does nothing to another one: only where there was a good one, it was met.
    pub(super) fn is_of_good_answers(&self) -> bool {
        match &self.wrong {
            Some(Wrong::Answer(Effect::Skew(_))) => matches!(self.target, Target::Task(_)),
            Some(Wrong::Answer(effect)) => effect.is_of_good_answers(),
            Some(Wrong::Expire) => true,
            Some(Wrong::Rotate) | None => false,
        }
    }

    /// Whether this is its target, in its words.
    pub(super) fn is_at(&self, target: &str) -> bool {
        self.text.split(':').next() == Some(target)
    }

    /// In the embedded STS's own terms.
    pub(super) fn at_sts(&self) -> taskcreds_sts_emulator::Fault {
        let effect = match &self.wrong {
            Some(Wrong::Answer(effect)) => Some(effect.clone()),
            _ => None,
        };
        taskcreds_sts_emulator::Fault { delay: self.delay, effect, told: self.text.clone() }
    }
}

/// What a task is called: its family, which `dev` takes from `--role NAME=ARN`, else its role's name.
#[must_use]
pub fn name_of(task: &Task) -> &str {
    let family = task.spec().tags.iter().find(|tag| tag.key() == "ecs-task-family");
    family.map_or_else(|| task.spec().role_arn.name(), taskcreds_core::SessionTag::value)
}

/// Whether a task goes by this name, or has this task id.
#[must_use]
pub fn is_called(task: &Task, name: &str) -> bool {
    name_of(task) == name || task.arn().task_id().as_str() == name
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Everything that is wrong with the text of a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct InvalidFault(pub Vec<String>);

/// Parses several texts.
///
/// # Errors
/// Everything that is wrong with any of them.
pub fn parse_all(texts: &[String]) -> Result<Vec<Fault>, InvalidFault> {
    let (mut faults, mut wrong) = (Vec::new(), Vec::new());
    for text in texts {
        match text.parse() {
            Ok(fault) => faults.push(fault),
            Err(InvalidFault(all)) => wrong.extend(all),
        }
    }
    if wrong.is_empty() { Ok(faults) } else { Err(InvalidFault(wrong)) }
}

impl FromStr for Fault {
    type Err = InvalidFault;

    fn from_str(text: &str) -> Result<Self, InvalidFault> {
        let mut reading = Reading::default();
        if text.len() > MAX_TEXT || text.contains(char::is_control) {
            return Err(InvalidFault(vec![format!("a fault is one line of at most {MAX_TEXT} bytes")]));
        }
        let (target, words) = text.split_once(':').unwrap_or(("", text));
        let target = reading.target(target);
        reading.words(words, &target);
        let Reading { effect, code, message, delay, times, rotate, expire, mut wrong, .. } = reading;
        let effect = match effect {
            Some(Effect::Status { status, .. }) => Some(Effect::Status { status, code, message }),
            effect => {
                if code.is_some() || message.is_some() {
                    wrong.push("`code` and `message` go with `status`".to_owned());
                }
                effect
            }
        };
        let whats = [effect.map(Wrong::Answer), rotate.then_some(Wrong::Rotate), expire.then_some(Wrong::Expire)];
        let mut whats = whats.into_iter().flatten();
        let what = whats.next();
        if whats.next().is_some() {
            wrong
                .push("one fault is one thing: give two faults for two (delay and times go with every one)".to_owned());
        }
        if what.is_none() && delay.is_none() && wrong.is_empty() {
            wrong.push(format!("it says nothing that goes wrong; the words are {WORDS}"));
        }
        if !wrong.is_empty() && text.contains(';') {
            wrong.push(
                "`;` separates faults in --fault and TASKCREDS_FAULTS alone: elsewhere give each by itself".to_owned(),
            );
        }
        if !wrong.is_empty() {
            return Err(InvalidFault(wrong.into_iter().map(|why| format!("fault `{text}`: {why}")).collect()));
        }
        Ok(Self { target, delay: delay.unwrap_or_default(), wrong: what, times, text: text.to_owned() })
    }
}

/// What has been read of a text so far.
#[derive(Default)]
struct Reading {
    effect: Option<Effect>,
    code: Option<String>,
    message: Option<String>,
    delay: Option<Duration>,
    times: Option<NonZeroU32>,
    rotate: bool,
    expire: bool,
    said: Vec<String>,
    wrong: Vec<String>,
}

impl Reading {
    fn target(&mut self, target: &str) -> Target {
        let is_name = |name: &str| {
            (1..=255).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+=,.@".contains(&b))
        };
        match target {
            "*" => Target::Task(None),
            "sts" => Target::Sts(None),
            _ => match target.strip_prefix("sts/") {
                Some(role) if is_name(role) => Target::Sts(Some(role.to_owned())),
                None if is_name(target) => Target::Task(Some(target.to_owned())),
                _ => {
                    let why = "it begins with its target and a colon: a task's name, * for every task, sts or sts/ROLE for the embedded \
                               STS; as in web:status=503,times=2";
                    self.wrong.push(why.to_owned());
                    Target::Task(None)
                }
            },
        }
    }

    fn words(&mut self, words: &str, target: &Target) {
        let mut rest = Some(words);
        while let Some(words) = rest {
            // A message may have commas in it, and so is the last.
            let (word, more) = match words.split_once(',') {
                Some((word, more)) if !words.starts_with("message=") => (word, Some(more)),
                _ => (words, None),
            };
            rest = more;
            let (word, value) = word.split_once('=').map_or((word, None), |(word, value)| (word, Some(value)));
            if self.said.iter().any(|said| said == word) {
                self.wrong.push(format!("`{word}` is said twice"));
                continue;
            }
            self.said.push(word.to_owned());
            self.word(word, value, target);
        }
    }

    fn word(&mut self, word: &str, value: Option<&str>, target: &Target) {
        let at_sts = matches!(target, Target::Sts(_));
        let fields: &[&str] = if at_sts { &ELEMENTS } else { &FIELDS };
        match (word, value) {
            ("status", Some(value)) => match value.parse() {
                Ok(status @ 400..=599) => self.effect(Effect::Status { status, code: None, message: None }),
                _ => self.wrong.push("`status` is 400 to 599".to_owned()),
            },
            ("code", Some(value)) if is_code(value) => self.code = Some(value.to_owned()),
            ("code", Some(_)) => self.wrong.push("`code` is letters, digits and dots".to_owned()),
            ("message", Some(value)) => {
                let swallowed = WITH_VALUES.iter().find(|word| value.contains(&format!(",{word}=")));
                if let Some(word) = swallowed {
                    self.wrong.push(format!(
                        "`message` comes last, all behind it is a part of it: put `{word}=` before it (or a space behind the comma)"
                    ));
                }
                self.message = Some(value.to_owned());
            }
            ("delay", Some(value)) => match humantime::parse_duration(value) {
                Ok(delay) if delay <= LONGEST_DELAY => self.delay = Some(delay),
                _ => self.wrong.push("`delay` is a time of at most 10min, as 300ms or 2s".to_owned()),
            },
            ("times", Some(value)) => match value.parse() {
                Ok(times) => self.times = Some(times),
                Err(_) => self.wrong.push("`times` is a whole number from 1 on".to_owned()),
            },
            ("missing" | "wrong-type", Some(field)) if !fields.contains(&field) => {
                self.wrong.push(format!("`{word}` is one of {}", fields.join(", ")));
            }
            ("missing", Some(field)) => self.effect(Effect::Missing(field.to_owned())),
            ("wrong-type", Some(field)) => self.effect(Effect::WrongType(field.to_owned())),
            ("short", Some(value)) => match value.parse() {
                Ok(seconds @ 1..=43_200) => self.effect(Effect::Short(seconds)),
                _ => self.wrong.push("`short` is 1 to 43200 seconds".to_owned()),
            },
            ("skew", Some(value)) => match value.parse() {
                Ok(seconds @ -31_536_000..=31_536_000) => self.effect(Effect::Skew(seconds)),
                _ => self
                    .wrong
                    .push("`skew` is a number of seconds, as 600 (fast) or -600 (slow), within a year".to_owned()),
            },
            ("hang", None) => self.effect(Effect::Hang),
            ("drop", None) => self.effect(Effect::Drop),
            ("truncated", None) => self.effect(Effect::Truncated),
            ("malformed", None) => self.effect(Effect::Malformed),
            ("expired", None) => self.effect(Effect::Expired),
            ("throttling", None) => self.effect(Effect::Throttling),
            ("access-denied", None) => self.effect(Effect::AccessDenied),
            ("rotate" | "expire", None) if at_sts => {
                self.wrong.push(format!("`{word}` is for a task: STS makes a new session for each call anyway"));
            }
            ("rotate", None) => self.rotate = true,
            ("expire", None) => self.expire = true,
            _ => self.wrong.push(format!(
                "`{word}` is no word here, or {} a value; the words are {WORDS}",
                match value {
                    Some(_) => "does not take",
                    None => "lacks",
                }
            )),
        }
    }

    fn effect(&mut self, effect: Effect) {
        if self.effect.is_some() {
            self.wrong
                .push("one fault is one thing: give two faults for two (delay and times go with every one)".to_owned());
        }
        self.effect = Some(effect);
    }
}

fn is_code(code: &str) -> bool {
    (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<String> {
        text.parse::<Fault>().unwrap_err().0
    }

    #[test]
    fn a_fault_is_read_and_told_in_the_same_words() {
        let text = "web:status=503,code=Own,delay=300ms,times=2,message=a, b: c=d";
        let fault: Fault = text.parse().unwrap();
        let message = Some("a, b: c=d".to_owned());
        assert_eq!(
            fault,
            Fault {
                target: Target::Task(Some("web".to_owned())),
                delay: Duration::from_millis(300),
                wrong: Some(Wrong::Answer(Effect::Status { status: 503, code: Some("Own".to_owned()), message })),
                times: NonZeroU32::new(2),
                text: text.to_owned(),
            }
        );
        assert_eq!(fault.to_string(), text);
    }

    #[test]
    fn every_word_has_its_place() {
        let answers = [
            ("hang", Effect::Hang),
            ("drop", Effect::Drop),
            ("truncated", Effect::Truncated),
            ("malformed", Effect::Malformed),
            ("missing=AccessKeyId", Effect::Missing("AccessKeyId".to_owned())),
            ("wrong-type=Expiration", Effect::WrongType("Expiration".to_owned())),
            ("expired", Effect::Expired),
            ("short=1", Effect::Short(1)),
            ("skew=-600", Effect::Skew(-600)),
            ("throttling", Effect::Throttling),
            ("access-denied", Effect::AccessDenied),
        ];
        for (words, effect) in answers {
            for (target, place) in [
                ("*", Target::Task(None)),
                ("a,b=c", Target::Task(Some("a,b=c".to_owned()))),
                ("sts", Target::Sts(None)),
                ("sts/web", Target::Sts(Some("web".to_owned()))),
            ] {
                let fault: Fault = format!("{target}:{words}").parse().unwrap();
                assert_eq!((fault.target, fault.wrong), (place, Some(Wrong::Answer(effect.clone()))), "{words}");
            }
        }
        assert_eq!("web:rotate,times=1".parse::<Fault>().unwrap().wrong, Some(Wrong::Rotate));
        assert_eq!("web:expire".parse::<Fault>().unwrap().wrong, Some(Wrong::Expire));
        assert_eq!("web:delay=2s".parse::<Fault>().unwrap().wrong, None);
        assert!("sts:missing=SessionToken".parse::<Fault>().is_ok() && "web:missing=Token".parse::<Fault>().is_ok());
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let told = wrong("a b:status=200,delay=x,times=0,missing=Secret,statu=5,code=%,short=0,skew=x,hang=1");
        assert_eq!(told.len(), 10, "{told:#?}");
        assert!(told.iter().all(|why| why.starts_with("fault `a b:status")));
        for text in [
            "",
            "web",
            "web:",
            ":hang",
            "web:code=A",
            "web:hang,hang",
            "web:hang,drop",
            "web:hang,rotate",
            "web:times=2",
        ] {
            assert!(!wrong(text).is_empty(), "{text}");
        }
        for text in ["sts:rotate", "sts:expire", "sts:missing=Token", "web:missing=SessionToken", "sts/:hang"] {
            assert_eq!(wrong(text).len(), 1, "{text}");
        }
        // What was meant to be a word is not to become a part of the message, and the fault without end.
        let swallowed = wrong("web:status=503,message=hello, times=2,times=2,delay=1s");
        assert_eq!(swallowed.len(), 1, "{swallowed:#?}");
        assert!(swallowed[0].contains("`message` comes last"), "{swallowed:#?}");
        assert!(wrong("web:hang;db:drop").iter().any(|why| why.contains("`;` separates faults")));
        let both = parse_all(&["web:hang=2".to_owned(), "web:hang".to_owned(), "drop".to_owned()]);
        assert_eq!(both.unwrap_err().to_string().lines().count(), 2);
    }
}
