//! The values of conditions that are more than text: numbers, times, addresses. None for text that is not one.

use std::net::IpAddr;

use ipnet::IpNet;
use time::{Date, Month};

/// A whole or decimal number.
pub(super) fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && digits.starts_with(|c: char| c.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// Milliseconds since 1970 of an ISO 8601 date (`2026`, `2026-11`, `2026-11-25`, `2026-11-25T12:00Z`, `…T12:00:00.5+01:00`), or of a
/// number of seconds since 1970.
pub(super) fn time(text: &str) -> Option<i64> {
    if text.len() > 4 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<i64>().ok()?.checked_mul(1000);
    }
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    let mut parts = date.split('-').map(digits);
    let (year, month, day) = (parts.next()??, parts.next().unwrap_or(Some(1))?, parts.next().unwrap_or(Some(1))?);
    let is_whole = parts.next().is_none() && date.get(..4).is_some_and(|year| digits(year).is_some());
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let day = Date::from_calendar_date(year.try_into().ok()?, month, day.try_into().ok()?).ok()?;
    let of_day = if let Some(time) = time { time_of_day(time)? } else { 0 };
    is_whole.then(|| day.midnight().assume_utc().unix_timestamp() * 1000 + of_day)
}

/// `12:00Z`, `12:00:00.25-08:00`; the zone is not optional.
fn time_of_day(text: &str) -> Option<i64> {
    let zone = text.find(['Z', '+', '-'])?;
    let (clock, zone) = text.split_at_checked(zone)?;
    let offset = match zone {
        "Z" => 0,
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let minutes = digits(hours)? * 60 + digits(minutes)?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let mut parts = clock.split(':');
    let (hours, minutes) = (digits(parts.next()?)?, digits(parts.next()?)?);
    let seconds = parts.next().map_or(Some(0.0), number)?;
    let sound = parts.next().is_none() && hours < 24 && minutes < 60 && seconds < 61.0;
    #[expect(clippy::cast_possible_truncation, reason = "less than 61,000")]
    let milliseconds = (seconds * 1000.0) as i64;
    sound.then_some((hours * 60 + minutes - offset) * 60_000 + milliseconds)
}

fn digits(text: &str) -> Option<i64> {
    text.parse().ok().filter(|_| text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Addresses: `203.0.113.0/24`, `2001:db8::/32`, and a bare address, which is a network of one. Bits behind the prefix do not count.
pub(super) fn network(text: &str) -> Option<IpNet> {
    // In two parts: ipnet's own parser takes `010.0.0.0`, which the standard library refuses, as some read it as octal.
    let Some((address, bits)) = text.split_once('/') else { return text.parse::<IpAddr>().ok().map(IpNet::from) };
    IpNet::new(address.parse().ok()?, digits(bits)?.try_into().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_8601_or_seconds() {
        for (text, milliseconds) in [
            ("1970", Some(0)),
            ("1970-02", Some(31 * 86_400_000)),
            ("1970-01-02", Some(86_400_000)),
            ("1969-12-31T23:59:59Z", Some(-1000)),
            ("2000-02-29T12:30Z", Some(951_827_400_000)),
            ("2026-11-25T04:30:00Z", Some(1_795_581_000_000)),
            ("2026-11-25T05:30:00+01:00", Some(1_795_581_000_000)),
            ("2026-11-24T20:30:00.250-08:00", Some(1_795_581_000_250)),
            ("1795581000", Some(1_795_581_000_000)),
            ("0000-01-01", Some(-62_167_219_200_000)),
            ("9999-12-31T23:59:59.999Z", Some(253_402_300_799_999)),
            ("2026-13-01", None),
            ("2026-00-01", None),
            ("2026-01-00", None),
            ("2026-02-31", None),
            ("2026-02-29T00:00Z", None),
            ("1900-02-29", None),
            ("2026-11-31", None),
            ("20261-01-01", None),
            ("2026-11-25T04:30:00", None),
            ("2026-11-25T24:00Z", None),
            ("tomorrow", None),
            ("", None),
            ("-1", None),
        ] {
            assert_eq!(time(text), milliseconds, "{text}");
        }
    }

    #[test]
    fn numbers_are_whole_or_decimal() {
        assert_eq!([number("10"), number("-2.5"), number("+1")], [Some(10.0), Some(-2.5), Some(1.0)]);
        for text in ["", "1e3", "inf", "NaN", ".5", "0x10", "1 "] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        for (network, address, holds) in [
            ("203.0.113.0/24", "203.0.113.255", true),
            ("203.0.113.7/24", "203.0.113.1", true),
            ("203.0.113.0/24", "203.0.114.0", false),
            ("203.0.113.7", "203.0.113.7", true),
            ("203.0.113.7", "203.0.113.8", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("::/0", "::1", true),
            ("0.0.0.0/0", "::ffff:1.2.3.4", false),
            ("2001:db8::1/32", "2001:db8:ffff::1", true),
        ] {
            assert_eq!(
                super::network(network).unwrap().contains(&address.parse::<IpAddr>().unwrap()),
                holds,
                "{network} {address}"
            );
        }
        for text in [
            "203.0.113.0/33",
            "::/129",
            "203.0.113",
            "",
            "x/8",
            "203.0.113.*",
            "1.2.3.4/",
            "203.0.113.0/+8",
            "010.0.0.0/8",
        ] {
            assert_eq!(network(text), None, "{text}");
        }
    }
}
