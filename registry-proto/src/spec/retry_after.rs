//! `Retry-After` (RFC 9110 §10.2.3).

use std::time::Duration;

/// How long a reply asks to wait: seconds, or a date, which is read against the same reply's `Date` because the core has no
/// clock (and the server's is the one that was meant). `None` if it can't be read.
///
/// ```
/// use registry_proto::spec::retry_after;
/// use std::time::Duration;
///
/// assert_eq!(retry_after("5", None), Some(Duration::from_secs(5)));
/// let (then, now) = ("Sun, 06 Nov 1994 08:50:00 GMT", "Sun, 06 Nov 1994 08:49:37 GMT");
/// assert_eq!(retry_after(then, Some(now)), Some(Duration::from_secs(23)));
/// ```
pub fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if value.bytes().all(|b| b.is_ascii_digit()) && !value.is_empty() {
        // More digits than fit mean "never", which is clamped like any other wish.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let (then, now) = (seconds(value)?, seconds(date?)?);
    Some(Duration::from_secs(then.saturating_sub(now)))
}

/// Seconds since the year 0 of an IMF-fixdate, the only form that is still sent: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn seconds(date: &str) -> Option<u64> {
    let rest = date.trim().split_once(", ")?.1;
    let mut parts = rest.split(' ');
    let day: u64 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = parts.next()?.parse().ok()?;
    let mut clock = parts.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let sane = (1..=31).contains(&day) && (1..=9999).contains(&year) && hour < 24 && minute < 60 && second <= 60;
    if parts.next()? != "GMT" || !sane {
        return None;
    }
    // Days by the civil calendar, counted from a March so that leap days come last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn c90_a32_every_form() {
        let wait = |value, date| retry_after(value, date).map(|wait| wait.as_secs());
        assert_eq!(wait("999999999999999999999999", None), Some(u64::MAX));
        assert_eq!(wait("-5", None), None);
        assert_eq!(wait("soon", None), None);
        let date = Some("Mon, 28 Feb 2028 23:59:59 GMT");
        assert_eq!(wait("Tue, 29 Feb 2028 00:00:01 GMT", date), Some(2));
        assert_eq!(wait("Wed, 01 Mar 2028 00:00:00 GMT", date), Some(86_401));
        assert_eq!(wait("Fri, 01 Jan 1999 00:00:00 GMT", date), Some(0), "the past");
        assert_eq!(wait("Tue, 29 Feb 2028 00:00:01 GMT", None), None);
    }

    proptest! {
        #[test]
        fn never_panics(value in "\\PC{0,40}", date in "[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,19} [0-9:]{0,12} GMT") {
            let _ = retry_after(&value, Some(&date));
            let _ = retry_after(&date, Some(&date));
        }
    }
}
