//! The first sentence of a doc comment names its subject.

/// Words that no subject begins with: what they speak of was said somewhere else, or nowhere.
const DANGLING: [&str; 8] = ["As", "Also", "It", "Its", "Likewise", "Same", "So", "They"];

/// What is wrong with a doc comment's first line, if anything is.
pub fn fault(line: &str) -> Option<String> {
    let first = line.split(|letter: char| !letter.is_alphanumeric() && letter != '\'').next().unwrap_or_default();
    if DANGLING.contains(&first) {
        return Some(format!("begins with “{first}”"));
    }
    let end = line.find(['.', ';', ':', '?', '!'])?;
    let sentence = &line[..end];
    let is_word = !sentence.is_empty() && sentence.chars().all(char::is_alphabetic);
    let ends = line[end + 1..].is_empty() || line[end + 1..].starts_with(' ');
    if is_word && ends && line[end..].starts_with(['.', ';']) {
        return Some(format!("is the one word “{sentence}”"));
    }
    let words: Vec<&str> = sentence.split(' ').collect();
    (words.len() == 2 && ["it", "them", "that", "this"].contains(&words[1])).then(|| format!("is “{sentence}”"))
}
