//! Words, colours and durations that the renderers share.

use std::time::Duration;

/// Colours by what they mean.
#[derive(Debug, Clone, Copy)]
pub enum Tone {
    /// It is well.
    Good,
    /// It failed.
    Bad,
    /// It needs a look.
    Warn,
    /// It matters less.
    Dim,
    /// It matters more.
    Strong,
}

/// Wraps `text` in the colour if colours are on.
pub fn paint(color: bool, tone: Tone, text: &str) -> String {
    if !color {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Warn => "33",
        Tone::Dim => "2",
        Tone::Strong => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// `0.8s`, `42s`, `3m05s`.
pub fn duration(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if seconds < 9.95 {
        format!("{seconds:.1}s")
    } else if seconds < 99.5 {
        format!("{seconds:.0}s")
    } else {
        let whole = seconds.round() as u64;
        format!("{}m{:02}s", whole / 60, whole % 60)
    }
}

/// Lines of `label   value`, the labels padded to one width.
pub fn table(rows: &[(String, String)], indent: &str) -> Vec<String> {
    let width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(label, value)| format!("{indent}{label:<width$}  {value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (millis, text) in
            [(0, "0.0s"), (840, "0.8s"), (9_949, "9.9s"), (9_950, "10s"), (99_600, "1m40s"), (185_000, "3m05s")]
        {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}
