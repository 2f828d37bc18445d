//! Durations, sizes and times to live as users write them.

use annulet::Ttl;
use std::time::Duration;

/// `500ms`, `90s`, `1h`, `1h 30m`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    match parsed {
        Some(Duration::ZERO) => Err("it must be longer than zero".to_owned()),
        Some(duration) => Ok(duration),
        None => Err("write a duration as 500ms, 90s or 1h; a bare number is seconds".to_owned()),
    }
}

/// A duration, or `never`.
pub(crate) fn ttl(text: &str) -> Result<Ttl, String> {
    match text {
        "never" => Ok(Ttl::Never),
        _ => duration(text)
            .map(Ttl::After)
            .map_err(|error| format!("{error}; `never` keeps the value for good")),
    }
}

/// `4096`, `64KiB`, `512MB`, `2G`: bytes, with units of 1024.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(0),
        "k" | "kb" | "kib" => Some(10),
        "m" | "mb" | "mib" => Some(20),
        "g" | "gb" | "gib" => Some(30),
        _ => None,
    };
    let bytes = shift.and_then(|shift| number.parse::<usize>().ok()?.checked_mul(1 << shift));
    bytes.ok_or_else(|| "write a size as 4096, 64KiB, 512MiB or 2GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_a_unit_and_bare_numbers_are_seconds() {
        let check = |text: &str, ms: u64| {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        };
        check("500ms", 500);
        check("90s", 90_000);
        check("1h", 3_600_000);
        check("1h 30m", 5_400_000);
        check("5", 5_000);
        check("0.25", 250);
        for bad in [
            "",
            "0",
            "0s",
            "-1",
            "soon",
            "5 parsecs",
            "NaN",
            "inf",
            "1e300",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_count_in_units_of_1024() {
        let check = |text: &str, bytes: usize| assert_eq!(size(text), Ok(bytes), "{text}");
        check("0", 0);
        check("4096", 4096);
        check("64KiB", 64 << 10);
        check("512 MB", 512 << 20);
        check("2g", 2 << 30);
        for bad in [
            "",
            "-1",
            "1.5M",
            "KiB",
            "1TiBs",
            "99999999999999999999",
            "99999999999999999g",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_to_live_may_be_for_good() {
        assert!(matches!(ttl("never"), Ok(Ttl::Never)));
        assert!(matches!(ttl("90s"), Ok(Ttl::After(d)) if d.as_secs() == 90));
        assert!(ttl("0").is_err());
    }
}
