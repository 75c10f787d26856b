//! Reading a TOML file so that every fault of it is told at once, each with its line, its column and its path.

use std::fmt;

use toml_span::Span;
use toml_span::value::{Table, Value, ValueInner};

/// The keys of the outermost table that are no sections: behind the first section they would be that section's.
pub(super) const TOP: [&str; 8] = [
    "listen",
    "link_local",
    "operations_listen",
    "hop_limit",
    "refuse_misrouted",
    "allowed_hosts",
    "max_tasks",
    "faults",
];

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `taskcreds.toml:12:3`.
    pub place: String,
    /// `task[0].role_arn`; empty for the file as a whole.
    pub path: String,
    /// What is wrong and what would be right. Never the value, which may be a secret.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}: {}", self.place, self.message),
            path => write!(f, "{}: {path}: {}", self.place, self.message),
        }
    }
}

/// All faults found so far, and the text that their places are told from.
pub(super) struct Faults<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    pub(super) found: Vec<(usize, Fault)>,
}

impl Faults<'_> {
    /// All faults in the order of the file.
    pub(super) fn in_order(&mut self) -> Vec<Fault> {
        self.found.sort_by_key(|(start, _)| *start);
        self.found.drain(..).map(|(_, fault)| fault).collect()
    }

    pub(super) fn add(&mut self, span: Span, path: impl Into<String>, message: impl fmt::Display) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let place = format!("{}:{line}:{column}", self.file);
        self.found.push((span.start, Fault { place, path: path.into(), message: message.to_string() }));
    }
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) span: Span,
    pub(super) path: String,
}

impl<T> Placed<T> {
    /// Parses the value at the border; a fault is noted and gives nothing.
    pub(super) fn parse<U, E: fmt::Display>(
        self,
        faults: &mut Faults<'_>,
        parse: impl FnOnce(T) -> Result<U, E>,
    ) -> Option<U> {
        parse(self.value).map_err(|error| faults.add(self.span, self.path, error)).ok()
    }
}

/// One table of the file. What is not taken from it is an unknown key.
pub(super) struct Section<'de> {
    path: String,
    span: Span,
    table: Table<'de>,
    known: Vec<&'static str>,
}

impl<'de> Section<'de> {
    pub(super) fn new(value: Placed<ValueInner<'de>>, faults: &mut Faults<'_>) -> Option<Self> {
        match value.value {
            ValueInner::Table(table) => Some(Self { path: value.path, span: value.span, table, known: Vec::new() }),
            other => {
                faults.add(value.span, value.path, format!("must be a table, not {}", article(other.type_str())));
                None
            }
        }
    }

    pub(super) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A fault of the table as a whole.
    pub(super) fn fault(&self, faults: &mut Faults<'_>, message: impl fmt::Display) {
        faults.add(self.span, self.path.clone(), message);
    }

    /// Whether a key is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn value(&mut self, key: &'static str) -> Option<Placed<ValueInner<'de>>> {
        self.known.push(key);
        let mut value = self.table.remove(key)?;
        Some(Placed { span: value.span, path: self.path(key), value: value.take() })
    }

    pub(super) fn string(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<Placed<String>> {
        string(self.value(key)?, faults)
    }

    pub(super) fn boolean(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<bool> {
        let value = self.value(key)?;
        match value.value {
            ValueInner::Boolean(value) => Some(value),
            other => wrong(value.span, value.path, "true or false", &other, faults),
        }
    }

    /// A whole number within limits.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        limits: std::ops::RangeInclusive<u32>,
        faults: &mut Faults<'_>,
    ) -> Option<u32> {
        let value = self.value(key)?;
        let (from, to) = (limits.start(), limits.end());
        match value.value {
            ValueInner::Integer(number) => match u32::try_from(number) {
                Ok(number) if limits.contains(&number) => Some(number),
                _ => {
                    faults.add(value.span, value.path, format!("must be {from} to {to}"));
                    None
                }
            },
            other => wrong(value.span, value.path, "a whole number", &other, faults),
        }
    }

    /// A list of strings.
    pub(super) fn strings(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<Vec<Placed<String>>> {
        let items = list(self.value(key)?, faults)?;
        Some(items.into_iter().filter_map(|item| string(item, faults)).collect())
    }

    /// A list of strings, each parsed; none where there is no list.
    pub(super) fn parsed_strings<T, E: fmt::Display>(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        let items = self.strings(key, faults).unwrap_or_default();
        items.into_iter().filter_map(|item| item.parse(faults, |text| parse(&text))).collect()
    }

    /// A table, as `[key]` writes it.
    pub(super) fn section(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<Self> {
        Self::new(self.value(key)?, faults)
    }

    /// A list of tables, as `[[key]]` writes them.
    pub(super) fn sections(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Vec<Section<'de>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        if matches!(value.value, ValueInner::Table(_)) {
            let message = format!("must be a list, not a table; write [[{}]]", value.path);
            faults.add(value.span, value.path, message);
            return Vec::new();
        }
        let Some(items) = list(value, faults) else { return Vec::new() };
        items.into_iter().filter_map(|item| Section::new(item, faults)).collect()
    }

    /// A table whose keys are the user's own, in the order of its keys.
    pub(super) fn strings_by_key(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
    ) -> Option<Vec<(String, Placed<String>)>> {
        let section = self.section(key, faults)?;
        let mut entries = Vec::new();
        for (name, mut value) in section.table {
            let path = format!("{}.{}", section.path, name.name);
            let placed = Placed { span: value.span, path, value: value.take() };
            entries.extend(string(placed, faults).map(|value| (name.name.into_owned(), value)));
        }
        Some(entries)
    }

    /// Every key that nobody has asked for is a fault.
    pub(super) fn finish(self, faults: &mut Faults<'_>) {
        let unknown: Vec<_> = self.table.keys().map(|key| (key.span, key.name.to_string())).collect();
        for (span, name) in unknown {
            let path = self.path(&name);
            let message = if !self.path.is_empty() && TOP.contains(&name.as_str()) {
                format!("unknown key here; {name} stands at the top of the file, before the first [section]")
            } else {
                format!("unknown key; the keys here are {}", self.known.join(", "))
            };
            faults.add(span, path, message);
        }
    }
}

fn list<'de>(value: Placed<ValueInner<'de>>, faults: &mut Faults<'_>) -> Option<Vec<Placed<ValueInner<'de>>>> {
    let Placed { value, span, path } = value;
    match value {
        ValueInner::Array(items) => Some(
            items
                .into_iter()
                .enumerate()
                .map(|(index, mut item)| Placed {
                    span: item.span,
                    path: format!("{path}[{index}]"),
                    value: item.take(),
                })
                .collect(),
        ),
        other => wrong(span, path, "a list", &other, faults),
    }
}

fn string(value: Placed<ValueInner<'_>>, faults: &mut Faults<'_>) -> Option<Placed<String>> {
    let Placed { value, span, path } = value;
    match value {
        ValueInner::String(text) => Some(Placed { value: text.into_owned(), span, path }),
        other => wrong(span, path, "a string", &other, faults),
    }
}

fn wrong<T>(span: Span, path: String, wanted: &str, found: &ValueInner<'_>, faults: &mut Faults<'_>) -> Option<T> {
    faults.add(span, path, format!("must be {wanted}, not {}", article(found.type_str())));
    None
}

fn article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// Reads a whole file into its outermost table.
pub(super) fn parse<'de>(text: &'de str, faults: &mut Faults<'_>) -> Option<Section<'de>> {
    match toml_span::parse(text) {
        Ok(mut root) => outermost(&mut root, faults),
        Err(error) => {
            faults.add(error.span, "", format!("not TOML: {error}; texts and addresses stand in \"quotes\""));
            None
        }
    }
}

fn outermost<'de>(root: &mut Value<'de>, faults: &mut Faults<'_>) -> Option<Section<'de>> {
    Section::new(Placed { span: root.span, path: String::new(), value: root.take() }, faults)
}
