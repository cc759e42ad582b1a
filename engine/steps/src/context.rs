//! What all steps share: which instance is meant, where it can be reached, how a failure names its site.

use crate::Steps;
use muster_executor::StepContext;
use muster_journal::StepOutput;
use muster_ports::*;
use muster_runsheet::{Action, Kind, NicShape, SheetPhase};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Time for a site that is only asked whether it answers, not waited for.
pub(crate) const SITE_ANSWER_MAX: Duration = Duration::from_secs(10);
/// Taken off what is left of a step, so that its own words are heard before the executor's limit cuts it off.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(250);

pub(crate) fn not_ours(cx: StepContext<'_>) -> Failure {
    Failure::permanent(format!("step `{}` belongs to the executor and has nothing to do here", cx.node.id))
        .help("this is a mistake in muster, not in the plan")
}

/// For effects that cannot be taken back: harmless as long as they have not happened.
pub(crate) fn no_way_back(cx: StepContext<'_>) -> Result<()> {
    if !cx.outputs.contains_key(&cx.node.id) {
        return Ok(());
    }
    Err(Failure::refused(format!("step `{}` has been carried out and cannot be taken back", cx.node.id))
        .help("decide `skip` to leave it as it is, and look at `muster status` for the way forward"))
}

/// The bubble of a drill is called like its run.
pub(crate) fn bubble_of(cx: StepContext<'_>) -> BubbleId {
    BubbleId::new(cx.run.as_str())
}

/// The drill that a cleanup takes away.
pub(crate) fn drill_of(cx: StepContext<'_>) -> Option<RunId> {
    cx.sheet.nodes.iter().find_map(|node| match &node.action {
        Action::Discard { drill: Some(drill), .. } | Action::DiscardBubble { drill, .. } => {
            Some(RunId::new(drill.as_str()))
        }
        _ => None,
    })
}

/// The instance of a machine in this operation, and the networks it is in: live, or a drill's clone in its bubble.
pub(crate) fn instance_of(cx: StepContext<'_>, machine: &MachineName, site: &SiteName) -> (InstanceName, NetworkScope) {
    let bubble = match cx.sheet.operation.kind {
        Kind::Test if *site == cx.sheet.target => Some(bubble_of(cx)),
        Kind::Cleanup => drill_of(cx).map(|drill| BubbleId::new(drill.as_str())),
        _ => None,
    };
    match bubble {
        Some(bubble) => (InstanceName::clone_in(machine, &bubble), NetworkScope::Bubble { bubble }),
        None => (InstanceName::live(machine), NetworkScope::Live),
    }
}

fn first_ip(nics: &[NicShape]) -> Option<IpAddr> {
    nics.iter().find_map(|nic| nic.ip)
}

/// The address a machine has at home, as discovered.
pub(crate) fn home_ip(cx: StepContext<'_>, machine: &MachineName) -> Option<IpAddr> {
    cx.sheet.machines.get(machine).and_then(|sheet| first_ip(&sheet.facts.nics))
}

/// The address a machine lands with in this operation.
pub(crate) fn landed_ip(cx: StepContext<'_>, machine: &MachineName, site: &SiteName) -> Option<IpAddr> {
    let landed = cx.sheet.nodes.iter().find_map(|node| match &node.action {
        Action::Promote { machine: of, site: at, nics, .. } | Action::Clone { machine: of, site: at, nics }
            if of == machine && at == site =>
        {
            first_ip(nics)
        }
        _ => None,
    });
    landed.or_else(|| home_ip(cx, machine))
}

/// Labels that let a step find after a crash what it made before it.
pub(crate) fn labels(cx: StepContext<'_>) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("muster.key".to_owned(), cx.key.to_string()),
        ("muster.run".to_owned(), cx.run.to_string()),
        ("muster.step".to_owned(), cx.node.id.to_string()),
    ])
}

/// Where the machines of a step are: in the leaving phase still at the source.
pub(crate) fn side_of(cx: StepContext<'_>) -> &SiteName {
    if cx.node.phase == SheetPhase::Leave { &cx.sheet.source } else { &cx.sheet.target }
}

pub(crate) fn text(text: impl Into<String>) -> StepOutput {
    StepOutput::Text { text: text.into() }
}

/// Puts the site in front of what it said, and says what to do when it did not answer.
pub(crate) fn at<T>(site: &SiteName, result: Result<T>) -> Result<T> {
    result.map_err(|failure| {
        let place = format!("site `{site}`");
        // What cannot be reached says so with its name; once is enough.
        let failure = if failure.message.starts_with(&place) { failure } else { failure.during(place) };
        if failure.class == FailureClass::Transient && failure.help.is_none() {
            return failure.help(format!("see whether the site agent of `{site}` runs and can be reached from here"));
        }
        failure
    })
}

impl Steps {
    pub(crate) fn site(&self, name: &SiteName) -> Result<&Arc<dyn Site>> {
        self.sites.get(name).ok_or_else(|| {
            let known: Vec<_> = self.sites.keys().map(SiteName::as_str).collect();
            Failure::permanent(format!("site `{name}` is not known here; known are `{}`", known.join("`, `")))
                .help("name its agent in `sites.plan` and start the run again with those plans")
        })
    }

    pub(crate) async fn state_of(&self, site: &SiteName, instance: &InstanceName) -> Result<Option<InstanceState>> {
        at(site, self.site(site)?.instance(instance).await)
    }

    /// What is left of the step, a little less so that it can still say why it gave up.
    pub(crate) fn left(&self, cx: StepContext<'_>) -> Duration {
        cx.deadline.since(self.clock.now()).saturating_sub(LAST_WORDS)
    }

    /// Waits for an answer, but not for long.
    pub(crate) async fn soon<T>(&self, site: &SiteName, answer: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            answer = answer => at(site, answer),
            () = self.clock.sleep(SITE_ANSWER_MAX) => {
                at(site, Err(Failure::transient(format!("no answer within {}", muster_runsheet::Duration::from(SITE_ANSWER_MAX)))))
            }
        }
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(bytes) = self.store.get(key).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failure::diverged(format!("the control state is damaged at `{key}`: {error}"))
                .help("run `muster vault info`; restore the vault from its copy if this record cannot be repaired")
        })
    }
}

pub(crate) fn put<T: Serialize>(key: String, value: &T) -> Result<Write> {
    let json =
        serde_json::to_vec(value).map_err(|error| Failure::permanent(format!("`{key}` cannot be written: {error}")))?;
    Ok(Write::put(key, json))
}
