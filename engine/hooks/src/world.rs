//! What the host needs from the world, as a trait, so that tests record instead of touching anything.

use crate::http::{self, HttpReply, HttpRequest};
use crate::mail::{self, MailOrder};
use crate::secret::{Hidden, read_keyring};
use crate::value::HookMachine;
use async_trait::async_trait;
use muster_ports::{GuestCommand, GuestOutput, Probe, ProbeAnswer, Result};
use std::time::Duration;

/// The outward calls of hooks. The host has already checked the contract when it calls one of these.
#[async_trait]
pub trait World: Send + Sync + std::fmt::Debug {
    /// One exchange with the declared origin.
    async fn http(&self, request: &HttpRequest) -> Result<HttpReply> {
        http::exchange(request).await
    }
    /// One message to the declared name server, and its reply.
    async fn dns(&self, server: &str, message: &[u8], within: Duration) -> Result<Vec<u8>> {
        crate::dns::exchange(server, message, within).await
    }
    /// One mail to the declared server.
    async fn mail(&self, order: &MailOrder) -> Result<()> {
        mail::send(order).await
    }
    /// Opens a key of the keyring.
    async fn secret(&self, key: &str) -> Result<Hidden> {
        read_keyring(key)
    }
    async fn exec(&self, machine: &HookMachine, command: &GuestCommand) -> Result<GuestOutput>;
    /// Asked from inside the network the machines have landed in.
    async fn probe(&self, probe: &Probe) -> Result<ProbeAnswer>;
}
