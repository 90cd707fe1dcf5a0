//! Text from anywhere: whether it shows at all, and how it keeps to its place on a page.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// The first characters that isolate text whose direction is its own, and the last: Unicode's form of `<bdi>`, for
/// where no element can be, as in a title.
const ISOLATE: (char, char) = ('\u{2068}', '\u{2069}');

/// Tells whether a character orders the text around it anew: embeddings, overrides and isolates. A name needs none, its
/// letters have their direction.
pub fn is_reordering(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Tells whether a character can't be shown in a line: controls, breaks, and what never will be a character.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}')
        || u32::from(c) & 0xfffe == 0xfffe
        || matches!(c, '\u{fdd0}'..='\u{fdef}')
}

/// Tells whether a text shows as something: marks, spaces, joiners and fillers alone do not.
pub fn is_visible(text: &str) -> bool {
    use GeneralCategory as G;
    text.chars().any(|c| match c {
        // Letters and symbols by their category, and yet blank.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' | '\u{fffc}' | '\u{1d159}' => false,
        _ => {
            !matches!(
                c.general_category(),
                G::Control
                    | G::Format
                    | G::Surrogate
                    | G::SpaceSeparator
                    | G::LineSeparator
                    | G::ParagraphSeparator
                    | G::NonspacingMark
                    | G::EnclosingMark
            ) && !is_unprintable(c)
        }
    })
}

/// Tells whether a character is a mark on the one before it.
pub fn is_mark(c: char) -> bool {
    use GeneralCategory as G;
    matches!(c.general_category(), G::NonspacingMark | G::SpacingMark)
}

/// Isolates a text, so that the words around it stay where they are whatever its direction.
pub fn isolated(text: &str) -> String {
    let (first, last) = ISOLATE;
    std::iter::once(first).chain(text.chars().filter(|c| !is_reordering(*c))).chain([last]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_as_nothing_is_told_from_what_shows() {
        for blank in [
            "",
            " ",
            "\u{200b}",
            "\u{200d}\u{200c}",
            "\u{feff}",
            "\u{2060}\u{00ad}",
            "\u{3164}",
            "\u{115f}\u{1160}",
            "\u{2800}",
            "\u{301}",
            "\u{a0}\u{3000}",
            "\u{e0041}",
            "\u{fe0f}",
            "\u{34f}",
            "\u{180e}",
            "\u{200e}\u{61c}",
        ] {
            assert!(!is_visible(blank), "{blank:?}");
        }
        for shown in
            ["A", "é", "e\u{301}", "李", "محمد", "דנה", "👩\u{200d}💻", "-", "\u{200b}a", "क्षि", "🏴\u{e0067}\u{e007f}"]
        {
            assert!(is_visible(shown), "{shown:?}");
        }
    }

    #[test]
    fn an_isolated_text_cannot_end_its_isolation() {
        assert_eq!(isolated("דנה"), "\u{2068}דנה\u{2069}");
        assert_eq!(isolated("a\u{2069}\u{202e}b"), "\u{2068}ab\u{2069}");
    }
}
