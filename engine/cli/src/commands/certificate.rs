//! `certificate`: who may call whom between machines.

use crate::exit::Exit;
use crate::output;
use clap::{Subcommand, ValueEnum};
use muster_ports::{Result, SystemClock};
use muster_tls::{Authority, Role, VALID_YEARS};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// Make an authority of your own: whoever has this folder says who belongs to the sites. Keep it offline.
    Authority { folder: PathBuf },
    /// Write the certificates of one side, and whom it believes, into a new folder.
    Issue {
        folder: PathBuf,
        /// Folder of the authority.
        #[arg(long, value_name = "FOLDER")]
        authority: PathBuf,
        /// Host name or IP address under which this side is called, without port; once for each.
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        /// A site agent or a `muster mount` is called (server); the engine and QEMU call (client). Both when names are
        /// given, else a client.
        #[arg(long, value_enum, value_name = "ROLE")]
        only: Option<RoleWord>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleWord {
    Server,
    Client,
}

pub fn certificate(command: CertificateCommand) -> Result<Exit> {
    match command {
        CertificateCommand::Authority { folder } => {
            Authority::make(&folder, &SystemClock)?;
            output::say(format!("a new authority in {}, good for {VALID_YEARS} years", folder.display()));
            output::say("keep `ca-key.pem` offline: whoever has it can command every site that believes it");
        }
        CertificateCommand::Issue { folder, authority, names, only } => {
            let roles: &[Role] = match only {
                Some(RoleWord::Server) => &[Role::Server],
                Some(RoleWord::Client) => &[Role::Client],
                None if names.is_empty() => &[Role::Client],
                None => &[Role::Server, Role::Client],
            };
            Authority::open(&authority)?.issue(&folder, roles, &names, &SystemClock)?;
            let called = if names.is_empty() { String::new() } else { format!(", called {}", names.join(", ")) };
            output::say(format!("certificates in {}{called}, good for {VALID_YEARS} years", folder.display()));
        }
    }
    Ok(Exit::Done)
}
