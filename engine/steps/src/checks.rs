//! Checks: asked from inside the network the machine has landed in, again and again until true or the time is up.

use crate::Steps;
use crate::context::{at, instance_of, landed_ip, text};
use muster_executor::StepContext;
use muster_journal::StepOutput;
use muster_ports::*;
use muster_runsheet::ProbeCall;
use std::net::IpAddr;
use std::time::Duration;

/// Between two questions: short against any boot, long against the cost of asking.
const CHECK_POLL: Duration = Duration::from_secs(1);
/// Time for a single answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Characters of an answer that are kept for people.
const SHOWN_MAX: usize = 200;

impl Steps {
    pub(crate) async fn act_check(
        &self,
        cx: StepContext<'_>,
        machine: &MachineName,
        site: &SiteName,
        probe: &ProbeCall,
    ) -> Result<StepOutput> {
        loop {
            let last = match self.ask_once(cx, machine, site, probe).await {
                Ok(output) => return Ok(output),
                Err(failure) if matches!(failure.class, FailureClass::Permanent | FailureClass::Diverged) => {
                    return Err(failure);
                }
                Err(failure) => failure,
            };
            if self.left(cx) <= CHECK_POLL {
                return Err(Failure::timeout(format!("machine `{machine}` at site `{site}`: {} has not become true; last answer: {last}", shown(probe)))
                    .help(format!("look at the console of `{machine}`, mend it and decide `retry`, or give the check more time with `within`")));
            }
            self.clock.sleep(CHECK_POLL).await;
        }
    }

    async fn ask_once(
        &self,
        cx: StepContext<'_>,
        machine: &MachineName,
        site: &SiteName,
        probe: &ProbeCall,
    ) -> Result<StepOutput> {
        let (instance, scope) = instance_of(cx, machine, site);
        let within = ANSWER_MAX.min(self.left(cx)).max(Duration::from_millis(1));
        let reached = self.site(site)?;
        match probe {
            ProbeCall::Tcp { port } => {
                let probe = Probe::Tcp { ip: address(cx, machine, site)?, port: *port, within };
                at(site, reached.probe(&scope, &probe).await).map(|_| StepOutput::None)
            }
            ProbeCall::Http { port, path, .. } => {
                let probe = Probe::Http { ip: address(cx, machine, site)?, port: *port, path: path.clone(), within };
                let answer = at(site, reached.probe(&scope, &probe).await)?;
                if answer.status >= 400 {
                    return Err(Failure::transient(format!("http status {}", answer.status)));
                }
                Ok(text(format!("{} {}", answer.status, start_of(&answer.body)).trim_end()))
            }
            ProbeCall::Guest => at(site, reached.guest_ping(&instance).await).map(|()| StepOutput::None),
            ProbeCall::Command { program, arguments } => {
                let (program, arguments) = (program.clone(), arguments.clone());
                let command = GuestCommand { program, arguments, stdin: None, within: self.left(cx) };
                let output = at(site, reached.guest_exec(&instance, &command).await)?;
                if output.code != 0 {
                    let said = if output.err.trim().is_empty() { &output.out } else { &output.err };
                    return Err(Failure::transient(format!("exit code {}: {}", output.code, start_of(said))));
                }
                Ok(text(start_of(&output.out)))
            }
            ProbeCall::Hook { hook, arguments } => self.ask_hook(cx, hook, arguments).await,
        }
    }
}

fn address(cx: StepContext<'_>, machine: &MachineName, site: &SiteName) -> Result<IpAddr> {
    landed_ip(cx, machine, site).ok_or_else(|| {
        Failure::permanent(format!("machine `{machine}` has no address at site `{site}` that could be asked"))
            .help("give it an `ip` in the plan or the inventory, or check it with `guest()`")
    })
}

fn shown(probe: &ProbeCall) -> String {
    match probe {
        ProbeCall::Tcp { port } => format!("`tcp({port})`"),
        ProbeCall::Http { port, path } => format!("`http(\":{port}{path}\")`"),
        ProbeCall::Guest => "`guest()`".to_owned(),
        ProbeCall::Command { program, .. } => format!("`command(\"{program}\")`"),
        ProbeCall::Hook { hook, .. } => format!("probe `{hook}`"),
    }
}

/// The first line, as far as a table can show it.
fn start_of(answer: &str) -> String {
    answer.lines().next().unwrap_or_default().chars().take(SHOWN_MAX).collect()
}
