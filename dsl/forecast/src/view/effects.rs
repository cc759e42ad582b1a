//! What hooks would touch, below the table.

use crate::effects::HookEffects;
use crate::view::fold::hang;

/// Step by step; steps that would do the same stand together. Nothing where no hook runs.
pub fn effects(found: &[HookEffects]) -> String {
    let mut groups: Vec<(Vec<&str>, &HookEffects)> = Vec::new();
    for one in found {
        let alike = |other: &HookEffects| {
            (&other.hook, &other.touches, &other.asks, &other.unknown)
                == (&one.hook, &one.touches, &one.asks, &one.unknown)
        };
        match groups.iter_mut().find(|(_, other)| alike(other)) {
            Some((steps, _)) => steps.push(one.step.as_str()),
            None => groups.push((vec![one.step.as_str()], one)),
        }
    }
    if groups.is_empty() {
        return String::new();
    }
    let mut out = "what hooks would touch:\n".to_owned();
    for (steps, one) in groups {
        let needs = if one.needs.is_empty() { "nothing".to_owned() } else { one.needs.join(", ") };
        let world = if one.outside { "  ⚠ reaches the world" } else { "" };
        out.push_str(&hang("  ", &format!("{}  needs {needs}{world}", steps.join(", "))));
        for touch in &one.touches {
            out.push_str(&hang("    ", touch));
        }
        for asked in &one.asks {
            out.push_str(&hang("    ", &format!("asks {asked}")));
        }
        if let Some(why) = &one.unknown {
            out.push_str(&hang("    ", why));
        }
        if one.touches.is_empty() && one.asks.is_empty() && one.unknown.is_none() {
            out.push_str("    touches nothing\n");
        }
    }
    out
}
