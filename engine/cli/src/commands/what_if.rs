//! `what-if`: the table of a dry-run under circumstances that nobody wishes for, beside the plain one.

use super::foresee::{Asked, prepare};
use crate::arguments::Common;
use crate::exit::Exit;
use crate::output;
use muster_forecast::view::{self, Looks};
use muster_forecast::{Conditions, ConditionsError, Forecast};
use muster_ports::{Failure, Result};
use muster_runsheet::{Rate, SiteName, StepId};
use serde::Serialize;

/// Version of the JSON of this command.
const FORMAT: &str = "muster.what-if/1";

/// Circumstances; each may be said several times.
#[derive(Clone, Debug, clap::Args)]
pub struct Circumstances {
    /// No more than RATE passes between two sites: `hq:dr=20Mbit/s`.
    #[arg(long, value_name = "LINK=RATE", value_parser = link)]
    slow: Vec<(SiteName, SiteName, Rate)>,
    /// The first N attempts of a step fail, with a failure that can pass: `database.start/db=2`.
    #[arg(long, value_name = "STEP=N", value_parser = step)]
    fail: Vec<(StepId, u32)>,
    /// A site does not answer.
    #[arg(long, value_name = "SITE")]
    dead: Vec<String>,
    /// No more than N machines boot at once at a site: `dr=2`.
    #[arg(long, value_name = "SITE=N", value_parser = boots)]
    boots: Vec<(SiteName, u32)>,
}

fn pair(text: &str) -> std::result::Result<(&str, &str), String> {
    let (what, value) = text.rsplit_once('=').ok_or_else(|| format!("`{text}` has no `=`"))?;
    if what.is_empty() || value.is_empty() {
        Err(format!("`{text}` lacks a side of its `=`"))
    } else {
        Ok((what, value))
    }
}

fn number(text: &str) -> std::result::Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is no number of times"))
}

fn link(text: &str) -> std::result::Result<(SiteName, SiteName, Rate), String> {
    let (ends, rate) = pair(text)?;
    let (from, to) = ["<->", "->", ":"]
        .iter()
        .find_map(|mark| ends.split_once(mark))
        .ok_or_else(|| format!("`{ends}` is no link: write its two sites as `hq:dr`"))?;
    let rate = rate.parse().map_err(|_| format!("`{rate}` is no rate: write `20Mbit/s` or `500kB/s`"))?;
    Ok((SiteName::new(from.trim()), SiteName::new(to.trim()), rate))
}

fn step(text: &str) -> std::result::Result<(StepId, u32), String> {
    let (step, times) = pair(text)?;
    Ok((StepId::new(step), number(times)?))
}

fn boots(text: &str) -> std::result::Result<(SiteName, u32), String> {
    let (site, count) = pair(text)?;
    Ok((SiteName::new(site), number(count)?))
}

impl Circumstances {
    fn conditions(self) -> Conditions {
        Conditions {
            slow: self.slow,
            fail: self.fail.into_iter().collect(),
            dead: self.dead.into_iter().map(SiteName::new).collect(),
            boots: self.boots.into_iter().collect(),
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    format: &'static str,
    plain: &'a Forecast<'a>,
    under: &'a Forecast<'a>,
}

pub async fn what_if(common: &Common, asked: &Asked, circumstances: Circumstances) -> Result<Exit> {
    let conditions = circumstances.conditions();
    if conditions.is_plain() {
        return Err(Failure::permanent("nothing to suppose")
            .help("say what is to go wrong: `--slow hq:dr=20Mbit/s`, `--fail STEP=2`, `--dead hq`, `--boots dr=2`"));
    }
    let prepared = match prepare(common, asked).await? {
        Ok(prepared) => prepared,
        Err(exit) => return Ok(exit),
    };
    conditions.check(&prepared.sheet).map_err(unknown)?;
    let none = Conditions::default();
    let (plain, under) = (prepared.forecast(&none), prepared.forecast(&conditions));
    if common.json {
        output::json(&Answer { format: FORMAT, plain: &plain, under: &under });
    } else {
        let looks = Looks { color: output::color_on_stdout(common), beside: Some(&plain.estimate) };
        output::data(view::table(&under, looks));
    }
    prepared.object(common, &under);
    Ok(Exit::Done)
}

/// Steps offered when one is not known.
const STEPS_SHOWN_MAX: usize = 6;

fn unknown(error: ConditionsError) -> Failure {
    let listed = |names: Vec<String>| {
        let names: Vec<String> = names.into_iter().take(STEPS_SHOWN_MAX).collect();
        names.join(", ")
    };
    let help = match &error {
        ConditionsError::NoSuchStep(_, near) if near.is_empty() => {
            Some("`muster dry-run … --json` names every step: `.nodes[].id`".to_owned())
        }
        ConditionsError::NoSuchStep(_, near) => {
            Some(format!("steps like it: {}", listed(near.iter().map(ToString::to_string).collect())))
        }
        ConditionsError::NoSuchSite(_, sites) => {
            Some(format!("the sites: {}", listed(sites.iter().map(ToString::to_string).collect())))
        }
        ConditionsError::NoBoots(_) | ConditionsError::NoRate(..) => None,
    };
    let failure = Failure::permanent(error.to_string());
    match help {
        Some(help) => failure.help(help),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circumstances_are_read_as_people_write_them() {
        for text in ["hq:dr=20Mbit/s", "hq->dr=20Mbit/s", "hq <-> dr=20Mbit/s"] {
            let read = link(text).map(|(from, to, rate)| format!("{from} {to} {rate}"));
            assert_eq!(read, Ok("hq dr 20Mbit/s".to_owned()), "{text}");
        }
        assert_eq!(step("db.start/db=2"), Ok((StepId::new("db.start/db"), 2)));
        assert_eq!(boots("dr=1"), Ok((SiteName::new("dr"), 1)));
        for wrong in ["hq=20Mbit/s", "hq:dr", "hq:dr=20", "=20Mbit/s"] {
            assert!(link(wrong).is_err(), "{wrong}");
        }
        assert!(step("a=").is_err() && step("a=-1").is_err() && boots("dr=many").is_err());
    }
}
