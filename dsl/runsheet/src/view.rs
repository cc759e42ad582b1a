//! Actions and probes in words, as tables and progress lines show them.

use crate::sheet::{Action, PointChoice, ProbeCall};
use crate::value::Value;

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn value(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Int(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Duration(duration) => duration.to_string(),
        Value::Size(size) => size.to_string(),
        Value::Rate(rate) => rate.to_string(),
        Value::Percent(percent) => format!("{percent}%"),
        Value::Ip(ip) => ip.to_string(),
        Value::Port(port) => port.to_string(),
        Value::Machine(name) => name.to_string(),
        Value::Group(name) => name.to_string(),
        Value::Site(name) => name.to_string(),
        Value::Network(name) => name.to_string(),
        Value::Secret { name, .. } => format!("secret {name}"),
        Value::List(items) => format!("[{}]", items.iter().map(self::value).collect::<Vec<_>>().join(", ")),
    }
}

fn arguments(all: &std::collections::BTreeMap<String, Value>) -> String {
    all.iter().map(|(name, argument)| format!("{name} = {}", value(argument))).collect::<Vec<_>>().join(", ")
}

fn nics(nics: &[crate::NicShape]) -> String {
    let ips: Vec<String> =
        nics.iter().map(|nic| nic.ip.map_or_else(|| nic.network.to_string(), |ip| ip.to_string())).collect();
    ips.join(", ")
}

/// A probe in words.
pub fn probe_words(probe: &ProbeCall) -> String {
    match probe {
        ProbeCall::Tcp { port } => format!("tcp {port}"),
        ProbeCall::Http { port, path } => format!("http :{port}{path}"),
        ProbeCall::Guest => "guest".to_owned(),
        ProbeCall::Command { program, arguments } => {
            format!("command {program} {}", arguments.join(" ")).trim_end().to_owned()
        }
        ProbeCall::Hook { hook, arguments: given } => format!("{hook}({})", arguments(given)),
    }
}

fn choice(choice: &PointChoice) -> String {
    match choice {
        PointChoice::Latest => "latest".to_owned(),
        PointChoice::LatestApp => "latest-app".to_owned(),
        PointChoice::LatestProcessed => "latest-processed".to_owned(),
        PointChoice::Final => "final".to_owned(),
        PointChoice::Named { point } => point.clone(),
    }
}

/// A step in words, as in tables and in progress lines.
pub fn words(action: &Action) -> String {
    match action {
        Action::Start { machine, site } => format!("start {machine} at {site}"),
        Action::Stop { machine, site } => format!("stop {machine} at {site}"),
        Action::Create { machine, from, .. } => format!("create {machine} from {from:?}"),
        Action::Check { machine, probe: asked, .. } => format!("check {machine} {}", probe_words(asked)),
        Action::Run { hook, arguments: given } => format!("run {hook}({})", arguments(given)),
        Action::Approve { text, by } => format!("approve {text:?} by {by}"),
        Action::Manual { text, by } => format!("manual {text:?} by {by}"),
        Action::Wait { duration } => format!("wait {duration}"),
        Action::Notify { to, text } => format!("notify {to} {text:?}"),
        Action::Barrier => "barrier".to_owned(),
        Action::Verify { required, probed } if probed.is_empty() => format!("verify {}", list(required)),
        Action::Verify { required, probed } => format!("verify {}, probe {}", list(required), list(probed)),
        Action::Lock { machines, drill } => format!("lock {}{}", list(machines), if *drill { " (drill)" } else { "" }),
        Action::SyncFinal { group } => format!("last cycle of {group}, machines off"),
        Action::PickPoint { group, choice: chosen } => format!("pick point of {group}: {}", choice(chosen)),
        Action::NoReturn => "no return".to_owned(),
        Action::Fence { site, proof: crate::FenceProof::PowerOff, .. } => {
            format!("fence {site}: prove its machines off")
        }
        Action::Fence { site, proof: crate::FenceProof::FoundOff, .. } => {
            format!("fence {site}: find its machines off, bar them from starting")
        }
        Action::Fence { site, proof: crate::FenceProof::FoundOffOrSignature, .. } => {
            format!("⚠ fence {site}: find its machines off, or sign that it is gone")
        }
        Action::Fence { site, .. } => format!("⚠ fence {site}: prove it off, or sign for split-brain"),
        Action::Unfence { site, .. } => format!("unfence {site}"),
        Action::Bubble { site, networks } => {
            let names: Vec<String> =
                networks.iter().map(|network| format!("{} {}", network.name, network.cidr)).collect();
            format!("bubble at {site}: {}", names.join(", "))
        }
        Action::Clone { machine, nics: cards, .. } => format!("clone {machine} → {}", nics(cards)),
        Action::Promote { machine, nics: cards, differences, .. } => {
            let how = if *differences { " (differences only)" } else { "" };
            format!("promote {machine} → {}{how}", nics(cards))
        }
        Action::Hydrate { machine, .. } => format!("hydrate {machine}"),
        Action::Discard { machine, site, drill: Some(_) } => format!("discard clone of {machine} at {site}"),
        Action::Discard { machine, site, drill: None } => format!("discard {machine} at {site}"),
        Action::DiscardBubble { site, .. } => format!("discard bubble at {site}"),
        Action::DropPoints { group } => format!("drop older points of {group}"),
        Action::Reverse { group, source, target } => format!("reverse {group}: {source} → {target}"),
        Action::Resync { group } => format!("resync {group}"),
        Action::AwaitLag { group, at_most } => format!("wait until {group} lags at most {at_most}"),
        Action::AssertReplicating { group } => format!("assert that {group} kept replicating"),
        Action::Unlock { machines, .. } => format!("unlock {}", list(machines)),
        Action::Report => "report".to_owned(),
    }
}
