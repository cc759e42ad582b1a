//! The sites of the plans, each behind its agent.

use muster_agent::{RemoteSite, Token};
use muster_ports::{Site, SiteName};
use muster_runsheet::SiteSheet;
use muster_tls::Caller;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub struct Sites(pub BTreeMap<SiteName, Arc<dyn Site>>);

impl Sites {
    /// Connects lazily: a site that is down is found out by the step that needs it.
    /// Orders are given in the name of `writer`.
    pub fn behind_agents(sheets: &BTreeMap<SiteName, SiteSheet>, caller: Option<&Caller>, writer: &Token) -> Self {
        let site = |sheet: &SiteSheet| -> Arc<dyn Site> {
            let remote = RemoteSite::new(sheet.name.clone(), sheet.agent.clone());
            Arc::new(remote.called_as(caller.cloned()).commanded_by(writer.clone()))
        };
        Self(sheets.iter().map(|(name, sheet)| (name.clone(), site(sheet))).collect())
    }
}
