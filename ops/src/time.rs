//! Points of event time as people write and read them: UTC.

use anyhow::{Result, bail};
use chrono::{DateTime, NaiveDate, NaiveDateTime};

/// A time in ms since 1970 UTC: RFC 3339, a date (its first moment, UTC), a date with a time (UTC),
/// or the ms themselves.
///
/// # Errors
/// Any other text.
pub fn parse(text: &str) -> Result<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Ok(time.and_utc().timestamp_millis());
        }
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis());
    }
    bail!("{text:?} is no time; write 2026-01-31, 2026-01-31T18:30:00Z, or ms since 1970")
}

/// `2026-01-31T18:30:00.000Z`; what no calendar holds, as ms.
pub fn show(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(|| format!("{ms} ms"), |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// A span of time in its two largest units: `2d 3h`, `1m 5s`, `250ms`.
pub fn span(ms: i64) -> String {
    const UNITS: [(&str, i64); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs() as i64;
    let Some(at) = UNITS.iter().position(|(_, size)| ms >= *size) else { return format!("{sign}{ms}ms") };
    let (unit, size) = UNITS[at];
    let rest = UNITS.get(at + 1).filter(|(_, smaller)| ms % size >= *smaller);
    let rest = rest.map_or_else(String::new, |(unit, smaller)| format!(" {}{unit}", ms % size / smaller));
    format!("{sign}{}{unit}{rest}", ms / size)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_it_shows_and_what_people_write() {
        let ms = 1_769_884_200_000;
        for text in ["2026-01-31T18:30:00Z", "2026-01-31 18:30", "2026-01-31T20:30:00+02:00", "1769884200000"]
        {
            assert_eq!(parse(text).unwrap(), ms, "{text}");
        }
        assert_eq!(parse(&show(ms + 7)).unwrap(), ms + 7);
        assert_eq!(show(parse("2026-01-31").unwrap()), "2026-01-31T00:00:00.000Z");
        assert!(parse("yesterday").unwrap_err().to_string().contains("yesterday"));
    }

    #[test]
    fn spans_name_two_units() {
        let spans =
            [(0, "0ms"), (250, "250ms"), (65_000, "1m 5s"), (3_600_000, "1h"), (183_600_000, "2d 3h")];
        for (ms, text) in spans {
            assert_eq!(span(ms), text);
        }
        assert_eq!(span(-65_000), "-1m 5s");
    }
}
