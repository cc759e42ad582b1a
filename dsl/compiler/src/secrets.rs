//! Secrets: where the plans say they are, and literals that are secrets by their form (E0804).
//!
//! Only forms that their makers fixed so that they can be found; a long random word proves nothing.

use crate::context::Context;
use crate::names::{Kind, Symbol};
use crate::value::{Env, Type, Value};
use muster_diagnostics::{Diagnostic, Span};
use muster_syntax::ast::{Argument, Item};
use std::collections::BTreeMap;

/// The key of every secret in the keyring, by its name in the plans. What could not be read is reported and left out.
pub(crate) fn resolve(cx: &Context<'_>) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    for (module, file) in cx.modules.iter().enumerate() {
        for item in &file.ast.items {
            let Item::Secret(secret) = item else { continue };
            if let Some(key) = read_key(cx, module, &secret.source) {
                keys.entry(secret.name.text.clone()).or_insert(key);
            }
        }
    }
    keys
}

/// Where the keyring is that alone holds a secret, by the secret's name: `keyring("hq/dns", at = hq)`. Silent about those that
/// have no key: [`resolve`] has spoken.
pub(crate) fn places(cx: &Context<'_>, keys: &BTreeMap<String, String>) -> BTreeMap<String, (String, Span)> {
    let mut places = BTreeMap::new();
    for (module, file) in cx.modules.iter().enumerate() {
        for item in &file.ast.items {
            let Item::Secret(secret) = item else { continue };
            if !keys.contains_key(&secret.name.text) {
                continue;
            }
            let at = secret.source.arguments.iter().find(|argument| is_place(argument));
            let Some(at) = at.map(|argument| &argument.value) else { continue };
            if let Some(Value::Named(_, site)) = cx.expect(module, &Env::new(), at, &Type::Named(Kind::Site)) {
                places.entry(secret.name.text.clone()).or_insert((site, at.span));
            }
        }
    }
    places
}

fn is_place(argument: &Argument) -> bool {
    argument.name.as_ref().is_some_and(|name| name.text == "at")
}

/// The key of a declared secret; silent where [`resolve`] speaks.
pub(crate) fn key_of(cx: &Context<'_>, symbol: Symbol) -> Option<String> {
    let Item::Secret(secret) = &cx.modules[symbol.module].ast.items[symbol.index] else { return None };
    let keys: Vec<&Argument> = secret.source.arguments.iter().filter(|argument| !is_place(argument)).collect();
    let [key] = keys.as_slice() else { return Some(String::new()) };
    Some(match &key.value.kind {
        muster_syntax::ast::ExprKind::Text(text) => text.text.clone(),
        _ => String::new(),
    })
}

/// `keyring("dr/dns-token")`: parts of letters, digits, `.`, `_` and `-`, divided by `/`.
fn read_key(cx: &Context<'_>, module: usize, source: &muster_syntax::ast::Call) -> Option<String> {
    let wrong = |message: &str| {
        cx.report(
            Diagnostic::error(211, message, source.span, "not a place of a secret")
                .help("write `keyring(\"dr/dns-token\")`: a key in the keyring of the engine"),
        )
    };
    if source.callee.head.text != "keyring" || !source.callee.path.is_empty() {
        return wrong("secrets are in a keyring");
    }
    let keys: Vec<&Argument> = source.arguments.iter().filter(|argument| !is_place(argument)).collect();
    let [key] = keys.as_slice() else { return wrong("`keyring` takes one key, and `at = SITE`") };
    if source.arguments.len() > 2 || key.name.is_some() {
        return wrong("`keyring` takes one key, and `at = SITE`");
    }
    let text = cx.text(module, &Env::new(), &key.value)?;
    let good = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    if text.split('/').all(good) { Some(text) } else { wrong("this cannot be a key of a keyring") }
}

/// What follows the beginning of a token.
struct Form {
    what: &'static str,
    begins: &'static str,
    /// Letters, digits and `_` that follow at least.
    follow_min: usize,
    /// None but capitals and digits follow, exactly as many as said.
    capitals: bool,
}

const FORMS: [Form; 7] = [
    Form { what: "an AWS access key", begins: "AKIA", follow_min: 16, capitals: true },
    Form { what: "an AWS session key", begins: "ASIA", follow_min: 16, capitals: true },
    Form { what: "a GitHub token", begins: "ghp_", follow_min: 36, capitals: false },
    Form { what: "a GitHub token", begins: "github_pat_", follow_min: 40, capitals: false },
    Form { what: "a GitLab token", begins: "glpat-", follow_min: 20, capitals: false },
    Form { what: "a Slack token", begins: "xoxb-", follow_min: 10, capitals: false },
    Form { what: "a Vault token", begins: "hvs.", follow_min: 24, capitals: false },
];

/// What the text holds, when its form leaves no doubt.
fn secret_in(text: &str) -> Option<&'static str> {
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    FORMS
        .iter()
        .find(|form| {
            text.match_indices(form.begins).any(|(at, _)| {
                let rest = &text[at + form.begins.len()..];
                let follow = rest.chars().take_while(|c| is_word(*c)).count();
                let alone = !text[..at].ends_with(is_word);
                let capitals = || rest.chars().take(follow).all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
                alone && if form.capitals { follow == form.follow_min && capitals() } else { follow >= form.follow_min }
            })
        })
        .map(|form| form.what)
}

impl Context<'_> {
    pub(crate) fn check_secret(&self, text: &str, span: Span) {
        let Some(what) = secret_in(text) else { return };
        self.push(
            Diagnostic::error(804, format!("this looks like {what}"), span, "readable by everybody who reads the plan")
                .help(
                    "take it out, make it void where it was issued, and name its place: `secret name = keyring(\"…\")`",
                ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::secret_in;

    #[test]
    fn only_fixed_forms_are_secrets() {
        assert_eq!(secret_in("AKIAIOSFODNN7EXAMPLE"), Some("an AWS access key"));
        assert_eq!(secret_in("key AKIAIOSFODNN7EXAMPLE."), Some("an AWS access key"));
        assert_eq!(secret_in(&format!("token ghp_{}", "a1".repeat(18))), Some("a GitHub token"));
        assert_eq!(secret_in("-----BEGIN OPENSSH PRIVATE KEY-----\nabc"), Some("a private key"));
        for innocent in [
            "AKIA",
            "SLOVAKIASOUTHERNREGION1",
            "ghp_short",
            "10.10.20.11",
            "/etc/ssl/private/key.pem",
            "d41d8cd98f00b204e9800998ecf8427e",
            "Send customers to {target}?",
            "-----BEGIN CERTIFICATE-----",
        ] {
            assert_eq!(secret_in(innocent), None, "{innocent}");
        }
    }
}
