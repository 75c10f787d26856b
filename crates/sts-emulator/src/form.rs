//! A form gives every parameter once, decoded, or it is refused: nothing is guessed and nothing panics.
//!
//! The AWS query protocol writes a list as `Tags.member.1.Key=a&Tags.member.1.Value=b`, and an empty list as `Tags=`.

use std::collections::BTreeMap;

use crate::error::Error;

/// The parameters of one request, by name.
pub(crate) struct Form(BTreeMap<String, String>);

/// One element of a list: its fields by name; a plain text element has the one field `""`.
pub(crate) type Element<'a> = BTreeMap<&'a str, &'a str>;

impl Form {
    /// Reads `application/x-www-form-urlencoded` bytes. The content type is not looked at: what counts is the body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Error> {
        let mut parameters = BTreeMap::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            if parameters.insert(name, value).is_some() {
                // Which of the two AWS would take is not documented, so a test must not come to depend on it.
                return Err(malformed("A parameter is given twice. Send each parameter once."));
            }
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter that is not a list.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The elements of a list in the order of their numbers. Numbers may have gaps; a list that is absent is empty.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<Element<'_>>, Error> {
        if self.text(name).is_some_and(|value| !value.is_empty()) {
            return Err(not_a_list(name));
        }
        let prefix = format!("{name}.");
        let mut elements: BTreeMap<u32, Element<'_>> = BTreeMap::new();
        let members = self.0.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        for (key, value) in members {
            let (number, field) = member(key, &prefix).ok_or_else(|| not_a_list(name))?;
            elements.entry(number).or_default().insert(field, value);
        }
        Ok(elements.into_values().collect())
    }
}

/// Splits `Tags.member.1.Key` into 1 and `Key`.
fn member<'a>(key: &'a str, prefix: &str) -> Option<(u32, &'a str)> {
    let rest = key.strip_prefix(prefix)?.strip_prefix("member.")?;
    let (number, field) = rest.split_once('.').unwrap_or((rest, ""));
    // `parse` alone would take "+1".
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|number| digits && *number > 0)?;
    Some((number, field))
}

fn decode(text: &[u8]) -> Result<String, Error> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = bytes.next().and_then(hex_digit);
                let low = bytes.next().and_then(hex_digit);
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(malformed("A % in the form is not followed by two hexadecimal digits."));
                };
                high * 16 + low
            }
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| malformed("The form is not UTF-8 text."))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn malformed(message: &str) -> Error {
    Error::MalformedInput(message.to_owned())
}

fn not_a_list(name: &str) -> Error {
    Error::MalformedInput(format!("{name} is not a list. Write its elements as {name}.member.1, {name}.member.2, …"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_and_percent_are_decoded() {
        let form = Form::parse(b"Action=Assume+Role&Arn=a%3Ab%2fc&Empty=&&Bare").unwrap();
        assert_eq!(form.text("Action"), Some("Assume Role"));
        assert_eq!(form.text("Arn"), Some("a:b/c"));
        assert_eq!(form.text("Empty"), Some(""));
        assert_eq!(form.text("Bare"), Some(""));
        assert_eq!(form.text("Missing"), None);
    }

    #[test]
    fn broken_forms_are_refused() {
        for body in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=%+1", b"a=\xff", b"a=%ff", b"a=1&a=2", b"=&="] {
            assert!(matches!(Form::parse(body), Err(Error::MalformedInput(_))), "{body:?}");
        }
    }

    #[test]
    fn list_elements_are_ordered_by_number() {
        let form = Form::parse(b"T.member.10=c&T.member.2=b&T.member.1=a&Tx.member.1=no&E=").unwrap();
        let elements: Vec<_> = form.list("T").unwrap().iter().map(|element| element[""]).collect();
        assert_eq!(elements, ["a", "b", "c"]);
        assert!(form.list("E").unwrap().is_empty());
        assert!(form.list("Absent").unwrap().is_empty());
    }

    #[test]
    fn things_that_are_not_lists_are_refused() {
        for body in ["T=a", "T.1=a", "T.member=a", "T.member.0=a", "T.member.+1=a", "T.member.x.Key=a", "T.member.=a"] {
            let form = Form::parse(body.as_bytes()).unwrap();
            assert!(matches!(form.list("T"), Err(Error::MalformedInput(_))), "{body}");
        }
    }
}
