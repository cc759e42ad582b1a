//! `bundle`: one file for the night in which the control service and a site are gone; with it, the binary and the key, runs
//! go on from anywhere that reaches the vault and the other site.

use super::report::{open_vault, read_signed, signer, unsealed};
use super::{open, plans};
use crate::arguments::Common;
use crate::exit::Exit;
use crate::output;
use clap::Subcommand;
use muster_compiler::World;
use muster_control::{FolderWorld, PointsAnswer, Project, Request, StatusAnswer, plan_files, write_whole};
use muster_evidence::bundle::FILES_MAX;
use muster_evidence::{BUNDLE_FORMAT, Bundle, BundledFile, BundledVault, Form, Subject, seal};
use muster_ports::{Clock, Failure, Random, Result, SystemClock, SystemRandom};
use muster_runsheet::Hash;
use muster_vault::Vault;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a bundle's signature says it is.
const KIND: &str = "bundle";

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BundleOptions {
    /// Write the bundle of these plans and their vault.
    #[arg(long, short, value_name = "FILE", required = true)]
    output: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<BundleCommand>,
}

#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Check a bundle and say what it holds.
    Show { file: PathBuf },
    /// Check a bundle and write its plans into a new folder.
    Open { file: PathBuf, folder: PathBuf },
}

pub async fn bundle(common: &Common, options: &BundleOptions) -> Result<Exit> {
    match (&options.command, &options.output) {
        (Some(BundleCommand::Show { file }), _) => show(common, file).await,
        (Some(BundleCommand::Open { file, folder }), _) => unpack(common, file, folder).await,
        (None, Some(file)) => make(common, file).await,
        (None, None) => Err(Failure::permanent("no file is named").help("say `muster bundle -o FILE`")),
    }
}

/// Notes what the compiler reads: exactly that is what has to travel.
struct Noting {
    inner: FolderWorld,
    read: RefCell<BTreeMap<String, String>>,
}

impl World for Noting {
    fn read(&self, path: &str) -> Option<String> {
        let text = self.inner.read(path)?;
        self.read.borrow_mut().insert(path.to_owned(), text.clone());
        Some(text)
    }
    fn folder(&self) -> Option<String> {
        self.inner.folder()
    }
}

async fn make(common: &Common, file: &Path) -> Result<Exit> {
    let project = match plans::load(common)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    let vault = open_vault(common).await?;
    let access = open::reading(common, Some(&project)).await?;
    let known = async {
        let status: StatusAnswer = access.ask(&Request::Status, common).await?;
        let points: PointsAnswer = access.ask(&Request::Points { group: None }, common).await?;
        let catalogue = access.ask(&Request::Catalogue, common).await?;
        Ok::<_, Failure>((status, points, catalogue))
    };
    let known = known.await;
    access.close().await;
    let (status, points, catalogue) = known?;
    let files = packed(common, &project)?;
    let bundle = Bundle {
        format: BUNDLE_FORMAT.to_owned(),
        made: SystemClock.now(),
        muster: env!("CARGO_PKG_VERSION").to_owned(),
        vault: BundledVault { url: vault.url().to_owned(), id: vault.id().to_string() },
        keyring: project.checked.keyring().into_iter().map(str::to_owned).collect(),
        files,
        plans: status.plans,
        runs: status.runs,
        points: serde_json::to_value(&points.points).unwrap_or_default(),
        catalogue,
    };
    write_whole(file, signed(&bundle, &vault)?.as_bytes())?;
    let count = bundle.files.len();
    output::say(format!(
        "bundle of {count} files and {} recovery points written to {}",
        points.points.len(),
        file.display()
    ));
    if bundle.vault.url.starts_with("file:") {
        output::say("the vault is a folder of this computer: a bundle is of use where that folder can be reached");
    }
    if let Some(folder) = &common.certificates {
        output::say(format!("certificates are not in it; bring along: {}", folder.display()));
    }
    if !bundle.keyring.is_empty() {
        output::say(format!("secrets are not in it; bring along: {}", bundle.keyring.join(", ")));
    }
    Ok(Exit::Done)
}

fn signed(bundle: &Bundle, vault: &Vault) -> Result<String> {
    let body = bundle.to_json();
    let (files, head) = (bundle.files.len() as u64, Hash::of(&body));
    let subject = Subject {
        kind: KIND.to_owned(),
        vault: bundle.vault.id.clone(),
        subject: "plans".to_owned(),
        records: files,
        head,
    };
    seal::seal(Form::Json, &body, &subject, &signer(vault)?)
        .map_err(|error| Failure::permanent(format!("the bundle cannot be signed: {error}")))
}

fn packed(common: &Common, project: &Project) -> Result<BTreeMap<String, BundledFile>> {
    let world = Noting { inner: FolderWorld::new(&common.plans), read: RefCell::default() };
    muster_compiler::check(&world, &project.files);
    for file in plan_files(&common.plans)? {
        world.read(&file);
    }
    let read = world.read.into_inner();
    if read.len() > FILES_MAX {
        return Err(Failure::permanent(format!("the plans are {} files, more than {FILES_MAX}", read.len())));
    }
    Ok(read.into_iter().map(|(path, text)| (path, BundledFile::new(text))).collect())
}

/// Reads a bundle. Its own key says that nothing was changed; the vault, where it opens, says that its key made it.
async fn read(common: &Common, file: &Path) -> Result<(Bundle, bool)> {
    let text = read_signed(file)?;
    let opened = unsealed(file, &text, KIND, None)?;
    let bundle =
        Bundle::from_json(&text).map_err(|error| Failure::refused(format!("`{}`: {error}", file.display())))?;
    let url = common.vault.clone().unwrap_or_else(|| bundle.vault.url.clone());
    let vault = match common.key() {
        Ok(key) => Vault::open(&url, &key).await.ok(),
        Err(_) => None,
    };
    if let Some(vault) = &vault {
        let key = signer(vault)?.public();
        if key != opened.key {
            unsealed(file, &text, KIND, Some(&key))?;
        }
    }
    Ok((bundle, vault.is_some()))
}

fn say_unproven(file: &Path) {
    output::say(format!(
        "`{}` was not changed since it was signed; that the vault's key signed it is not known: the vault does not open here",
        file.display()
    ));
}

async fn show(common: &Common, file: &Path) -> Result<Exit> {
    let (bundle, proven) = read(common, file).await?;
    if !proven {
        say_unproven(file);
    }
    if common.json {
        output::json(&bundle);
        return Ok(Exit::Done);
    }
    let points = bundle.points.as_array().map_or(0, Vec::len);
    let mut rows = vec![
        vec!["made".to_owned(), output::date_time(bundle.made.0)],
        vec!["vault".to_owned(), format!("{} ({})", bundle.vault.url, bundle.vault.id)],
        vec!["points".to_owned(), points.to_string()],
        vec!["runs".to_owned(), bundle.runs.len().to_string()],
    ];
    rows.extend(bundle.files.keys().map(|path| vec!["file".to_owned(), path.clone()]));
    rows.extend(bundle.keyring.iter().map(|name| vec!["bring along".to_owned(), name.clone()]));
    output::data(output::table(&["holds", "what"], &rows));
    Ok(Exit::Done)
}

async fn unpack(common: &Common, file: &Path, folder: &Path) -> Result<Exit> {
    let (bundle, proven) = read(common, file).await?;
    if !proven {
        say_unproven(file);
    }
    write_files(&bundle, folder)?;
    output::say(format!("{} files written to {}", bundle.files.len(), folder.display()));
    output::data(format!("muster -C {} --vault {} status", folder.display(), bundle.vault.url));
    Ok(Exit::Done)
}

/// Into a folder that is new or empty: what lies there already could be other plans.
fn write_files(bundle: &Bundle, folder: &Path) -> Result<()> {
    let during = |error: std::io::Error| Failure::from(error).during(format!("write `{}`", folder.display()));
    std::fs::create_dir_all(folder).map_err(during)?;
    if std::fs::read_dir(folder).map_err(during)?.next().is_some() {
        return Err(Failure::refused(format!("the folder `{}` is not empty", folder.display()))
            .help("name a folder that is not there yet"));
    }
    for (path, file) in &bundle.files {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(during)?;
        }
        std::fs::write(&path, &file.text)
            .map_err(|error| Failure::from(error).during(format!("write `{}`", path.display())))?;
    }
    Ok(())
}

/// The plans of a bundle in a folder of their own, as long as the command runs.
#[derive(Debug)]
pub struct Unpacked(PathBuf);

impl Drop for Unpacked {
    fn drop(&mut self) {
        // Left behind it is a folder in the temporary folder of the computer.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `--bundle FILE`: the command sees the bundle's plans and its vault, as if it had been typed where the bundle was made.
pub async fn enter(common: &mut Common, file: &Path) -> Result<Unpacked> {
    let (bundle, proven) = read(common, file).await?;
    if !proven {
        say_unproven(file);
    }
    let folder = std::env::temp_dir().join(format!("muster-bundle-{:016x}", SystemRandom.next_u64()));
    // Its owner's alone, and new: plans name every machine there is.
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder).map_err(|error| Failure::from(error).during(format!("make `{}`", folder.display())))?;
    let unpacked = Unpacked(folder.clone());
    write_files(&bundle, &folder)?;
    common.plans = folder;
    common.vault.get_or_insert(bundle.vault.url);
    Ok(unpacked)
}
