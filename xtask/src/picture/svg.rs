//! A terminal's text with its colours, as an SVG.

/// The width of a column and the height of a line, in pixels, at a font size of 14.
const COLUMN: f64 = 8.43;
const LINE: f64 = 18.0;
/// The colours of the terminal and of its codes.
const BACKGROUND: &str = "#0d1117";
const PLAIN: &str = "#c9d1d9";
const COLOURS: [(&str, &str); 5] =
    [("31", "#ff7b72"), ("32", "#7ee787"), ("33", "#e3b341"), ("1", "#ffffff"), ("2", "#8b949e")];

/// The picture of a screen: text with SGR codes, as `tmux capture-pane -e` gives it.
pub fn of(screen: &str) -> String {
    let lines: Vec<Vec<(String, Option<&str>)>> = screen.trim_end().lines().map(spans).collect();
    let width = lines.iter().map(|line| line.iter().map(|(text, _)| text.chars().count()).sum::<usize>()).max();
    let width = (width.unwrap_or(0).max(1) + 4) as f64 * COLUMN;
    let height = (lines.len() + 2) as f64 * LINE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, monospace\" font-size=\"14\" role=\"img\" \
         aria-label=\"stackctl up in a terminal\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    for (number, line) in lines.iter().enumerate() {
        let y = (number as f64 + 1.7) * LINE;
        let mut column = 2;
        for (text, code) in line {
            let length = text.chars().count();
            if !text.trim().is_empty() {
                let colour =
                    COLOURS.iter().find(|(known, _)| Some(*known) == *code).map_or(PLAIN, |(_, colour)| colour);
                let bold = if *code == Some("1") { " font-weight=\"bold\"" } else { "" };
                let (x, spread) = (f64::from(column) * COLUMN, length as f64 * COLUMN);
                // Columns stay columns in whatever font the reader has.
                svg.push_str(&format!(
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{spread:.1}\" fill=\"{colour}\"{bold} \
                     xml:space=\"preserve\">{}</text>\n",
                    escaped(text)
                ));
            }
            column += u32::try_from(length).unwrap_or(0);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The pieces of a line, each with the code that colours it.
fn spans(line: &str) -> Vec<(String, Option<&str>)> {
    let (mut found, mut code, mut rest) = (Vec::new(), None, line);
    while let Some(at) = rest.find("\u{1b}[") {
        let (before, after) = rest.split_at(at);
        push(&mut found, before, code);
        let Some(end) = after.find('m') else { return found };
        for one in after[2..end].split(';') {
            code = if COLOURS.iter().any(|(known, _)| *known == one) { Some(one) } else { None };
        }
        rest = &after[end + 1..];
    }
    push(&mut found, rest, code);
    found
}

fn push<'a>(found: &mut Vec<(String, Option<&'a str>)>, text: &str, code: Option<&'a str>) {
    if !text.is_empty() {
        found.push((text.to_owned(), code));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_its_colour_and_its_column() {
        let line = "\u{1b}[32m✓\u{1b}[0m Web <image>  \u{1b}[2m12s\u{1b}[39;49m";
        let pieces: Vec<_> = spans(line).into_iter().map(|(text, code)| (text, code.map(str::to_owned))).collect();
        let expected = [("✓", Some("32")), (" Web <image>  ", None), ("12s", Some("2"))];
        assert_eq!(pieces, expected.map(|(text, code)| (text.to_owned(), code.map(str::to_owned))));
        let svg = of(&format!("{line}\n\n"));
        assert!(svg.contains("#7ee787") && svg.contains("Web &lt;image&gt;"), "{svg}");
        assert_eq!(svg.matches("<text ").count(), 3);
    }
}
