//! RFC 3339 times, as customers write them.

/// Milliseconds since 1970 UTC of `2019-10-01T00:00:00.123Z` and its variants: any number of
/// digits after the point (cut to milliseconds), an offset `+02:00`, a blank for the `T`, small
/// letters. A leap second counts as the first of the next minute. `None` for anything else.
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    // The longest sensible form has nanoseconds and an offset: 35 bytes.
    if !(20..=40).contains(&bytes.len()) {
        return None;
    }
    let (year, month, day) = (digits(bytes, 0, 4)?, digits(bytes, 5, 2)?, digits(bytes, 8, 2)?);
    let (hour, minute, second) = (digits(bytes, 11, 2)?, digits(bytes, 14, 2)?, digits(bytes, 17, 2)?);
    let marks = [bytes[4], bytes[7], bytes[13], bytes[16]];
    if marks != *b"--::" || !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = &bytes[19..];
    let mut millis = 0;
    if let Some(after) = rest.strip_prefix(b".") {
        let length = after.iter().take_while(|b| b.is_ascii_digit()).count();
        if length == 0 {
            return None;
        }
        let (fraction, tail) = after.split_at(length);
        for place in 0..3 {
            millis = millis * 10 + fraction.get(place).map_or(0, |b| i64::from(b - b'0'));
        }
        rest = tail;
    }
    let offset_minutes = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (digits(rest, 1, 2)?, digits(rest, 4, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 60 + minutes;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let minutes = days_from_civil(year, month, day) * 1_440 + hour * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1_000 + millis)
}

/// The number that `count` digits from `at` write.
fn digits(bytes: &[u8], at: usize, count: usize) -> Option<i64> {
    bytes
        .get(at..at + count)?
        .iter()
        .try_fold(0, |number, b| b.is_ascii_digit().then(|| number * 10 + i64::from(b - b'0')))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Hinnant's algorithm: years begin in
/// March, so that the leap day is the last).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_known_times() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2019-10-01T00:00:00Z", 1_569_888_000_000),
            ("2019-10-01 00:00:00.5z", 1_569_888_000_500),
            ("2019-10-01t02:00:00.123456789+02:00", 1_569_888_000_123),
            ("2019-09-30T19:30:00-04:30", 1_569_888_000_000),
            ("2000-02-29T23:59:60Z", 951_868_800_000),
            ("2099-12-31T23:59:59.999Z", 4_102_444_799_999),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "2019-10-01",
            "2019-10-01T00:00:00",
            "2019-13-01T00:00:00Z",
            "2019-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2019-10-00T00:00:00Z",
            "2019-10-01T24:00:00Z",
            "2019-10-01T00:60:00Z",
            "2019-10-01T00:00:00.Z",
            "2019-10-01T00:00:00+0200",
            "2019-10-01T00:00:00+24:00",
            "2019/10/01T00:00:00Z",
            "+019-10-01T00:00:00Z",
            "2019-10-01T00:00:00ZZ",
            "２０１９-10-01T00:00:00Z",
            "2019-10-01T00:00:00.0000000000000000000000000000Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
