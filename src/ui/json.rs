//! Events as JSON lines on stdout, for programs.

use super::{Event, Renderer, json_with_target, out};

pub struct Json;

impl Renderer for Json {
    fn draw(&mut self, event: &Event) {
        // An event is made of strings, numbers and booleans: it always serialises.
        if let Ok(line) = serde_json::to_string(event) {
            out(&json_with_target(&line));
        }
    }

    fn close(&mut self) {}
}
