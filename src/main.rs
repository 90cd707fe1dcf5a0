//! stackctl
fn main() {}
