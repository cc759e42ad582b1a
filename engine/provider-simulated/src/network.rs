//! Networks, bubbles and what can be reached from where: a probe in a bubble reaches only machines in that bubble.

use crate::faults::CallClass;
use crate::folder::check_name;
use crate::image::ProgramKind;
use crate::site::Shared;
use muster_ports::*;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

impl Shared {
    pub(crate) fn ensure_networks(&self, networks: &[NetworkShape]) -> Result<()> {
        let mut state = self.state();
        for network in networks {
            check_name("network", network.name.as_str())?;
            match state.record.networks.get(&network.name) {
                Some(there) if there == network => {}
                Some(there) => {
                    return Err(Failure::refused(format!(
                        "the network `{}` exists with `{}`, not `{}`",
                        network.name, there.cidr, network.cidr
                    )));
                }
                None => {
                    state.record.networks.insert(network.name.clone(), network.clone());
                    self.effect(CallClass::Network, network.name.as_str(), None, true);
                }
            }
        }
        self.save_site(&state)
    }

    pub(crate) fn create_bubble(&self, shape: &BubbleShape) -> Result<()> {
        check_name("bubble", shape.bubble.as_str())?;
        let mut state = self.state();
        let key = shape.labels.get("muster.key").map(EffectKey::new);
        match state.record.bubbles.get(&shape.bubble) {
            Some(there) if there == shape => {
                self.effect(CallClass::Network, shape.bubble.as_str(), key, false);
                Ok(())
            }
            Some(_) => Err(Failure::refused(format!("a different bubble `{}` exists", shape.bubble))
                .help("discard it first, or run the cleanup of its drill")),
            None => {
                state.record.bubbles.insert(shape.bubble.clone(), shape.clone());
                self.save_site(&state)?;
                self.effect(CallClass::Network, shape.bubble.as_str(), key, true);
                Ok(())
            }
        }
    }

    pub(crate) fn discard_bubble(&self, bubble: &BubbleId) -> Result<()> {
        let mut state = self.state();
        let scope = NetworkScope::Bubble { bubble: bubble.clone() };
        let inside = |machine: &crate::site::Machine| machine.running.is_some() && machine.record.scope == scope;
        if let Some((instance, _)) = state.machines.iter().find(|(_, machine)| inside(machine)) {
            return Err(Failure::refused(format!("the bubble `{bubble}` still has `{instance}` running in it"))
                .help("stop and remove its machines first"));
        }
        let changed = state.record.bubbles.remove(bubble).is_some();
        self.save_site(&state)?;
        self.effect(CallClass::Network, bubble.as_str(), None, changed);
        Ok(())
    }

    /// A network card must fit into its bubble; live networks are the site's own affair. An obliging site has whatever
    /// network for tests is asked for beside it.
    pub(crate) fn check_scope(&self, shape: &MachineShape) -> Result<()> {
        let NetworkScope::Bubble { bubble } = &shape.scope else { return Ok(()) };
        let state = self.state();
        let known = state.record.bubbles.get(bubble).ok_or_else(|| no_bubble(bubble))?;
        for nic in &shape.nics {
            let fits = known.networks.iter().any(|network| network.name == nic.network);
            if !fits && !self.obliging.load(Ordering::SeqCst) {
                return Err(Failure::permanent(format!(
                    "the bubble `{bubble}` has no network `{}` for `{}`",
                    nic.network, shape.instance
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn probe(&self, scope: &NetworkScope, probe: &Probe) -> Result<ProbeAnswer> {
        if let NetworkScope::Bubble { bubble } = scope
            && !self.state().record.bubbles.contains_key(bubble)
        {
            return Err(no_bubble(bubble));
        }
        if self.obliging.load(Ordering::SeqCst) {
            return self.oblige(scope, probe);
        }
        match probe {
            Probe::Tcp { ip, port, .. } => {
                self.talk(scope, *ip, *port)?;
                Ok(ProbeAnswer { status: 0, body: String::new() })
            }
            Probe::Talk { ip, port, .. } => {
                let (_, body) = self.talk(scope, *ip, *port)?;
                Ok(ProbeAnswer { status: 0, body })
            }
            Probe::Http { ip, port, path, .. } => {
                let (kind, body) = self.talk(scope, *ip, *port)?;
                let path = path.split('?').next().unwrap_or(path);
                if !matches!(path, "/" | "/ready" | "/last") {
                    return Err(Failure::transient(format!("`{ip}:{port}{path}` answered 404")));
                }
                if kind == ProgramKind::Web && body.ends_with("unknown\n") {
                    return Err(Failure::transient(format!(
                        "`{ip}:{port}{path}` answered 502: its upstream is silent"
                    )));
                }
                Ok(ProbeAnswer { status: 200, body })
            }
        }
    }

    /// Whoever has the address answers, when it is on; one that nobody has is taken for that of a cluster.
    fn oblige(&self, scope: &NetworkScope, probe: &Probe) -> Result<ProbeAnswer> {
        let (ip, status) = match probe {
            Probe::Tcp { ip, .. } | Probe::Talk { ip, .. } => (*ip, 0),
            Probe::Http { ip, .. } => (*ip, 200),
        };
        let state = self.state();
        let inside = |machine: &&crate::site::Machine| machine.record.scope == *scope;
        let owned = |machine: &crate::site::Machine| machine.record.nics.iter().any(|nic| nic.ip == Some(ip));
        let on = |machine: &crate::site::Machine| machine.running.is_some();
        let answers = match state.machines.values().filter(inside).any(owned) {
            true => state.machines.values().filter(inside).any(|machine| owned(machine) && on(machine)),
            false => state.machines.values().filter(inside).any(on),
        };
        if answers {
            return Ok(ProbeAnswer { status, body: String::new() });
        }
        Err(Failure::transient(format!("`{ip}` does not answer: no machine is on with that address")))
    }

    /// Finds who listens there and lets it say its status.
    fn talk(&self, scope: &NetworkScope, ip: IpAddr, port: u16) -> Result<(ProgramKind, String)> {
        let now = self.clock.now();
        let guest = {
            let state = self.state();
            let Some(machine) = state.at_address(scope, ip) else {
                return Err(Failure::transient(format!("`{ip}` does not answer: no machine is on with that address")));
            };
            let Some(guest) = machine.guest(now) else {
                return Err(Failure::transient(format!("`{ip}:{port}` does not answer: its machine has not booted")));
            };
            std::sync::Arc::clone(guest)
        };
        if guest.program.port != port {
            return Err(Failure::transient(format!("`{ip}:{port}` refused the connection")));
        }
        Ok((guest.program.kind, guest.status(self.ask_upstream(scope, &guest))))
    }
}

fn no_bubble(bubble: &BubbleId) -> Failure {
    Failure::permanent(format!("there is no bubble `{bubble}` at this site"))
}
