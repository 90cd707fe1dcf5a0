//! Sizes, moments and ages as people read them.

use jiff::Timestamp;

/// `512 B`, `58.6 KiB`, `4.6 MiB`, `1.2 GiB`.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} GiB")
}

/// How long ago `then` was: `12s`, `5m12s`, `8h4m`, `3d2h`; `0s` for what is still to come.
pub fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A moment to the second, in UTC: `2026-11-24T11:05:00Z`.
pub fn second(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (60_000, "58.6 KiB"), (4_823_449, "4.6 MiB"), (1_288_490_189, "1.2 GiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn ages() {
        let then: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        for (now, text) in [
            ("2026-11-24T10:00:12Z", "12s"),
            ("2026-11-24T10:05:12Z", "5m12s"),
            ("2026-11-24T18:04:00Z", "8h4m"),
            ("2026-11-27T12:04:00Z", "3d2h"),
            ("2026-11-24T09:00:00Z", "0s"),
        ] {
            assert_eq!(age(now.parse().unwrap(), then), text);
        }
    }
}
