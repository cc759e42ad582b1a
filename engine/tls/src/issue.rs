//! An authority of one's own, and what it signs.

use crate::folder::{AUTHORITY, AUTHORITY_KEY, CLIENT, SERVER, private, unusable};
use muster_ports::{Clock, Failure, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::path::Path;

/// A certificate that runs out is a second disaster on the night of the first.
pub const VALID_YEARS: i32 = 30;
const AUTHORITY_NAME: &str = "Muster sites";

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To be called: under the names and addresses it is issued for.
    Server,
    /// To call.
    Client,
}

impl Role {
    fn files(self) -> [&'static str; 2] {
        let (certificate, key) = match self {
            Self::Server => SERVER,
            Self::Client => CLIENT,
        };
        [certificate, key]
    }
}

/// Whoever holds its key says who belongs to the sites.
pub struct Authority {
    certificate: String,
    key: KeyPair,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one in a folder that has none: `ca-cert.pem` and `ca-key.pem`.
    pub fn make(folder: &Path, clock: &dyn Clock) -> Result<Self> {
        let key = KeyPair::generate().map_err(|error| unmade("an authority", error))?;
        let mut params = named(AUTHORITY_NAME, clock);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(|error| unmade("an authority", error))?.pem();
        make_folder(folder)?;
        write_new(folder, AUTHORITY_KEY, &key.serialize_pem(), 0o600)?;
        write_new(folder, AUTHORITY, &certificate, 0o644)?;
        Ok(Self { certificate, key })
    }

    pub fn open(folder: &Path) -> Result<Self> {
        let text = |bytes: Vec<u8>, name: &str| {
            String::from_utf8(bytes).map_err(|_| unusable(folder, name, "it is not text, as PEM is"))
        };
        let key = text(private(folder, AUTHORITY_KEY)?, AUTHORITY_KEY)?;
        let key = KeyPair::from_pem(&key).map_err(|error| unusable(folder, AUTHORITY_KEY, error))?;
        let path = folder.join(AUTHORITY);
        let certificate =
            std::fs::read(&path).map_err(|error| Failure::from(error).during(format!("read `{}`", path.display())))?;
        Ok(Self { certificate: text(certificate, AUTHORITY)?, key })
    }

    /// Writes the certificates of these roles, their keys and whom to believe into `folder`. A server is called by `names`:
    /// host names and IP addresses.
    pub fn issue(&self, folder: &Path, roles: &[Role], names: &[String], clock: &dyn Clock) -> Result<()> {
        if roles.contains(&Role::Server) && names.is_empty() {
            return Err(Failure::refused("a server has to be called by something")
                .help("give each host name and address it is called by: `--name 10.77.1.2`"));
        }
        let mut issuer = named(AUTHORITY_NAME, clock);
        issuer.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = Issuer::from_params(&issuer, &self.key);
        make_folder(folder)?;
        let believed = std::fs::read_to_string(folder.join(AUTHORITY)).ok();
        if believed.as_ref().is_some_and(|found| *found != self.certificate) {
            return Err(Failure::refused(format!("`{}` believes another authority", folder.display()))
                .help("use another folder, or move the old files away first"));
        }
        for name in roles.iter().flat_map(|role| role.files()) {
            // Before anything is written: a half of a folder helps nobody.
            refuse_if_there(folder, name)?;
        }
        for role in roles {
            let (usage, (certificate, key), common) = match role {
                Role::Server => {
                    (ExtendedKeyUsagePurpose::ServerAuth, SERVER, names.first().map_or("server", String::as_str))
                }
                Role::Client => (ExtendedKeyUsagePurpose::ClientAuth, CLIENT, "client"),
            };
            let own = KeyPair::generate().map_err(|error| unmade("a certificate", error))?;
            let mut params = named(common, clock);
            if *role == Role::Server {
                params.subject_alt_names = CertificateParams::new(names)
                    .map_err(|error| {
                        Failure::permanent(format!("a name of the server cannot stand in a certificate: {error}"))
                            .help("write host names and IP addresses as they stand in `sites.plan`, without ports")
                    })?
                    .subject_alt_names;
            }
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![usage];
            let signed = params.signed_by(&own, &issuer).map_err(|error| unmade("a certificate", error))?;
            write_new(folder, key, &own.serialize_pem(), 0o600)?;
            write_new(folder, certificate, &signed.pem(), 0o644)?;
        }
        if believed.is_none() {
            write_new(folder, AUTHORITY, &self.certificate, 0o644)?;
        }
        Ok(())
    }
}

/// Valid from the year before, so that a machine whose clock is behind is not shut out.
fn named(name: &str, clock: &dyn Clock) -> CertificateParams {
    const MEAN_YEAR_MILLIS: u64 = 31_556_952_000;
    let year = 1970 + i32::try_from(clock.now().0 / MEAN_YEAR_MILLIS).unwrap_or(0);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + VALID_YEARS, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params
}

fn make_folder(folder: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| Failure::from(error).during(format!("make `{}`", folder.display())))
}

/// Never over what is there: a key that is overwritten is gone.
fn write_new(folder: &Path, name: &str, text: &str, mode: u32) -> Result<()> {
    let path = folder.join(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let written = options.open(&path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => already_there(&path),
        _ => Failure::from(error).during(format!("write `{}`", path.display())),
    })
}

fn refuse_if_there(folder: &Path, name: &str) -> Result<()> {
    let path = folder.join(name);
    if path.symlink_metadata().is_ok() { Err(already_there(&path)) } else { Ok(()) }
}

fn already_there(path: &Path) -> Failure {
    Failure::refused(format!("`{}` is already there", path.display()))
        .help("use another folder, or move the old files away first")
}

fn unmade(what: &str, error: rcgen::Error) -> Failure {
    Failure::permanent(format!("{what} could not be made: {error}"))
}
