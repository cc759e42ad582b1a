//! `decide`, `approve`, `pause`, `amend`: the word of a person, into the journal.

use super::open;
use super::operate::read_sheet;
use crate::arguments::{Common, DecisionWord, RunOptions, Signature};
use crate::exit::Exit;
use crate::output;
use muster_control::Request;
use muster_journal::{Answer, Decision};
use muster_ports::{Failure, Result, RunId, StepId};
use std::path::Path;

pub async fn decide(
    common: &Common,
    run: String,
    step: String,
    decision: DecisionWord,
    signature: &Signature,
) -> Result<Exit> {
    let decision = match decision {
        DecisionWord::Retry => Decision::Retry,
        DecisionWord::Skip => Decision::Skip,
        DecisionWord::DoneByHand => Decision::DoneByHand,
        DecisionWord::Redo => Decision::Redo,
        DecisionWord::Abort => Decision::Abort,
    };
    // A step that is tried again tells by itself whether that was right; everything else has to be told.
    if decision != Decision::Retry && signature.why.trim().is_empty() {
        return Err(Failure::refused(format!("`{decision}` asks for a reason"))
            .help("say `--why TEXT`: the journal tells in the morning why it was done"));
    }
    let request = Request::Decide {
        run: RunId::new(run),
        step: StepId::new(step),
        decision,
        who: open::who(signature),
        why: signature.why.clone(),
    };
    record(common, request, "decide", signature).await
}

pub async fn pause(common: &Common, run: String, signature: &Signature) -> Result<Exit> {
    let request = Request::Pause { run: RunId::new(run), who: open::who(signature), why: signature.why.clone() };
    record(common, request, "pause", signature).await
}

pub async fn amend(common: &Common, run: String, file: &Path, signature: &Signature) -> Result<Exit> {
    let sheet = read_sheet(file)?;
    let request = Request::Amend {
        run: RunId::new(run),
        sheet: Box::new(sheet),
        who: open::who(signature),
        why: signature.why.clone(),
    };
    record(common, request, "amend", signature).await
}

pub async fn approve(common: &Common, run: String, step: String, no: bool, signature: &Signature) -> Result<Exit> {
    let answer = Answer { yes: !no, who: open::who(signature), why: signature.why.clone() };
    let request = Request::Answer { run: RunId::new(run), step: StepId::new(step), answer };
    record(common, request, "approve", signature).await
}

async fn record(common: &Common, request: Request, purpose: &str, signature: &Signature) -> Result<Exit> {
    let options = RunOptions { signature: signature.clone(), no_wait: true, watch: false, steal: false };
    let access = open::writing(common, None, purpose, &options).await?;
    let answer: Result<serde_json::Value> = access.ask(&request, common).await;
    access.close().await;
    let answer = answer?;
    if common.json {
        output::json(&answer);
    } else if answer["driven"] == false {
        output::say("recorded; `muster resume` goes on with the run");
    } else {
        output::say("recorded");
    }
    Ok(Exit::Done)
}
