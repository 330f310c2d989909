//! Figures and times as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds: `0.4s`, `12.3s`, `4m 02s`, `2h 03m`.
pub(crate) fn seconds(value: f64) -> String {
    let whole = value.round();
    if value < 59.95 {
        format!("{value:.1}s")
    } else if whole < 3600.0 {
        format!("{}m {:02}s", (whole / 60.0).floor(), whole % 60.0)
    } else {
        format!("{}h {:02}m", (whole / 3600.0).floor(), (whole % 3600.0 / 60.0).floor())
    }
}

/// Seconds that are only expected: `~40s`, `~4m`, `~2.5h`.
pub(crate) fn about(value: f64) -> String {
    match value {
        value if value < 0.95 => "<1s".to_owned(),
        value if value < 90.0 => format!("~{value:.0}s"),
        value if value < 90.0 * 60.0 => format!("~{:.0}m", value / 60.0),
        value => format!("~{:.1}h", value / 3600.0),
    }
}

/// Bytes: `512 B`, `86.7 MiB`.
pub(crate) fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (value, unit) = scale(value, 1024.0, UNITS.len());
    if unit == 0 { format!("{value:.0} B") } else { format!("{} {}", three(value), UNITS[unit]) }
}

/// How many: `512`, `109M`.
#[cfg(feature = "report")]
pub(crate) fn count(value: f64) -> String {
    const UNITS: [&str; 5] = ["", "K", "M", "G", "T"];
    let (value, unit) = scale(value, 1000.0, UNITS.len());
    if unit == 0 { format!("{value:.0}") } else { format!("{}{}", three(value), UNITS[unit]) }
}

fn scale(value: f64, step: f64, units: usize) -> (f64, usize) {
    let (mut value, mut unit) = (value, 0);
    while value.abs() >= step * 0.9995 && unit + 1 < units {
        value /= step;
        unit += 1;
    }
    (value, unit)
}

/// Three digits that count, and all before the point.
pub(crate) fn three(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A number with at most six digits after the point and no zeros at its end.
pub(crate) fn plain(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-4 {
        let text = format!("{value:.3e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'));
    }
    let text = format!("{value:.6}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A number of things: `1 stage`, `3 stages`.
pub(crate) fn things(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// How long ago a run began, from its id (`20261123-134502-7f3a`, UTC): `just now`, `5 minutes ago`, `3 days ago`.
pub(crate) fn ago(run: &str, now: SystemTime) -> Option<String> {
    let began = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", run.get(..15)?).ok()?;
    let began = began.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let passed = now.saturating_sub(u64::try_from(began).unwrap_or(0));
    Some(if passed < 60 { "just now".to_owned() } else { format!("{} ago", age(passed)) })
}

/// A time that has passed, in its largest unit: `5 minutes`, `3 days`.
pub(crate) fn age(seconds: u64) -> String {
    let (count, thing) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    things(usize::try_from(count).unwrap_or(usize::MAX), thing)
}

/// Letters in a line of the terminal that standard output is.
#[cfg(feature = "report")]
pub(crate) fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_have_units() {
        assert_eq!([3.26, 59.99, 252.0, 7380.0].map(seconds), ["3.3s", "1m 00s", "4m 12s", "2h 03m"]);
        assert_eq!([0.2, 40.4, 240.0, 9000.0].map(about), ["<1s", "~40s", "~4m", "~2.5h"]);
        assert_eq!([12.0, 90_900_000.0].map(bytes), ["12 B", "86.7 MiB"]);
        #[cfg(feature = "report")]
        assert_eq!([512.0, 999_600.0, 108_893_186.0].map(count), ["512", "1.00M", "109M"]);
        assert_eq!([0.1 + 0.2, 3e-5, 0.0, 64.0, 100.0].map(plain), ["0.3", "3e-5", "0", "64", "100"]);
    }

    #[test]
    fn runs_have_an_age() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000); // 2001-09-09 01:46:40
        let of = |run: &str| ago(run, now).unwrap_or_default();
        assert_eq!(of("20010909-014630-7f3a"), "just now");
        assert_eq!(of("20010909-014530-7f3a"), "1 minute ago");
        assert_eq!(of("20010908-234640-7f3a"), "2 hours ago");
        assert_eq!(of("20010901-014640-7f3a"), "8 days ago");
        assert_eq!(ago("nonsense", now), None);
    }
}
