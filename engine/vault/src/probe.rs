//! Whether a store keeps the one promise that everything here rests on: of several that create an object under one name
//! at the same moment, one wins, all others are told, and what the winner wrote stays.
//!
//! It is no proof: a store that breaks the promise once in a thousand times passes. It finds the many that speak the
//! protocol and ignore the condition, and whoever may not write or delete there.

use crate::error::VaultError;
use crate::place::Place;
use crate::vault::VaultId;
use bytes::Bytes;

/// Objects tried, one after another.
const ROUNDS: usize = 2;
/// Creators of each at once.
const CREATORS: usize = 4;

/// Leaves nothing behind. `id` is of the vault to be made, and makes the names new ones.
pub(crate) async fn probe(place: &Place, id: VaultId) -> Result<(), VaultError> {
    for round in 0..ROUNDS {
        let path = place.path(&format!("probe/{id}-{round}"))?;
        let broken = |reason: String| VaultError::Unconditional { url: place.url().to_owned(), reason };
        let content = |creator: usize| Bytes::from(format!("{id} {round} {creator}\n"));
        let tried = futures::future::join_all((0..CREATORS).map(|creator| place.create(&path, content(creator)))).await;
        let mut winners = Vec::new();
        for (creator, created) in tried.into_iter().enumerate() {
            if created? {
                winners.push(creator);
            }
        }
        let kept = place.read(&path).await?;
        // One that comes late must not win either.
        let late = place.create(&path, content(CREATORS)).await?;
        place.delete(&path).await?;
        let [winner] = winners.as_slice() else {
            return Err(broken(format!(
                "of {CREATORS} that created one object at once, {} were told they had",
                winners.len()
            )));
        };
        if late {
            return Err(broken("an object that was there was created again".to_owned()));
        }
        if kept.as_ref() != Some(&content(*winner)) {
            return Err(broken("what the first one wrote is not what lies there".to_owned()));
        }
        if place.read(&path).await?.is_some() {
            return Err(broken("an object that was deleted is still there".to_owned()));
        }
    }
    Ok(())
}
