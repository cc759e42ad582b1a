//! The command line, as clap reads it. Help texts are the man page.

use crate::commands::bundle::BundleOptions;
use crate::commands::certificate::CertificateCommand;
use crate::commands::extract::{FilesCommand, MaterialiseOptions, MountOptions, RestoreOptions, ScanOptions};
use crate::commands::foresee::Asked;
use crate::commands::hook::HookCommand;
use crate::commands::report::ReportOptions;
use crate::commands::test::TestOptions;
use crate::commands::what_if::Circumstances;
use clap::{Args, Parser, Subcommand, ValueEnum};
use muster_ports::Result;
use muster_tls::Caller;
use muster_vault::{KeySource, Passphrase};
use std::path::PathBuf;

/// Disaster recovery as code: replicate machines, rehearse, fail over and fail back by plan.
#[derive(Debug, Parser)]
#[command(
    name = "muster",
    version,
    about,
    max_term_width = 110,
    after_help = "\
Exit codes: 0 done · 1 failed · 2 wrong usage · 3 the plans have errors · 4 a run waits for a person · \
5 refused (in use, fenced, not legal now) · 6 done, but degraded"
)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Folder with the `.plan` files and `inventory.json`.
    #[arg(long, short = 'C', global = true, default_value = ".", value_name = "FOLDER", env = "MUSTER_PLANS")]
    pub plans: PathBuf,
    /// Vault to use instead of the one the route names; lets a run go on without any `.plan` file.
    #[arg(long, global = true, value_name = "URL", env = "MUSTER_VAULT")]
    pub vault: Option<String>,
    /// File with the vault key. Without it MUSTER_KEY, when it is set, holds the key itself; else it is `muster.key`.
    #[arg(long, global = true, value_name = "FILE", env = "MUSTER_KEY_FILE")]
    key_file: Option<PathBuf>,
    /// File whose first line is a passphrase of the vault.
    #[arg(long, global = true, value_name = "FILE", env = "MUSTER_PASSPHRASE_FILE", conflicts_with = "key_file")]
    passphrase_file: Option<PathBuf>,
    /// Folder with the certificates of this side, as `muster certificate issue` writes it: to call the agents of sites on
    /// other machines, and for an agent to be called.
    #[arg(long, global = true, value_name = "FOLDER", env = "MUSTER_CERTIFICATES")]
    pub certificates: Option<PathBuf>,
    /// Take plans and the address of the vault from a bundle (see `bundle`) instead of a folder.
    #[arg(long, global = true, value_name = "FILE", env = "MUSTER_BUNDLE")]
    pub bundle: Option<PathBuf>,
    /// Print data as JSON on stdout.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more on stderr (-v info, -vv debug).
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Colour on stderr.
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
}

/// Holds the vault's key, as 64 hex digits, where no key file is named.
const KEY_VARIABLE: &str = "MUSTER_KEY";

impl Common {
    /// Who this side is to the agents of the sites.
    pub fn caller(&self) -> Result<Option<Caller>> {
        self.certificates.as_deref().map(Caller::open).transpose()
    }

    /// What opens the vault.
    pub fn key(&self) -> Result<KeySource> {
        if let Some(path) = &self.passphrase_file {
            return Ok(KeySource::Passphrase(Passphrase::from_file(path)?));
        }
        let variable = std::env::var_os(KEY_VARIABLE).is_some_and(|text| !text.is_empty());
        Ok(match &self.key_file {
            Some(path) => KeySource::File(path.clone()),
            None if variable => KeySource::Environment(KEY_VARIABLE.to_owned()),
            None => KeySource::File(PathBuf::from("muster.key")),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// Who does it and why; written to the journal.
#[derive(Clone, Debug, Args)]
pub struct Signature {
    /// Who.
    #[arg(long = "by", value_name = "NAME", env = "MUSTER_USER")]
    pub who: Option<String>,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub why: String,
}

/// How a run is watched.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    #[command(flatten)]
    pub signature: Signature,
    /// Return as soon as only a person can go on (exit code 4) instead of waiting for `muster approve` or `decide`.
    #[arg(long)]
    pub no_wait: bool,
    /// Show a live table where there is a terminal: what runs, what waits for whom, the time left; answer with its keys.
    #[arg(long)]
    pub watch: bool,
    /// Take the vault over although another muster seems alive; the other one is fenced. Needs `--by` and `--why`, which
    /// the journal of each run keeps that is taken up from it.
    #[arg(long)]
    pub steal: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check all plans: every mistake, with its place and its fix. Compiles every operation in both directions.
    ///
    /// Exits with 0 when the plans have no errors (warnings are allowed), with 3 when they have. With `--json` the report
    /// has the format `muster.check/1`.
    Check {
        /// Say only what is wrong in these files; all plans beside them are checked with them. Where the folder of the
        /// plans holds neither a plan nor an inventory itself, it is the folder of the first file.
        #[arg(conflicts_with = "watch")]
        files: Vec<PathBuf>,
        /// First correct what is certain: misspelt words of the language, unused imports. Prints each change; a file in
        /// which two fixes meet is left as it is. Names of your own are never guessed.
        #[arg(long)]
        fix: bool,
        /// Print SARIF 2.1.0 on stdout, for code hosts to show inline; paths are relative to where this runs.
        #[arg(long, conflicts_with = "json")]
        sarif: bool,
        /// Stay, and check again whenever a file changes, until interrupted; says how long each check took. With `--json`
        /// each check is one line.
        #[arg(long, conflicts_with_all = ["fix", "sarif"])]
        watch: bool,
    },
    /// Bring `.plan` files into the one canonical layout.
    Fmt {
        /// Files; all of the folder when none is given.
        files: Vec<PathBuf>,
        /// Change nothing; exit with 1 when a file would change.
        #[arg(long)]
        check: bool,
    },
    /// Print the page of an error code, `E0301`.
    Explain { code: String },
    /// Carry out the tests of the plans: compiled, or simulated in virtual time. Touches no site and no vault.
    ///
    /// Exits with 0 when all pass, with 1 when one fails or there is none, with 3 when the plans have errors. With
    /// `--json` the report has the format `muster.test/1`.
    Test(TestOptions),
    /// Run, test and trace hooks by themselves.
    #[command(subcommand)]
    Hook(HookCommand),
    /// Ask the sites what they have.
    #[command(subcommand)]
    Inventory(InventoryCommand),
    /// Make a vault, or look at one.
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Begin to replicate groups; all of the plans' groups when none is named. Records the intent; `replicate` does it.
    Protect {
        groups: Vec<String>,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Run the replication cycles, until interrupted.
    Replicate {
        /// One cycle of every group, then stop.
        #[arg(long)]
        once: bool,
        /// Stop when every group has a recovery point.
        #[arg(long, conflicts_with = "once")]
        until_protected: bool,
        /// Stop the schedule of these groups (all when none is named), until `--resume`. Changes are still tracked.
        #[arg(long, num_args = 0.., value_name = "GROUP", conflicts_with_all = ["once", "until_protected"])]
        pause: Option<Vec<String>>,
        /// Let the schedule of these groups (all when none is named) go on.
        #[arg(long, num_args = 0.., value_name = "GROUP", conflicts_with_all = ["once", "until_protected", "pause"])]
        resume: Option<Vec<String>>,
        #[command(flatten)]
        options: RunOptions,
    },
    /// A first copy that travels on a disk, for groups whose policy says `initial-copy = offline`.
    #[command(subcommand)]
    Seed(SeedCommand),
    /// Show plans, groups, lag, and what is legal now.
    Status,
    /// Print how replication stands as metrics, in the text format of Prometheus.
    Metrics,
    /// What runs where: every instance at every site.
    Machines,
    /// Switch one machine on or off at a site: for laboratories, and for repairs by hand.
    Power {
        #[arg(value_enum)]
        word: PowerWord,
        site: String,
        machine: String,
    },
    /// List recovery points.
    Points { group: Option<String> },
    /// Keep a recovery point, let it go, or delete it.
    #[command(subcommand)]
    Point(PointCommand),
    /// Read every object that a recovery point needs and compare it with what was noted when it was stored: finds rot
    /// and tampering without any key of the vault. Exits with 1 when something is damaged.
    Scrub,
    /// Open and check every frame of recovery points with the vault's key; shows the cut of each point. Exits with 1 when
    /// something is damaged.
    Verify {
        /// The newest point of each group when none is named.
        #[arg(conflicts_with = "all")]
        point: Option<String>,
        /// Every point.
        #[arg(long)]
        all: bool,
    },
    /// Write the disks of a recovery point as image files. Cut off, it leaves no half file under a final name.
    Materialise(MaterialiseOptions),
    /// Serve the disks of a recovery point as NBD on a Unix socket, read-only unless `--writable`, until interrupted.
    Mount(MountOptions),
    /// Files out of a recovery point without booting it: from ext2, ext3, ext4, xfs, NTFS and FAT.
    #[command(subcommand)]
    Files(FilesCommand),
    /// Make an image file or a block device of this machine equal to a disk of a recovery point; only differences are
    /// fetched and written. One that is in use is refused.
    Restore(RestoreOptions),
    /// Where an image file or a block device differs from a disk of a recovery point, found by hash. Changes nothing.
    ///
    /// Exits with 0 when it does not, with 1 when it does.
    Scan(ScanOptions),
    /// Show what an operation would do and how long it would take; changes nothing.
    DryRun {
        #[command(flatten)]
        asked: Asked,
        /// Write the runsheet to a file, to be reviewed and run.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Print the graph instead of the table.
        #[arg(long, value_enum, default_value_t = View::Table)]
        view: View,
    },
    /// The same with something going wrong: a slow link, a step that fails, a dead site, few boots at once; beside the
    /// plain estimate. Changes nothing.
    WhatIf {
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        circumstances: Circumstances,
    },
    /// Show a reviewed runsheet: its table, and what it takes for granted.
    Show {
        file: PathBuf,
        /// Print the graph instead of the table.
        #[arg(long, value_enum, default_value_t = View::Table)]
        view: View,
    },
    /// What changed between two runsheets: what runs earlier or later, what is no longer protected, the predicted time.
    ///
    /// Exits with 0 when they do the same, with 1 when they differ.
    Diff {
        before: PathBuf,
        /// What the plans of the folder would give now, when not named.
        after: Option<PathBuf>,
    },
    /// Whether the sites are still what the plans were compiled against: machines gone, new and changed.
    ///
    /// Exits with 0 when nothing drifted, with 1 when something did or a site did not answer.
    Drift {
        /// Compare with this inventory instead of asking the sites.
        #[arg(long, value_name = "FILE")]
        inventory: Option<PathBuf>,
    },
    /// Run a reviewed runsheet, exactly as it is.
    Run {
        file: PathBuf,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Rehearse: land the machines in a bubble. Production and replication go on.
    Drill {
        plan: String,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Take a drill away.
    Cleanup {
        plan: String,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Move production to the other site; unplanned unless `--planned`.
    Failover {
        plan: String,
        /// Orderly: stop, final sync, no loss.
        #[arg(long)]
        planned: bool,
        /// Recover to this point (see `points`).
        #[arg(long, value_name = "POINT", conflicts_with = "planned")]
        point: Option<String>,
        /// Sign now that both sides may run at once if the source is alive and cannot be reached.
        #[arg(long, conflicts_with = "planned")]
        accept_split_brain: bool,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Move production home; planned unless `--unplanned`.
    Failback {
        plan: String,
        #[arg(long)]
        unplanned: bool,
        #[arg(long, value_name = "POINT", requires = "unplanned")]
        point: Option<String>,
        #[arg(long, requires = "unplanned")]
        accept_split_brain: bool,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Make a failover final.
    Commit {
        plan: String,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Stop a run (before no return: undo it), or take a failover back before it is committed.
    Cancel {
        plan: String,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Replicate in the other direction after a committed failover.
    Reprotect {
        plan: String,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Go on with a run after a crash or a pause, from its stored runsheet. The newest unfinished one when none is named.
    Resume {
        run: Option<String>,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Land a failover again from another recovery point: after no return, and before its commit. What was written at the
    /// target since then is thrown away.
    Repoint {
        plan: String,
        /// The point to land from (see `points`).
        #[arg(long, value_name = "POINT")]
        point: String,
        /// Show what would be done, and how long it would take; nothing is begun.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Let a run begin no further step; what runs goes on to its end. `resume` lets it go on.
    Pause {
        run: String,
        #[command(flatten)]
        signature: Signature,
    },
    /// Put another runsheet in the place of the one that a run carries out; only steps that have not begun may differ.
    Amend {
        run: String,
        /// Written with `dry-run -o`.
        file: PathBuf,
        #[command(flatten)]
        signature: Signature,
    },
    /// Say what to do about a failed step.
    Decide {
        run: String,
        step: String,
        #[arg(value_enum)]
        decision: DecisionWord,
        #[command(flatten)]
        signature: Signature,
    },
    /// Answer a question of a run.
    Approve {
        run: String,
        step: String,
        /// Answer no.
        #[arg(long)]
        no: bool,
        #[command(flatten)]
        signature: Signature,
    },
    /// List runs.
    Runs,
    /// Print a run's journal; the newest run when none is named.
    Log {
        run: Option<String>,
        /// Check the chain of hashes.
        #[arg(long)]
        verify: bool,
    },
    /// Show a run's live table, whoever drives it; the newest run when none is named.
    Watch {
        run: Option<String>,
        #[command(flatten)]
        signature: Signature,
    },
    /// What a run did, for whoever asks afterwards: times, losses, signatures; signed with a key of the vault. Or check one.
    Report(ReportOptions),
    /// Pack plans, inventory, hooks and the catalogue of the vault into one signed file for the night in which nothing else
    /// is left; `--bundle FILE` lets every command work from it.
    Bundle(BundleOptions),
    /// Run the site agent beside a site's machines.
    Agent {
        #[arg(long, value_enum)]
        provider: ProviderWord,
        /// Name of the site, as in the plans.
        #[arg(long)]
        site: String,
        /// Folder of the site: its machines and the agent's own state.
        #[arg(long)]
        folder: PathBuf,
        /// Address and port to listen on; not an unspecified one.
        #[arg(long)]
        listen: String,
    },
    /// Who may call whom between machines: site agents, the engine, clients of `muster mount`.
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Bring recovery plans of another system over as a `.plan`; says on stderr what could not be said, and where it stood.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Write a plan for another system; says on stderr what is lost.
    #[command(subcommand)]
    Export(ExportCommand),
    /// A shop of simulated machines to try everything on without a hypervisor.
    #[command(subcommand)]
    Laboratory(LaboratoryCommand),
    /// Let guests go whose agent was killed in the middle of a cut. Only the agent starts it.
    #[command(hide = true)]
    CutWatchdog,
    /// Print completions for a shell.
    Completions { shell: clap_complete::Shell },
    /// Print the man page.
    Man,
}

#[derive(Debug, Subcommand)]
pub enum InventoryCommand {
    /// Ask every site and write `inventory.json`.
    Pull,
}

#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// Make the vault of the plans' route, and a key file when there is none.
    Init,
    /// What the vault holds.
    Info,
    /// Take away what no recovery point needs: first out of the catalogue, and by a later call, once the grace has passed,
    /// out of the store.
    Gc {
        /// How long what was unlinked may still be read by a machine that runs from it.
        #[arg(long, value_name = "TIME", default_value = "24h")]
        grace: String,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Who may open the vault.
    #[command(subcommand)]
    Key(KeyCommand),
}

#[derive(Debug, Subcommand)]
pub enum SeedCommand {
    /// Write the first copy of groups to a folder at their source, sealed with the vault's key. Changes are tracked from
    /// then on.
    Export {
        /// All that wait for one when none is named.
        groups: Vec<String>,
        /// Absolute path on the computer of the site agent, or the URL of a store that it reaches.
        #[arg(long, value_name = "FOLDER")]
        to: String,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Take first copies that have travelled into the vault. Begun again after a crash it goes on where it was.
    Import {
        /// All of which one was exported when none is named.
        groups: Vec<String>,
        /// The folder, on the computer of whoever holds the vault, or the URL of a store.
        #[arg(long, value_name = "FOLDER")]
        from: String,
        #[command(flatten)]
        options: RunOptions,
    },
}

#[derive(Debug, Subcommand)]
pub enum PointCommand {
    /// Keep a point until somebody releases it, or with `--until` until that date, before which nobody can let it go.
    Hold {
        point: String,
        /// `2034-01-01` or a moment, `2034-01-01T06:00:00Z`. Can be moved out later, never in.
        #[arg(long, value_name = "DATE")]
        until: Option<String>,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Lift the hold of a point. A date stands.
    Release {
        point: String,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Delete a point. One that is held or kept, that a run needs, or that is the newest of its group is refused.
    Delete {
        point: String,
        #[command(flatten)]
        options: RunOptions,
    },
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// The slots, each with its kind and label.
    List,
    /// Let another key open the vault. No data is rewritten.
    Add {
        #[command(flatten)]
        key: NewKey,
    },
    /// Take a slot away. The last one stays.
    Revoke {
        /// Its number, as `list` shows it.
        slot: u32,
    },
    /// Put a new key in the place of a slot.
    Rotate {
        /// Number of the slot that goes.
        slot: u32,
        #[command(flatten)]
        key: NewKey,
    },
}

/// A key for a new slot.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct NewKey {
    /// Key file to let in; made when it is not there.
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_file")]
    pub new_key_file: Option<PathBuf>,
    /// File whose first line is the new passphrase, of twelve characters or more; mode 0600.
    #[arg(long, value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,
    /// Whose it is and where it lies; not secret.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub label: String,
}

#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Azure Site Recovery: recovery plans with their policies, protected items, network mappings and fabrics.
    ///
    /// Each file is an ARM template (one compiled from Bicep too), a parameter file of one, a resource as the REST interface
    /// answers it, or a list of such resources. With `--json` the report has the format `muster.import/1`.
    Asr {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Write the plan to a file instead of stdout.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// VMware Site Recovery Manager: an exported configuration in XML, or REST resources in JSON.
    Srm {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Write the plan to a file instead of stdout.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// Azure Site Recovery: an ARM template with the plan as a recovery plan.
    Asr {
        plan: String,
        /// Write the template to a file instead of stdout.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum LaboratoryCommand {
    /// Make the machines db, app and web in a folder for `muster agent --provider simulated`.
    New { site: String, folder: PathBuf },
    /// Check image files of such machines: records, checksums, causality.
    Check { files: Vec<PathBuf> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum View {
    Table,
    Mermaid,
    Dot,
    Svg,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DecisionWord {
    Retry,
    Skip,
    DoneByHand,
    Redo,
    Abort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PowerWord {
    On,
    /// An orderly shutdown.
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProviderWord {
    Qemu,
    Simulated,
}
