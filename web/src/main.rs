//! The user app.
fn main() {}
