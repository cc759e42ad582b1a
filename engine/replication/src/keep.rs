//! Points that people keep: a hold until somebody lifts it, and a date before which nobody can.
//!
//! Both are promises of Muster. Whoever has the store's credentials can delete objects all the same, unless the bucket
//! has a lock of its own.

use crate::catalogue::put;
use crate::records::*;
use crate::recovery::PointSummary;
use crate::replicator::Replicator;
use muster_ports::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Why a point is not to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    pub point: PointId,
    pub group: GroupName,
    /// Until somebody lifts it.
    pub hold: Option<Hold>,
    /// Nobody can let the point go before.
    pub until: Option<Timestamp>,
}

/// Who holds a point, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub who: String,
    pub why: String,
    pub since: Timestamp,
}

impl Keep {
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.hold.is_some() || self.until.is_some_and(|until| now < until)
    }

    /// `held by anna since 2027-01-15T08:00:00Z (audit)`, `kept until 2034-01-01T00:00:00Z`.
    pub fn words(&self, now: Timestamp) -> String {
        let hold = self.hold.as_ref().map(|hold| {
            let why = if hold.why.is_empty() { String::new() } else { format!(" ({})", hold.why) };
            format!("held by {} since {}{why}", hold.who, moment(hold.since))
        });
        let until = self.until.filter(|until| now < *until).map(|until| format!("kept until {}", moment(until)));
        let all: Vec<String> = hold.into_iter().chain(until).collect();
        all.join(", ")
    }
}

fn moment(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(millis / 1000).map_or_else(|_| millis.to_string(), |at| at.to_string())
}

fn keep_key(point: &PointId) -> String {
    format!("keep/{point}")
}

impl Replicator {
    /// By the clock that retention goes by.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Every record of a kept point, in force or not.
    pub async fn keeps(&self) -> Result<Vec<Keep>> {
        self.catalogue.keeps().await
    }

    /// Points that neither retention nor a person may drop: runs need them, or people keep them.
    pub(crate) async fn held(&self) -> Result<BTreeSet<PointId>> {
        let now = self.clock.now();
        let mut held = self.catalogue.held().await?;
        held.extend(self.keeps().await?.into_iter().filter(|keep| keep.is_in_force(now)).map(|keep| keep.point));
        Ok(held)
    }

    /// Keeps a point: with a date, so that nobody can let it go before; without, until [`lift`](Self::lift). A date can
    /// be moved out, never in.
    pub async fn keep(&self, point: &PointId, until: Option<Timestamp>, who: &str, why: &str) -> Result<Keep> {
        let _points = self.points_lock.lock().await;
        let group = self.catalogue.point(point).await?.summary.group;
        let now = self.clock.now();
        let known = self.catalogue.keep(&keep_key(point)).await?;
        let mut keep = known.unwrap_or(Keep { point: point.clone(), group, hold: None, until: None });
        match until {
            Some(until) if until <= now => {
                return Err(Failure::permanent(format!("{} has passed", moment(until))).help("name a date to come"));
            }
            Some(until) if keep.until.is_some_and(|known| until < known) => {
                let known = keep.until.unwrap_or(until);
                return Err(Failure::refused(format!("the point `{point}` is kept until {}", moment(known)))
                    .help("a date can be moved out, never in"));
            }
            Some(until) => keep.until = Some(until),
            None => keep.hold = Some(Hold { who: who.to_owned(), why: why.to_owned(), since: now }),
        }
        self.catalogue.store.write(vec![put(keep_key(point), &keep)?]).await?;
        Ok(keep)
    }

    /// Lifts the hold of a point. Its date, if it has one, stands; what is left of it is the answer.
    pub async fn lift(&self, point: &PointId) -> Result<Option<Keep>> {
        let _points = self.points_lock.lock().await;
        let now = self.clock.now();
        let Some(mut keep) = self.catalogue.keep(&keep_key(point)).await? else {
            self.catalogue.point(point).await?;
            return Err(Failure::refused(format!("nobody holds the point `{point}`")));
        };
        if keep.hold.take().is_none() && keep.is_in_force(now) {
            let words = keep.words(now);
            return Err(Failure::refused(format!("the point `{point}` is {words}"))
                .help("nobody can let it go before that date"));
        }
        let left = keep.is_in_force(now).then_some(keep);
        let write = match &left {
            Some(keep) => put(keep_key(point), keep)?,
            None => Write::delete(keep_key(point)),
        };
        self.catalogue.store.write(vec![write]).await?;
        Ok(left)
    }

    /// Drops one point because a person says so. What only it needed is reclaimed by [`gc`](Self::gc).
    pub async fn drop_point(&self, point: &PointId) -> Result<PointSummary> {
        let _points = self.points_lock.lock().await;
        let found = self.catalogue.point(point).await?.summary;
        let now = self.clock.now();
        let keep = self.catalogue.keep(&keep_key(point)).await?.filter(|keep| keep.is_in_force(now));
        let refused =
            |why: String| Err(Failure::refused(format!("the point `{point}` of `{}` stays: {why}", found.group)));
        if let Some(keep) = keep {
            return refused(format!("it is {}", keep.words(now)));
        }
        if self.catalogue.held().await?.contains(point) {
            return refused("a run needs it".to_owned());
        }
        if let Some(protection) = self.catalogue.find_protection(&found.group).await? {
            if protection.origin.as_ref() == Some(point) {
                return refused("replication in this direction began with it".to_owned());
            }
            if self.points(&found.group).await?.last().is_some_and(|newest| newest.id == *point) {
                return refused("it is the newest; without it nothing could be recovered".to_owned());
            }
        }
        let writes = vec![Write::delete(point_key(&found.group, point)), Write::delete(keep_key(point))];
        self.catalogue.store.write(writes).await?;
        Ok(found)
    }

    /// Records of points that are gone or whose date has passed.
    pub(crate) async fn stale_keeps(&self) -> Result<Vec<Write>> {
        let now = self.clock.now();
        let mut stale = Vec::new();
        for keep in self.keeps().await? {
            if !keep.is_in_force(now) {
                stale.push(Write::delete(keep_key(&keep.point)));
            }
        }
        Ok(stale)
    }
}
