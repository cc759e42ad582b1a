//! The isolated networks of a drill.

use crate::Steps;
use crate::context::{at, bubble_of, labels};
use muster_executor::{Observation, StepContext};
use muster_journal::StepOutput;
use muster_ports::*;

impl Steps {
    pub(crate) async fn observe_bubble(&self, site: &SiteName, bubble: &BubbleId, wanted: bool) -> Result<Observation> {
        let exists = at(site, self.site(site)?.bubbles().await)?.contains(bubble);
        Ok(if exists == wanted { Observation::Holds(StepOutput::None) } else { Observation::DoesNotHold })
    }

    pub(crate) async fn act_bubble(
        &self,
        cx: StepContext<'_>,
        site: &SiteName,
        networks: &[NetworkShape],
    ) -> Result<StepOutput> {
        let shape = BubbleShape { bubble: bubble_of(cx), networks: networks.to_vec(), labels: labels(cx) };
        at(site, self.site(site)?.create_bubble(&shape).await)?;
        Ok(StepOutput::None)
    }

    pub(crate) async fn act_discard_bubble(&self, site: &SiteName, bubble: &BubbleId) -> Result<StepOutput> {
        at(site, self.site(site)?.discard_bubble(bubble).await)?;
        Ok(StepOutput::None)
    }
}
