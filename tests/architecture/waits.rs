//! Waits that are written by hand: a loop with a sleep in it, found by its indentation (the sources are formatted).

/// The lines, counted from 1, of the sleeps within a loop.
pub fn by_hand(text: &str) -> Vec<usize> {
    let mut loops: Vec<usize> = Vec::new();
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        if code.starts_with("mod tests {") {
            break;
        }
        if code.starts_with('}') && loops.last() == Some(&indent) {
            loops.pop();
        }
        if ["loop {", "while ", "for "].iter().any(|begins| code.starts_with(begins)) && !code.starts_with("for<") {
            loops.push(indent);
        }
        if !loops.is_empty() && !code.starts_with("//") && (code.contains("sleep(") || code.contains("sleep_until(")) {
            found.push(number);
        }
    }
    found
}

#[test]
fn a_sleep_within_a_loop_is_found_and_one_beside_it_is_not() {
    let text = "fn a() {\n    sleep(1);\n    loop {\n        if b {\n            sleep(1);\n        }\n    }\n    sleep(1);\n}\n";
    assert_eq!(by_hand(text), [5]);
    let test = "mod tests {\n    fn a() {\n        loop {\n            sleep(1);\n        }\n    }\n}\n";
    assert_eq!(by_hand(test), [0; 0]);
}
