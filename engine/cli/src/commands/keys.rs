//! `vault key list|add|revoke|rotate`: who may open the vault.

use super::open;
use crate::arguments::{Common, KeyCommand, NewKey};
use crate::exit::Exit;
use crate::output;
use muster_control::Project;
use muster_ports::{Failure, Result, SystemRandom};
use muster_vault::{KeySource, Passphrase, SlotInfo, Vault};

pub async fn key(common: &Common, command: KeyCommand) -> Result<Exit> {
    let project = Project::load(&common.plans).ok();
    let url = open::vault_url(common, project.as_ref())?;
    let vault = Vault::open(&url, &common.key()?).await?;
    match command {
        KeyCommand::List => list(common, &vault).await,
        KeyCommand::Add { key } => {
            let slot = add(&vault, &key).await?;
            shown(common, "added", slot)
        }
        KeyCommand::Revoke { slot } => {
            let revoked = vault.revoke_slot(slot).await?;
            warn_of(&revoked);
            shown(common, "revoked", slot)
        }
        KeyCommand::Rotate { slot, key } => {
            if !vault.slots().await?.iter().any(|known| known.number == slot) {
                return Err(Failure::permanent(format!("there is no key slot `keys/{slot}.slot`"))
                    .help("`muster vault key list` shows the slots"));
            }
            // The new one first: were this interrupted, both open the vault.
            let added = add(&vault, &key).await?;
            let revoked = vault.revoke_slot(slot).await?;
            warn_of(&revoked);
            shown(common, "added", added)
        }
    }
}

async fn list(common: &Common, vault: &Vault) -> Result<Exit> {
    let slots = vault.slots().await?;
    if common.json {
        let rows: Vec<_> = slots
            .iter()
            .map(|slot| serde_json::json!({ "slot": slot.number, "kind": slot.kind, "label": slot.label }))
            .collect();
        output::json(&rows);
        return Ok(Exit::Done);
    }
    let rows =
        slots.iter().map(|slot| format!("{:<5} {:<11} {}", slot.number, slot.kind, slot.label).trim_end().to_owned());
    let head = "slot  kind        label".to_owned();
    output::data(std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n"));
    Ok(Exit::Done)
}

async fn add(vault: &Vault, key: &NewKey) -> Result<u32> {
    let source = match (&key.new_key_file, &key.new_passphrase_file) {
        (Some(path), _) if path.exists() => KeySource::File(path.clone()),
        (Some(path), _) => {
            let made = KeySource::generate_file(path, &SystemRandom)?;
            output::say(format!("key file made: {}", path.display()));
            made
        }
        (None, Some(path)) => KeySource::Passphrase(Passphrase::from_file(path)?),
        (None, None) => {
            return Err(Failure::permanent("no new key is named")
                .help("say `--new-key-file FILE` or `--new-passphrase-file FILE`"));
        }
    };
    Ok(vault.add_slot(&source, &key.label).await?)
}

fn warn_of(revoked: &SlotInfo) {
    let of = if revoked.label.is_empty() { String::new() } else { format!(" ({})", revoked.label) };
    output::say(format!(
        "slot {}{of} opens the vault no more; what its owner could read before may have been copied: take away the \
         access to the store too",
        revoked.number
    ));
}

fn shown(common: &Common, done: &str, slot: u32) -> Result<Exit> {
    if common.json {
        output::json(&serde_json::json!({ done: slot }));
    } else {
        output::data(format!("{done} slot {slot}"));
    }
    Ok(Exit::Done)
}
