//! Ages and sizes as people write them.

use std::time::Duration;

const AGES: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// An age: `30d`, `12h`, `1.5h`.
pub(crate) fn age(text: &str) -> Result<Duration, String> {
    let seconds = quantity(text, &AGES).ok_or("an age is a number and s, m, h, d or w: 30d, 12h")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// A size in bytes: `50GiB`, `500MB`, `1.5 TiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let bytes = quantity(text, &SIZES).ok_or("a size is a number and B, KiB, MiB, GiB, TiB, KB, MB, GB or TB: 50GiB, 500MB")?;
    Ok(bytes as u64)
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<f64> {
    let text = text.trim();
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let (number, unit) = text.split_at(unit_at);
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    Some(number.parse::<f64>().ok()? * *factor as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_have_units() {
        let seconds = |text: &str| age(text).ok().map(|age| age.as_secs());
        assert_eq!(["30d", "12h", "1.5h", "0s", "2 w"].map(seconds), [2_592_000, 43_200, 5_400, 0, 1_209_600].map(Some));
        assert_eq!(["", "30", "d", "-1d", "1.2.3h", "1 month", "1y"].map(seconds), [None; 7]);
        let bytes = |text: &str| size(text).ok();
        assert_eq!(["50GiB", "500MB", "1.5 kib", "0B"].map(bytes), [50 << 30, 500_000_000, 1536, 0].map(Some));
        assert_eq!(["50", "GiB", "5 G", "1e3B"].map(bytes), [None; 4]);
    }
}
