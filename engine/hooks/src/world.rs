//! What the host needs from the world, as a trait, so that tests record instead of touching anything.

use crate::http::{self, HttpReply, HttpRequest};
use crate::value::HookMachine;
use async_trait::async_trait;
use muster_ports::{GuestCommand, GuestOutput, Probe, ProbeAnswer, Result};

/// The outward calls of hooks. The host has already checked the contract when it calls one of these.
#[async_trait]
pub trait World: Send + Sync + std::fmt::Debug {
    /// One exchange with the declared origin.
    async fn http(&self, request: &HttpRequest) -> Result<HttpReply> {
        http::exchange(request).await
    }
    async fn exec(&self, machine: &HookMachine, command: &GuestCommand) -> Result<GuestOutput>;
    /// Asked from inside the network the machines have landed in.
    async fn probe(&self, probe: &Probe) -> Result<ProbeAnswer>;
}
