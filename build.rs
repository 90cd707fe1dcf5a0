//! Tells cargo when what is embedded has changed.
fn main() {
    println!("cargo:rerun-if-changed=assets");
    println!("cargo:rerun-if-changed=web");
    println!("cargo:rerun-if-changed=Dockerfile");
}
