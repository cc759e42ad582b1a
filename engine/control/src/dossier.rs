//! A run with everything that a report of it, or a look at it, needs; and the vault's catalogue as it is stored.

use crate::answers::DossierAnswer;
use crate::service::newest_first;
use muster_journal::RunStore;
use muster_ports::*;
use muster_replication::Replicator;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a bundle takes along of the control state: protection and order of the points. Layers name segments, which only a
/// reader of the vault can use, who then has the layers too.
const CATALOGUE: [&str; 4] = ["group/", "lineage/", "point/", "hold/"];

/// The named run, or the newest, its chain checked.
pub(crate) async fn dossier(
    store: &Arc<dyn StateStore>,
    replicator: &Replicator,
    run: Option<RunId>,
) -> Result<DossierAnswer> {
    let run = match run {
        Some(run) => run,
        None => {
            let newest = newest_first(store).await?.into_iter().next();
            newest.ok_or_else(|| Failure::permanent("there is no run in this vault yet"))?.id
        }
    };
    let loaded = RunStore::new(store.clone()).load(&run).await?;
    let known: Vec<GroupName> = replicator.status().await?.into_iter().map(|status| status.group).collect();
    let mut kinds = BTreeMap::new();
    for group in loaded.sheet.groups.keys().filter(|group| known.contains(group)) {
        for point in replicator.points(group).await? {
            let kind = serde_json::to_value(point.kind).ok();
            let word = kind.and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
            kinds.insert(point.id.to_string(), word);
        }
    }
    let head = loaded.head().clone();
    Ok(DossierAnswer { run, sheet: Box::new((*loaded.sheet).clone()), records: loaded.records, head, kinds })
}

/// Records of groups, lineages, points and holds, by key.
pub(crate) async fn catalogue(store: &Arc<dyn StateStore>) -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for prefix in CATALOGUE {
        for (key, bytes) in store.scan(prefix).await? {
            let value = serde_json::from_slice(&bytes)
                .map_err(|error| Failure::diverged(format!("`{key}` of the vault does not read back: {error}")))?;
            found.insert(key, value);
        }
    }
    Ok(found)
}
