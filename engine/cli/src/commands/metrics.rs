//! `metrics`: how replication stands, as Prometheus reads it. Asked for when wanted; nothing listens.

use super::open;
use crate::arguments::Common;
use crate::exit::Exit;
use crate::output;
use muster_control::{Project, Request, StatusAnswer};
use muster_ports::Result;
use muster_replication::{GroupPhase, GroupStatus};
use std::fmt::Write;

/// Name, kind, help, and the value of a group; `None` leaves the line out.
type Metric = (&'static str, &'static str, &'static str, fn(&GroupStatus) -> Option<f64>);

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

fn flag(is: bool) -> Option<f64> {
    Some(f64::from(u8::from(is)))
}

const METRICS: &[Metric] = &[
    ("lag_seconds", "gauge", "Age of the newest recovery point.", |group| group.lag_millis.map(seconds)),
    ("rpo_seconds", "gauge", "Promised age of the newest recovery point.", |group| Some(seconds(group.rpo_millis))),
    ("within_rpo", "gauge", "1 while the promise is kept.", |group| flag(group.within_rpo)),
    ("points", "gauge", "Recovery points.", |group| Some(group.points as f64)),
    ("paused", "gauge", "1 while a person has stopped the schedule.", |group| {
        flag(matches!(group.phase, GroupPhase::Paused { .. }))
    }),
    ("resync_required", "gauge", "1 while a disk has to be read in full.", |group| {
        flag(matches!(group.phase, GroupPhase::Resync { .. } | GroupPhase::ResyncRequired { .. }))
    }),
    ("suspended", "gauge", "1 while a failover has production.", |group| {
        flag(matches!(group.phase, GroupPhase::Suspended { .. }))
    }),
    ("failing", "gauge", "Cycles that failed since the last good one.", |group| {
        Some(group.last_error.as_ref().map_or(0.0, |error| f64::from(error.in_a_row)))
    }),
    ("cycles_total", "counter", "Cycles that made a recovery point.", |group| Some(group.totals.cycles as f64)),
    ("failed_cycles_total", "counter", "Cycles that failed.", |group| Some(group.totals.failed_cycles as f64)),
    ("resyncs_total", "counter", "Cycles that read a disk in full because its changes were not known.", |group| {
        Some(group.totals.resyncs as f64)
    }),
    ("read_bytes_total", "counter", "Bytes read from disks.", |group| Some(group.totals.read_bytes as f64)),
    ("zero_bytes_total", "counter", "Bytes found to be zero.", |group| Some(group.totals.zero_bytes as f64)),
    ("sent_bytes_total", "counter", "Bytes sent, before compression.", |group| Some(group.totals.sent_bytes as f64)),
    ("stored_bytes_total", "counter", "Bytes stored in the vault.", |group| Some(group.totals.stored_bytes as f64)),
    ("compression_ratio", "gauge", "Stored bytes to sent bytes of the last cycle.", |group| {
        let cycle = group.last_cycle.as_ref().filter(|cycle| cycle.sent_bytes > 0)?;
        Some(cycle.stored_bytes as f64 / cycle.sent_bytes as f64)
    }),
    ("last_cycle_seconds", "gauge", "How long the last good cycle took.", |group| {
        group.last_cycle.as_ref().map(|cycle| cycle.ended.since(cycle.started).as_secs_f64())
    }),
    (
        "last_flush_seconds",
        "gauge",
        "How long guests flushed for the last cut, before all of them stood still.",
        |group| group.last_cycle.as_ref().map(|cycle| cycle.flush_micros as f64 / 1e6),
    ),
    ("last_hold_seconds", "gauge", "How long guests stood still for the last cut.", |group| {
        group.last_cycle.as_ref().map(|cycle| cycle.hold_micros as f64 / 1e6)
    }),
];

pub async fn metrics(common: &Common) -> Result<Exit> {
    let project = Project::load(&common.plans).ok();
    let access = open::reading(common, project.as_ref()).await?;
    let status: StatusAnswer = access.ask(&Request::Status, common).await?;
    access.close().await;
    if common.json {
        let totals: Vec<_> = status.groups.iter().map(|group| (&group.group, &group.totals)).collect();
        output::json(&totals);
    } else {
        output::data(text(&status));
    }
    Ok(Exit::Done)
}

fn text(status: &StatusAnswer) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in METRICS {
        // Writing to a text does not fail.
        let _ = writeln!(text, "# HELP muster_{name} {help}\n# TYPE muster_{name} {kind}");
        for group in &status.groups {
            if let Some(value) = value(group) {
                let (name_of, source) = (escape(group.group.as_str()), escape(group.source.as_str()));
                let _ = writeln!(text, "muster_{name}{{group=\"{name_of}\",source=\"{source}\"}} {value}");
            }
        }
    }
    let held = u8::from(status.holder.is_some());
    let _ = writeln!(
        text,
        "# HELP muster_held 1 while a process replicates and runs plans.\n# TYPE muster_held gauge\nmuster_held {held}"
    );
    text
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
