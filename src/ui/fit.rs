//! Text made to fit a terminal: cut to its width, wrapped at words, and logs without what only a debugger needs.

use std::borrow::Cow;

use dialoguer::console::{Term, measure_text_width, truncate_str};

/// Where a wide terminal ends for lines with something at their right edge.
const WIDEST: usize = 100;
/// How many lines of a log tell why.
const LOG_LINES: usize = 3;

/// The columns of the terminal that stderr is.
pub fn columns() -> usize {
    usize::from(Term::stderr().size().1)
}

/// The line, no wider than the terminal; what is cut off shows as `…`. One column is left free: a terminal may wrap when its
/// last one is written to.
pub fn cut(line: &str, width: usize) -> Cow<'_, str> {
    truncate_str(line, width.saturating_sub(1).max(1), "…")
}

/// A line with something at its right edge, for which the left part is cut.
pub fn justified(left: &str, right: &str, width: usize) -> String {
    let width = width.saturating_sub(1).min(WIDEST);
    let space = width.saturating_sub(measure_text_width(right) + 2).max(1);
    let left = truncate_str(left, space, "…");
    let gap = space.saturating_sub(measure_text_width(&left)) + 2;
    format!("{left}{:gap$}{right}", "")
}

/// The text in lines that the terminal need not break: wrapped between words, later lines indented. A word that is wider
/// than the terminal stays whole, for it may be a path or a command.
pub fn wrapped(text: &str, width: usize, indent: usize) -> Vec<String> {
    let width = width.saturating_sub(1).max(indent + 10);
    let words = text.trim_start_matches(' ');
    let mut line = " ".repeat(text.len() - words.len());
    let (mut lines, mut gap, mut has_words) = (Vec::new(), 0, false);
    for word in words.split(' ') {
        if !word.is_empty() {
            if has_words && measure_text_width(&line) + gap + measure_text_width(word) > width {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
                gap = 0;
            }
            line.push_str(&" ".repeat(gap));
            line.push_str(word);
            (gap, has_words) = (0, true);
        }
        // What stands apart stays apart, as columns do.
        gap += 1;
    }
    lines.push(line);
    lines
}

/// Lines of `label   value`, wrapped; where labels leave too little room, values stand below them.
pub fn table(rows: &[(String, String)], width: usize) -> Vec<String> {
    let labels = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let is_narrow = labels + 24 > width;
    let rows = rows.iter().flat_map(|(label, value)| {
        if is_narrow {
            let mut lines = vec![format!("  {label}")];
            lines.extend(wrapped(&format!("    {value}"), width, 4));
            lines
        } else {
            wrapped(&format!("  {label:<labels$}  {value}"), width, labels + 4)
        }
    });
    rows.collect()
}

/// The lines of a log's end that tell why: no stack traces, and the last few of what is left.
pub fn telling(log: &[String]) -> Vec<&str> {
    let lines = log.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty() && !is_frame(line));
    let lines: Vec<&str> = lines.collect();
    // What follows on a panic is about the panic.
    let from = lines.iter().position(|line| line.contains("panic:") || line.contains("panicked at"));
    match from {
        Some(from) => lines[from..].iter().take(LOG_LINES).copied().collect(),
        None => lines[lines.len().saturating_sub(LOG_LINES)..].to_vec(),
    }
}

/// Whether a line belongs to a stack trace of Go, Python, Java or Rust.
fn is_frame(line: &str) -> bool {
    let text = line.trim_start();
    let is_indented = text.len() < line.len();
    let is_go_call = !text.contains(' ') && text.ends_with(')') && text.contains('.') && text.contains('(');
    let is_go_place = is_indented && text.contains(".go:");
    text.starts_with("goroutine ")
        || text.starts_with("created by ")
        || text.starts_with("[signal ")
        || text.starts_with("Traceback (most recent")
        || is_indented && (text.starts_with("at ") || text.starts_with("File \""))
        || text.starts_with("stack backtrace:")
        || is_go_call
        || is_go_place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_by_columns_and_not_by_bytes_or_colours() {
        assert_eq!(cut("short", 40), "short");
        assert_eq!(cut("a line that is too long", 10), "a line t…");
        assert_eq!(measure_text_width(&cut("漢字漢字漢字漢字", 10)), 9);
        let painted = cut("\u{1b}[31mred as far as it goes\u{1b}[0m", 10).into_owned();
        assert!(painted.starts_with("\u{1b}[31m") && painted.ends_with("\u{1b}[0m"), "{painted:?}");
        assert_eq!(measure_text_width(&painted), 9);
    }

    #[test]
    fn what_stands_at_the_right_edge_is_never_cut() {
        assert_eq!(justified("✓ Web image  built", "12s", 30), "✓ Web image  built        12s");
        assert_eq!(justified("✓ PostgreSQL, 3 instances  3/3 ready", "1m05s", 30), "✓ PostgreSQL, 3 insta…  1m05s");
        assert_eq!(justified("a", "1s", 1), "a  1s");
        assert!(measure_text_width(&justified("a", "1s", 300)) <= WIDEST);
    }

    #[test]
    fn words_go_to_the_next_line_whole() {
        assert_eq!(wrapped("one two three four", 12, 2), ["one two", "  three four"]);
        assert_eq!(wrapped("  one /a/path/without/end two", 12, 4), ["  one", "    /a/path/without/end", "    two"]);
        assert_eq!(wrapped("", 12, 2), [""]);
        assert_eq!(wrapped("fits", 80, 2), ["fits"]);
        assert_eq!(wrapped("  a    column", 80, 2), ["  a    column"]);
    }

    #[test]
    fn a_table_fits_a_narrow_terminal() {
        let rows = [("stackctl status".to_owned(), "every part's health".to_owned())];
        assert_eq!(table(&rows, 80), ["  stackctl status  every part's health"]);
        assert_eq!(table(&rows, 30), ["  stackctl status", "    every part's health"]);
    }

    #[test]
    fn a_panic_is_told_by_what_it_says() {
        let log = "I1129 starting\npanic: unable to load configmap: dial tcp 10.96.0.1:443: connect: refused\n\n\
                   goroutine 1 [running]:\nmain.main()\n\tsigs.k8s.io/metrics-server/cmd/main.go:40 +0x18\n\
                   k8s.io/apiserver/pkg/server.(*Options).ApplyTo(0xc000)\n\t/go/pkg/server.go:12 +0x1\n\
                   created by main.main in goroutine 1";
        let log: Vec<String> = log.lines().map(str::to_owned).collect();
        let told = "panic: unable to load configmap: dial tcp 10.96.0.1:443: connect: refused";
        assert_eq!(telling(&log), [told]);
        let log: Vec<String> = ["one", "two", "three", "four"].map(str::to_owned).to_vec();
        assert_eq!(telling(&log), ["two", "three", "four"]);
        let python = ["Traceback (most recent call last):", "  File \"/x.py\", line 1, in <module>", "ValueError: no"];
        assert_eq!(telling(&python.map(str::to_owned)), ["ValueError: no"]);
    }
}
