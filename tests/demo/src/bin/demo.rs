//! `cargo demo`: the main job, end to end.

fn main() {}
