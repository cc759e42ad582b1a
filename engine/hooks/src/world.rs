//! What the host needs from the world, as a trait, so that tests record instead of touching anything.

use crate::http::{self, HttpReply, HttpRequest};
use crate::mail::{self, MailOrder};
use crate::secret::{Hidden, read_keyring};
use crate::stand_in::StandIn;
use crate::value::HookMachine;
use async_trait::async_trait;
use muster_ports::{Concealed, Failure, GuestCommand, GuestOutput, Probe, ProbeAnswer, Result, ShellOrder};
use std::time::Duration;

/// The outward calls of hooks. The host has already checked the contract when it calls one of these.
#[async_trait]
pub trait World: Send + Sync + std::fmt::Debug {
    /// What stands in for the world beyond the sites, in a rehearsal; `None` is the world itself.
    fn outside(&self) -> Option<&dyn Outside> {
        None
    }
    /// Who meets every call and may answer it; `None` outside of trials.
    fn stand_in(&self) -> Option<&dyn StandIn> {
        None
    }
    /// One exchange with the declared origin.
    async fn http(&self, request: &HttpRequest) -> Result<HttpReply> {
        match self.outside() {
            Some(outside) => outside.http(request).await,
            None => http::exchange(request).await,
        }
    }
    /// One message to the declared name server, and its reply.
    async fn dns(&self, server: &str, message: &[u8], within: Duration) -> Result<Vec<u8>> {
        match self.outside() {
            Some(outside) => outside.dns(server, message).await,
            None => crate::dns::exchange(server, message, within).await,
        }
    }
    /// One mail to the declared server.
    async fn mail(&self, order: &MailOrder) -> Result<()> {
        match self.outside() {
            Some(outside) => outside.mail(order).await,
            None => mail::send(order).await,
        }
    }
    /// Opens a key of the keyring.
    async fn secret(&self, key: &str) -> Result<Hidden> {
        match self.outside() {
            Some(outside) => outside.secret(key).await,
            None => read_keyring(key),
        }
    }
    async fn exec(&self, machine: &HookMachine, command: &GuestCommand) -> Result<GuestOutput>;
    /// Over SSH, from inside the network the machine has landed in.
    async fn shell(&self, machine: &HookMachine, _order: &ShellOrder) -> Result<GuestOutput> {
        Err(nobody_there(machine))
    }
    /// A file on the machine's first disk, while it is off.
    async fn disk_read(&self, machine: &HookMachine, _path: &str) -> Result<Option<String>> {
        Err(nobody_there(machine))
    }
    async fn disk_write(&self, machine: &HookMachine, _path: &str, _text: &Concealed) -> Result<()> {
        Err(nobody_there(machine))
    }
    /// Asked from inside the network the machines have landed in.
    async fn probe(&self, probe: &Probe) -> Result<ProbeAnswer>;
}

fn nobody_there(machine: &HookMachine) -> Failure {
    Failure::permanent(format!("there is no machine `{}` here", machine.name))
}

/// The world beyond the sites: everything a hook may reach that is no machine of the plans.
#[async_trait]
pub trait Outside: Send + Sync + std::fmt::Debug {
    async fn http(&self, request: &HttpRequest) -> Result<HttpReply>;
    async fn dns(&self, server: &str, message: &[u8]) -> Result<Vec<u8>>;
    async fn mail(&self, order: &MailOrder) -> Result<()>;
    async fn secret(&self, key: &str) -> Result<Hidden>;
}
