//! The estate is right, the same each time, and as large as it says.

#![allow(clippy::unwrap_used)] // tests

use muster_compiler::check;
use muster_scale::{Estate, Size};

#[test]
fn a_small_one_has_no_mistakes() {
    let estate = Estate::new(Size { plans: 3, machines_a_plan: 24 });
    let checked = check(&estate, &estate.files());
    let said: Vec<String> =
        checked.diagnostics.iter().map(|found| format!("{} {}", found.code, found.message)).collect();
    assert_eq!(said, Vec::<String>::new());
    assert_eq!(checked.plans.len(), 3);
    assert!(checked.plans.iter().all(|plan| plan.sound && plan.machines.len() == 24));
}

#[test]
fn the_large_one_is_as_large_as_it_says() {
    let estate = Estate::new(Size::LARGE);
    assert_eq!(estate.0, Estate::new(Size::LARGE).0);
    assert_eq!(estate.files().len(), 301);
    let machines: usize = estate.0.values().map(|text| text.matches("\nmachine ").count()).sum();
    assert_eq!(machines, 10_000);
    let lines = estate.lines();
    assert!((55_000..70_000).contains(&lines), "{lines} lines");
}
