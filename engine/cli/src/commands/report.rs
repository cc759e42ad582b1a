//! `report`: what a run leaves for whoever asks afterwards, signed; and whether such a file is what was signed.

use super::open;
use crate::arguments::Common;
use crate::exit::Exit;
use crate::output;
use clap::ValueEnum;
use muster_control::{DossierAnswer, Project, Request, write_whole};
use muster_evidence::{Form, Opened, PublicKey, Report, SIGNING_PURPOSE, SealError, Signer, Subject, Told, seal};
use muster_ports::{Failure, Result, RunId};
use muster_vault::Vault;
use std::path::{Path, PathBuf};

/// What a report's signature says it is.
const KIND: &str = "report";

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Html,
    Json,
    Md,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ReportOptions {
    /// The run; the newest one when none is named.
    #[arg(conflicts_with_all = ["verify", "public_key"])]
    run: Option<String>,
    /// html (one page, no scripts, good in print), json, md. By the end of FILE when it is not said, else md.
    #[arg(long, value_enum, conflicts_with_all = ["verify", "public_key"])]
    format: Option<Format>,
    /// Write to a file instead of stdout.
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["verify", "public_key"])]
    output: Option<PathBuf>,
    /// Check a report: its signature and, where the vault is within reach, the journal it speaks of.
    #[arg(long, value_name = "FILE", conflicts_with = "public_key")]
    verify: Option<PathBuf>,
    /// The public key that must have signed, as 64 hex digits. Without it the vault says which.
    #[arg(long, value_name = "KEY", requires = "verify")]
    signed_by: Option<PublicKey>,
    /// Print the public key of the vault, for those who check reports without it.
    #[arg(long)]
    public_key: bool,
}

pub async fn report(common: &Common, options: &ReportOptions) -> Result<Exit> {
    if options.public_key {
        return print_key(common).await;
    }
    if let Some(file) = &options.verify {
        return verify(common, file, options.signed_by).await;
    }
    let vault = open_vault(common).await?;
    let access = open::reading(common, None).await?;
    let request = Request::Dossier { run: options.run.clone().map(RunId::new) };
    let dossier: Result<DossierAnswer> = access.ask(&request, common).await;
    access.close().await;
    let dossier = dossier?;
    let form = form_of(common, options);
    let text = signed(&told(&dossier), form, &vault)?;
    match &options.output {
        Some(file) => {
            write_whole(file, text.as_bytes())?;
            output::say(format!("report of run {} written to {}", dossier.run, file.display()));
        }
        None => output::data(text),
    }
    Ok(Exit::Done)
}

fn told(dossier: &DossierAnswer) -> Report {
    let DossierAnswer { run, sheet, records, head, kinds } = dossier;
    muster_evidence::report(Told { run, sheet, records, head, kinds })
}

fn form_of(common: &Common, options: &ReportOptions) -> Form {
    let end = options.output.as_ref().and_then(|file| file.extension()).and_then(|end| end.to_str());
    match (options.format, end) {
        (Some(Format::Html), _) => Form::Html,
        (Some(Format::Json), _) => Form::Json,
        (Some(Format::Md), _) => Form::Markdown,
        (None, Some("html" | "htm")) => Form::Html,
        (None, Some("json")) => Form::Json,
        (None, _) if common.json => Form::Json,
        (None, _) => Form::Markdown,
    }
}

fn signed(report: &Report, form: Form, vault: &Vault) -> Result<String> {
    let subject = Subject {
        kind: KIND.to_owned(),
        vault: vault.id().to_string(),
        subject: report.run.to_string(),
        records: report.journal.records,
        head: report.journal.head.clone(),
    };
    let text = seal::seal(form, &report.render(form), &subject, &signer(vault)?);
    text.map_err(|error| Failure::permanent(format!("the report cannot be signed: {error}")))
}

/// The key of a vault that signs; whoever opens the vault has it.
pub fn signer(vault: &Vault) -> Result<Signer> {
    let seed = vault.derived_key(SIGNING_PURPOSE);
    Signer::from_seed(&seed).ok_or_else(|| Failure::permanent("the vault's key makes no signing key"))
}

pub async fn open_vault(common: &Common) -> Result<Vault> {
    let project = Project::load(&common.plans).ok();
    let url = open::vault_url(common, project.as_ref())?;
    Ok(Vault::open(&url, &common.key()?).await?)
}

async fn print_key(common: &Common) -> Result<Exit> {
    let vault = open_vault(common).await?;
    let key = signer(&vault)?.public().to_string();
    if common.json {
        output::json(&serde_json::json!({ "vault": vault.id().to_string(), "ed25519": key }));
    } else {
        output::data(key);
    }
    Ok(Exit::Done)
}

/// What the vault says about a report; `Err` when no vault is within reach.
struct Vaulted {
    id: String,
    key: PublicKey,
    dossier: Result<DossierAnswer>,
}

async fn ask_vault(common: &Common, run: &str) -> Result<Vaulted> {
    let vault = open_vault(common).await?;
    let key = signer(&vault)?.public();
    let access = open::reading(common, None).await?;
    let dossier = access.ask(&Request::Dossier { run: Some(RunId::new(run)) }, common).await;
    access.close().await;
    Ok(Vaulted { id: vault.id().to_string(), key, dossier })
}

/// Reads a signed file; a very large one is nothing that muster wrote.
pub fn read_signed(file: &Path) -> Result<String> {
    let during = |error: std::io::Error| Failure::from(error).during(format!("read `{}`", file.display()));
    let size = std::fs::metadata(file).map_err(during)?.len();
    if size > seal::FILE_BYTES_MAX as u64 {
        let found = usize::try_from(size).unwrap_or(usize::MAX);
        return Err(Failure::permanent(format!("`{}`: {}", file.display(), SealError::TooLarge { found })));
    }
    let bytes = std::fs::read(file).map_err(during)?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::refused(format!("`{}`: it is not text, so it was changed after it was signed", file.display()))
    })
}

pub fn unsealed<'a>(file: &Path, text: &'a str, kind: &str, key: Option<&PublicKey>) -> Result<Opened<'a>> {
    let named = |error: SealError| {
        Failure::refused(format!("`{}`: {error}", file.display())).help(match error {
            SealError::OtherKey { .. } => "another vault signed it, or somebody who has no key of this one",
            _ => "ask for the file again, or make it anew from the vault",
        })
    };
    let opened = seal::open(text, key).map_err(named)?;
    if opened.subject.kind != kind {
        return Err(Failure::refused(format!("`{}` is a {}, not a {kind}", file.display(), opened.subject.kind)));
    }
    Ok(opened)
}

/// With the vault the journal is compared too. Without it the public key alone has to do, and it has to be named: the one
/// inside the file would vouch for itself.
async fn verify(common: &Common, file: &Path, key: Option<PublicKey>) -> Result<Exit> {
    let text = read_signed(file)?;
    let opened = unsealed(file, &text, KIND, key.as_ref())?;
    let subject = &opened.subject;
    let journal = match ask_vault(common, &subject.subject).await {
        Ok(vault) => {
            // A key that was named counts more than a vault that happens to be here.
            if key.is_none() || vault.id == subject.vault {
                unsealed(file, &text, KIND, Some(&vault.key))?;
            }
            if vault.id == subject.vault { Some(agrees(file, subject, &vault.dossier?)?) } else { None }
        }
        Err(failure) if key.is_none() => {
            return Err(Failure::refused(format!(
                "`{}` was not changed since key {} signed it, but nothing here says whose key that is: {}",
                file.display(),
                opened.key,
                failure.message
            ))
            .help(
                "name the key that must have signed with `--signed-by KEY`: `muster report --public-key` prints it",
            ));
        }
        Err(_) => None,
    };
    if common.json {
        output::json(&serde_json::json!({
            "run": subject.subject, "vault": subject.vault, "records": subject.records, "head": subject.head,
            "key": opened.key.to_string(), "signature": true, "journal": journal,
        }));
        return Ok(Exit::Done);
    }
    output::data(format!("the signature of the report of run {} holds: key {}", subject.subject, opened.key));
    match journal {
        Some(later) if later > 0 => output::data(format!("the vault's journal agrees, and has {later} records more")),
        Some(_) => output::data("the vault's journal agrees"),
        None => output::say("the vault was not asked: whether its journal agrees is not known"),
    }
    Ok(Exit::Done)
}

/// Whether the journal has the record that the report ends with; how many came after it.
fn agrees(file: &Path, subject: &Subject, dossier: &DossierAnswer) -> Result<u64> {
    let records = dossier.records.len() as u64;
    let next = dossier.records.iter().find(|record| record.seq == subject.records).map(|record| &record.prev_hash);
    let found = if records == subject.records { Some(&dossier.head) } else { next };
    if found == Some(&subject.head) {
        return Ok(records.saturating_sub(subject.records));
    }
    Err(Failure::refused(format!(
        "`{}` ends with record {} of hash {}, and the vault's journal of run {} does not",
        file.display(),
        subject.records.saturating_sub(1),
        subject.head.short(),
        subject.subject
    ))
    .help("the report is of another journal than the vault holds: `muster log --verify` checks that one"))
}
