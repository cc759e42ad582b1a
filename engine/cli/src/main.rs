//! (opening soon)
fn main() {}
