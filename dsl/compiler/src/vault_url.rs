//! Where a vault may be, as far as a text tells: the kind of store, the bucket, and no secret. Whether it is there is the
//! engine's to find out.

use crate::context::Context;
use crate::suggest::{listed, nearest};
use muster_diagnostics::{Diagnostic, Span};

/// Kinds of stores, each with what stands after `://`.
const KINDS: [(&str, &str); 9] = [
    ("file", "/absolute/folder"),
    ("s3", "bucket/prefix"),
    ("s3a", "bucket/prefix"),
    ("gs", "bucket/prefix"),
    ("az", "account/container/prefix"),
    ("azure", "account/container/prefix"),
    ("abfs", "container@account/prefix"),
    ("abfss", "container@account.dfs.core.windows.net/prefix"),
    ("https", "account.blob.core.windows.net/container/prefix"),
];
/// Those that a help line offers.
const OFFERED: [&str; 4] = ["file", "s3", "gs", "az"];
const SETTINGS: [&str; 3] = ["endpoint", "region", "style"];

/// E0516.
pub(crate) fn check(cx: &Context<'_>, vault: &str, span: Span) {
    let Some((kind, rest)) = vault.split_once("://") else { return };
    let wrong = |message: String, label: &str| Diagnostic::error(516, message, span, label);
    let Some((_, shape)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        let help = match nearest(kind, OFFERED) {
            Some(near) => format!("did you mean `{near}://`?"),
            None => format!(
                "a vault lies in one of {}",
                listed(OFFERED.map(|kind| format!("{kind}://")).iter().map(String::as_str))
            ),
        };
        cx.push(wrong(format!("`{kind}` is no kind of store"), "unknown").help(help));
        return;
    };
    let (place, settings) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = place.split('/').next().unwrap_or_default();
    if authority.split_once('@').is_some_and(|(user, _)| user.contains(':')) {
        // The value is not repeated: whoever reads the report need not learn it.
        cx.push(
            wrong("the URL of the vault holds a password".to_owned(), "goes into journals and reports")
                .help("credentials come from the environment of the processes that use the vault"),
        );
        return;
    }
    let parts = place.split('/').filter(|part| !part.is_empty()).count();
    let needed = if matches!(kind, "az" | "azure" | "https") && !authority.contains('@') { 2 } else { 1 };
    if kind != "file" && (authority.is_empty() || parts < needed) {
        cx.push(
            wrong("the URL of the vault names no bucket or container".to_owned(), "too short")
                .help(format!("write `{kind}://{shape}`")),
        );
        return;
    }
    for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
        let name = setting.split('=').next().unwrap_or_default();
        if kind == "file" || !SETTINGS.contains(&name) {
            cx.push(wrong(format!("`{name}` is no setting of a vault's URL"), "not known").help(format!(
                "an object store has {}; credentials come from the environment, never from the URL",
                listed(SETTINGS)
            )));
        }
    }
}
