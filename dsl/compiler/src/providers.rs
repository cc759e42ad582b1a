//! What the plans may say about each kind of site: how it is addressed, and what a machine can become there.
//!
//! The words only. Whether a site can do a thing is what it has said itself, in the inventory.

use crate::context::Context;
use crate::facts::{Facts, plain};
use crate::policies::secret_of;
use crate::suggest::{certainty, listed, nearest};
use crate::value::{Env, Type, Value};
use muster_diagnostics::{Diagnostic, Span};
use muster_runsheet::SecretRef;
use muster_syntax::ast::{self, ExprKind};
use std::collections::BTreeMap;

/// How a provider is told what it drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Address {
    /// `host:port` of the site agent, which is the site.
    Agent,
    /// The host of a manager: a vCenter.
    Host,
    /// A name that its maker gives: a region, a room.
    Word,
}

/// The type of a fact of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    Text,
    Bool,
    Count,
    Bytes,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Provider {
    pub word: &'static str,
    address: Address,
    /// An example of a call, for help lines.
    example: &'static str,
    /// What a `place` may say.
    place: &'static [(&'static str, Fact)],
    /// A drill may be plugged into a network that is there for tests.
    pub test_networks: bool,
}

const VIRTUAL: [(&str, Fact); 3] = [("name", Fact::Text), ("cpus", Fact::Count), ("memory", Fact::Bytes)];
const CLOUD: [(&str, Fact); 6] = [
    ("name", Fact::Text),
    ("size", Fact::Text),
    ("storage", Fact::Text),
    ("public-ip", Fact::Bool),
    ("resource-group", Fact::Text),
    ("zone", Fact::Text),
];
const VSPHERE: [(&str, Fact); 7] = [
    ("name", Fact::Text),
    ("cpus", Fact::Count),
    ("memory", Fact::Bytes),
    ("folder", Fact::Text),
    ("cluster", Fact::Text),
    ("datastore", Fact::Text),
    ("resource-pool", Fact::Text),
];
const HYPERV: [(&str, Fact); 5] = [
    ("name", Fact::Text),
    ("cpus", Fact::Count),
    ("memory", Fact::Bytes),
    ("host", Fact::Text),
    ("storage", Fact::Text),
];

const WORDS: [&str; 8] = ["qemu", "simulated", "libvirt", "vsphere", "hyperv", "azure", "cloud", "physical"];
const PROVIDERS: [Provider; 8] = [
    Provider {
        word: "qemu",
        address: Address::Agent,
        example: "qemu(\"host:port\")",
        place: &[],
        test_networks: false,
    },
    Provider {
        word: "simulated",
        address: Address::Agent,
        example: "simulated(\"host:port\")",
        place: &[],
        test_networks: false,
    },
    Provider {
        word: "libvirt",
        address: Address::Agent,
        example: "libvirt(\"host:port\")",
        place: &VIRTUAL,
        test_networks: true,
    },
    Provider {
        word: "vsphere",
        address: Address::Host,
        example: "vsphere(\"vc.example.com\", login = vc-hq)",
        place: &VSPHERE,
        test_networks: true,
    },
    Provider {
        word: "hyperv",
        address: Address::Host,
        example: "hyperv(\"hv.example.com\", login = hv-hq)",
        place: &HYPERV,
        test_networks: true,
    },
    Provider {
        word: "azure",
        address: Address::Word,
        example: "azure(\"westeurope\", login = azure-dr)",
        place: &CLOUD,
        test_networks: true,
    },
    Provider {
        word: "cloud",
        address: Address::Word,
        example: "cloud(\"eu-west-1\", login = cloud-dr)",
        place: &CLOUD,
        test_networks: true,
    },
    Provider {
        word: "physical",
        address: Address::Word,
        example: "physical(\"room-1\")",
        place: &[],
        test_networks: false,
    },
];

pub(crate) fn provider(word: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.word == word)
}

/// What a site says about who drives it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Driver {
    pub provider: &'static str,
    /// Empty where the plans name none.
    pub agent: String,
    pub endpoint: Option<String>,
    pub login: Option<SecretRef>,
}

/// `qemu("host:port")`, or `vsphere("vc.example.com", login = vc-hq)` with `agent = "host:port"` beside it.
pub(crate) fn resolve_driver(cx: &Context<'_>, module: usize, facts: &Facts<'_>) -> Option<Driver> {
    let call = call_of(cx, facts.expr(cx, "provider")?)?;
    let word = &call.callee.head;
    let Some(provider) = provider(&word.text) else {
        let diagnostic =
            Diagnostic::error(201, format!("there is no provider `{}`", word.text), word.span, "unknown provider");
        return cx.report(match nearest(&word.text, WORDS) {
            Some(near) => {
                diagnostic.help(format!("did you mean `{near}`?")).fix(word.span, near, certainty(&word.text, &WORDS))
            }
            None => diagnostic.help(format!("providers are {}", listed(WORDS))),
        });
    };
    let (address, span, login) = arguments(cx, module, call, provider)?;
    let agent = facts.expr(cx, "agent");
    if provider.address == Address::Agent {
        let address = agent_address(cx, &address, span)?;
        if let Some(agent) = agent {
            return cx.report(
                Diagnostic::error(104, "the agent is named twice", agent.span, "again here")
                    .related(span, format!("for `{}` this is the agent", provider.word)),
            );
        }
        return Some(Driver { provider: provider.word, agent: address, endpoint: None, login });
    }
    let good = !address.is_empty() && !address.contains([' ', '/']);
    if !good {
        let what = if provider.address == Address::Host { "a host" } else { "a name" };
        return cx.report(
            Diagnostic::error(211, format!("`{address}` is not {what}"), span, "cannot be reached")
                .help(format!("write `{}`", provider.example)),
        );
    }
    let agent = match agent {
        Some(expr) => agent_address(cx, &cx.text(module, &Env::new(), expr)?, expr.span)?,
        None => String::new(),
    };
    Some(Driver { provider: provider.word, agent, endpoint: Some(address), login })
}

fn call_of<'a>(cx: &Context<'_>, expr: &'a ast::Expr) -> Option<&'a ast::Call> {
    match &expr.kind {
        ExprKind::Call(call) => Some(call),
        _ => cx.report(
            Diagnostic::error(211, "a provider is written with its address", expr.span, "not a provider")
                .help("write `qemu(\"host:port\")`: the address of the site agent"),
        ),
    }
}

/// The one text, and `login` where the provider needs one.
fn arguments(
    cx: &Context<'_>,
    module: usize,
    call: &ast::Call,
    provider: &Provider,
) -> Option<(String, Span, Option<SecretRef>)> {
    let takes_login = provider.address != Address::Agent;
    let (mut address, mut login) = (None, None);
    for argument in &call.arguments {
        match &argument.name {
            None if address.is_none() => {
                address = Some((cx.text(module, &Env::new(), &argument.value)?, argument.value.span));
            }
            Some(name) if name.text == "login" && takes_login && login.is_none() => {
                login = Some(secret_of(cx, module, &argument.value)?);
            }
            _ => {
                let span = argument.name.as_ref().map_or(argument.value.span, |name| name.span.to(argument.value.span));
                return cx.report(
                    Diagnostic::error(208, format!("`{}` does not take this", provider.word), span, "wrong argument")
                        .help(format!("write `{}`", provider.example)),
                );
            }
        }
    }
    let Some((address, span)) = address else {
        return cx.report(
            Diagnostic::error(208, format!("`{}` takes one text", provider.word), call.span, "wrong arguments")
                .help(format!("write `{}`", provider.example)),
        );
    };
    Some((address, span, login))
}

fn agent_address(cx: &Context<'_>, text: &str, span: Span) -> Option<String> {
    let port = text.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok())?);
    if port.is_none_or(|port| port == 0) {
        return cx.report(
            Diagnostic::error(211, format!("`{text}` is not `host:port`"), span, "no address")
                .help("name the site agent's host and TCP port: `\"10.77.1.2:7300\"`, `\"[2001:db8::2]:7300\"`"),
        );
    }
    Some(text.to_owned())
}

/// What a `place` says, in the types of the provider. What it does not know is reported and left out.
pub(crate) fn resolve_place(
    cx: &Context<'_>,
    module: usize,
    provider: &Provider,
    facts: &[ast::Fact],
) -> BTreeMap<String, muster_runsheet::Value> {
    let mut known: BTreeMap<String, muster_runsheet::Value> = BTreeMap::new();
    let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
    for fact in facts {
        let name = &fact.name;
        let Some((_, kind)) = provider.place.iter().find(|(word, _)| *word == name.text) else {
            cx.push(unknown_fact(provider, name));
            continue;
        };
        if let Some(when) = &fact.when {
            cx.push(
                Diagnostic::error(602, format!("`{}` does not vary", name.text), when.span, "a condition here")
                    .help("write it once, without `when`"),
            );
            continue;
        }
        if let Some(first) = seen.insert(&name.text, name.span) {
            cx.push(
                Diagnostic::error(104, format!("`{}` is given twice", name.text), name.span, "again here")
                    .related(first, "first here"),
            );
            continue;
        }
        if let Some(value) = place_value(cx, module, fact, *kind) {
            known.insert(name.text.clone(), value);
        }
    }
    known
}

fn unknown_fact(provider: &Provider, name: &ast::Name) -> Diagnostic {
    let words: Vec<&str> = provider.place.iter().map(|(word, _)| *word).collect();
    let message = format!("provider `{}` has no fact `{}` for a place", provider.word, name.text);
    let diagnostic = Diagnostic::error(105, message, name.span, "unknown fact");
    match nearest(&name.text, words.iter().copied()) {
        _ if words.is_empty() => diagnostic.help("a machine becomes there what it is at home: remove the line"),
        Some(near) => {
            let applicability = certainty(&name.text, &words);
            diagnostic.help(format!("did you mean `{near}`?")).fix(name.span, near, applicability)
        }
        None => diagnostic.help(format!("it takes {}", listed(words))),
    }
}

fn place_value(cx: &Context<'_>, module: usize, fact: &ast::Fact, kind: Fact) -> Option<muster_runsheet::Value> {
    use muster_runsheet::Value as Out;
    let want = match kind {
        Fact::Text => Type::Text,
        Fact::Bool => Type::Bool,
        Fact::Count => Type::Int,
        Fact::Bytes => Type::Size,
    };
    match cx.expect(module, &Env::new(), plain(cx, fact)?, &want)? {
        Value::Text(text) => Some(Out::Text(text)),
        Value::Bool(value) => Some(Out::Bool(value)),
        Value::Int(count) => Some(Out::Int(count)),
        Value::Size(size) => Some(Out::Size(size)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_has_its_word() {
        assert!(WORDS.iter().zip(&PROVIDERS).all(|(word, provider)| *word == provider.word));
        assert!(PROVIDERS.iter().all(|provider| provider.example.starts_with(provider.word)));
    }
}
