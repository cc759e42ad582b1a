//! `certificate`: who may call whom between machines.

use crate::exit::Exit;
use crate::output;
use clap::Subcommand;
use muster_ports::{Result, SystemClock};
use muster_tls::{Authority, Role, VALID_YEARS};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// Make an authority of your own: whoever has this folder says who belongs to the sites. Keep it offline.
    Authority { folder: PathBuf },
    /// Write the certificate of one side, its key, and whom it believes, into a new folder.
    ///
    /// With names it is one to be called by: of a site agent, of a `muster mount`. Without, it is one to call with: of the engine,
    /// of QEMU. Never both: an agent that was taken over must not command the agent of the other site.
    Issue {
        folder: PathBuf,
        /// Folder of the authority.
        #[arg(long, value_name = "FOLDER")]
        authority: PathBuf,
        /// Host name or IP address under which this side is called, without port; once for each.
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
    },
}

pub fn certificate(command: CertificateCommand) -> Result<Exit> {
    match command {
        CertificateCommand::Authority { folder } => {
            Authority::make(&folder, &SystemClock)?;
            output::say(format!("a new authority in {}, good for {VALID_YEARS} years", folder.display()));
            output::say("keep `ca-key.pem` offline: whoever has it can command every site that believes it");
        }
        CertificateCommand::Issue { folder, authority, names } => {
            let role = if names.is_empty() { Role::Client } else { Role::Server };
            Authority::open(&authority)?.issue(&folder, &[role], &names, &SystemClock)?;
            let what =
                if names.is_empty() { "to call with".to_owned() } else { format!("called {}", names.join(", ")) };
            output::say(format!("a certificate in {}, {what}, good for {VALID_YEARS} years", folder.display()));
        }
    }
    Ok(Exit::Done)
}
