//! A draft as text: canonical, one file.

use crate::draft::{Draft, GroupDraft, HookDraft, MachineDraft, PolicyDraft, RouteDraft, SiteDraft};
use crate::print_plan::plan;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// Appends to a text, which cannot fail.
macro_rules! put {
    ($text:expr, $($argument:tt)*) => {{ let _ = writeln!($text, $($argument)*); }};
}
pub(crate) use put;

/// The draft, formatted. `Err` with what the formatter found would be a mistake of this crate.
pub(crate) fn print(draft: &Draft) -> Result<String, String> {
    let mut text = String::from("edition 2026\n\n");
    put!(text, "# {} What it did not say is marked; `muster check` and `muster dry-run` show the rest.", draft.origin);
    for site in &draft.sites {
        if let Some((name, key)) = &site.login {
            put!(text, "secret {name} = keyring({})", quoted(key));
        }
    }
    for site in &draft.sites {
        put_site(&mut text, site);
    }
    for route in &draft.routes {
        put_route(&mut text, route);
    }
    for machine in &draft.machines {
        put_machine(&mut text, machine);
    }
    for machine in draft.machines.iter().filter(|machine| !machine.place.is_empty()) {
        let facts: Vec<String> =
            machine.place.iter().map(|(fact, value)| format!("{fact} = {}", quoted(value))).collect();
        put!(text, "\nplace {} at {} {{ {} }}", machine.name, machine.to, facts.join("; "));
    }
    for policy in &draft.policies {
        put_policy(&mut text, policy);
    }
    for group in &draft.groups {
        put_group(&mut text, group);
    }
    for hook in &draft.hooks {
        put_hook(&mut text, hook);
    }
    for one in &draft.plans {
        plan(&mut text, one);
    }
    muster_editor::format(&text).map_err(|found| {
        let said: Vec<String> = found.iter().take(3).map(|found| found.message.clone()).collect();
        said.join("; ")
    })
}

/// A text of the language: nothing in it is an escape, a quote or a name in braces.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.trim().chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '{' => out.push_str("\\{"),
            '}' => out.push_str("\\}"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() || control == '\u{feff}' => out.push(' '),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Words for a comment: one line, no control characters.
pub(crate) fn comment(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}').collect();
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// `1h30m`: as people write it.
pub(crate) fn duration(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut rest = seconds;
    let mut text = String::new();
    for (unit, size) in UNITS {
        if rest >= size && (unit != "d" || rest.is_multiple_of(size)) {
            let _ = write!(text, "{}{unit}", rest / size);
            rest %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// The largest binary unit without a rest.
fn bytes(count: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let exact = UNITS.into_iter().find(|(_, bits)| count >= 1 << bits && count.trailing_zeros() >= *bits);
    exact.map_or_else(|| format!("{count}B"), |(unit, bits)| format!("{}{unit}", count >> bits))
}

fn put_site(text: &mut String, site: &SiteDraft) {
    put!(text, "\n## {}", comment(&site.was));
    put!(text, "site {} {{\n  provider = {}", site.name, site.provider);
    for network in &site.networks {
        let label = network.label.as_ref().map(|label| format!(" as {}", quoted(label))).unwrap_or_default();
        let assumed = if network.assumed { "  # its addresses are not in the export: write them here" } else { "" };
        let base = Ipv4Addr::from(network.range.base);
        put!(text, "  network {} = {base}/{}{label}{assumed}", network.name, network.range.prefix);
    }
    text.push_str("}\n");
}

fn put_route(text: &mut String, route: &RouteDraft) {
    put!(text, "\nroute {} <-> {} {{", route.left, route.right);
    put!(text, "  vault = {}  # an object store or a folder that outlives `{}`", quoted(&route.vault), route.left);
    for (left, right) in &route.pairs {
        put!(text, "  {left} <-> {right} test isolated");
    }
    for (left, right) in &route.addresses {
        put!(text, "  {left} <-> {right}");
    }
    text.push_str("}\n");
}

fn put_machine(text: &mut String, machine: &MachineDraft) {
    text.push('\n');
    if let Some(was) = &machine.was {
        put!(text, "## {}", comment(was));
    }
    put!(text, "machine {} at {} {{", machine.name, machine.site);
    let disks: Vec<String> = machine
        .disks
        .iter()
        .map(|(name, size)| match size {
            Some(size) => format!("disk({}, {})", quoted(name), bytes(*size)),
            None => quoted(name),
        })
        .collect();
    put!(text, "  disks = [{}]\n  network = {}", disks.join(", "), machine.network);
    if let Some(ip) = machine.ip {
        put!(text, "  ip = {ip}");
    }
    text.push_str("}\n");
}

fn put_policy(text: &mut String, policy: &PolicyDraft) {
    put!(text, "\n## {}", comment(&policy.was));
    put!(text, "policy {} {{", policy.name);
    for (fact, value) in &policy.facts {
        put!(text, "  {fact} = {value}");
    }
    text.push_str("}\n");
}

fn put_group(text: &mut String, group: &GroupDraft) {
    put!(text, "\ngroup {} {{\n  policy = {}\n  machines = [{}]", group.name, group.policy, group.machines.join(", "));
    if group.together {
        text.push_str("  together = true\n");
    }
    text.push_str("}\n");
}

fn put_hook(text: &mut String, hook: &HookDraft) {
    let parameters = if hook.machines { "machines: list(machine)" } else { "" };
    put!(text, "\n## {}", comment(&hook.was));
    put!(text, "hook {}({parameters}) {{\n  body = \"\"\"", hook.name);
    // A failure, not silence: a hook that says nothing would pass for one that works.
    put!(text, "    throw fail(\"{}\");\n  \"\"\"\n}}", script_text(&hook.todo));
}

/// Inside a text of a script inside a text block: letters and marks that mean nothing there.
fn script_text(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || " .,:;/()_-".contains(c) { c } else { ' ' };
    comment(&text.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_back() {
        assert_eq!(duration(90), "1m30s");
        assert_eq!(duration(86_400), "1d");
        assert_eq!(duration(90_000), "25h");
        assert_eq!(duration(0), "0s");
        assert_eq!(bytes(128 << 30), "128GiB");
        assert_eq!(bytes(1000), "1000B");
    }

    #[test]
    fn texts_hold_nothing_but_text() {
        assert_eq!(quoted("say \"{target}\"\n\\o/ "), r#""say \"\{target\}\"\n\\o/""#);
        assert_eq!(comment("a\nb\u{0}c # d"), "a b c # d");
        assert_eq!(script_text("x\"; y(`${z}`)"), "x ; y( z )");
    }
}
