//! Landing a failover again from another point: made from the failover's own runsheet, so that a plan edited meanwhile
//! changes nothing.
//!
//! ```text
//! ready -> stop what was landed, last started first -> point -> no return -> land -> rise -> settle, as in the failover
//! ```

use super::build::Builder;
use muster_runsheet::{
    Action, FenceProof, Kind, MachineName, Node, Operation, PlanState, PointChoice, Runsheet, SheetPhase, StepId,
};

/// The sheet that lands the failover `run`, of sheet `from`, again from the point that a person names. `now` is where
/// the plan stands, or will once the failover is left as it is.
pub fn repoint_sheet(from: &Runsheet, run: &str, point: &str, now: PlanState) -> Runsheet {
    let mut builder = Builder::default();
    let verify = Action::Verify { required: vec![from.target.clone()], probed: vec![from.source.clone()] };
    let verify = builder.derived("ready/verify", SheetPhase::Ready, verify, "repoint, ready");
    let machines: Vec<MachineName> = from.machines.keys().cloned().collect();
    let action = Action::Lock { machines: machines.clone(), drill: false };
    let lock = builder.derived("ready/lock", SheetPhase::Ready, action, "repoint, ready");
    builder.edge(&verify, &lock);
    let mut before = lock;
    for machine in landed_last_first(from) {
        let id = format!("leave/stop/{machine}");
        let action = Action::Stop { machine, site: from.target.clone() };
        let stop = builder.derived(id, SheetPhase::Leave, action, "repoint, leave");
        builder.edge(&before, &stop);
        before = stop;
    }
    let mut points: Vec<StepId> = vec![before.clone()];
    for group in from.groups.values().filter(|group| group.policy.is_some()) {
        let choice = PointChoice::Named { point: point.to_owned() };
        let action = Action::PickPoint { group: group.name.clone(), choice };
        let pick = builder.derived(format!("point/{}", group.name), SheetPhase::Point, action, "repoint, point");
        builder.edge(&before, &pick);
        points.push(pick);
    }
    let no_return = builder.derived("no-return", SheetPhase::Land, Action::NoReturn, "repoint, land");
    builder.join(&points, std::slice::from_ref(&no_return));
    let (mut nodes, mut edges, _, _) = builder.finish().unwrap_or_default();

    let again = |node: &&Node| node.after_no_return && node.action != Action::NoReturn;
    let later: Vec<Node> = from.nodes.iter().filter(again).map(|node| landed_again(node, now)).collect();
    let within = |id: &StepId| later.iter().any(|node| node.id == *id);
    let from_no_return = |id: &StepId| from.node(id).is_some_and(|node| node.action == Action::NoReturn);
    edges.extend(from.edges.iter().filter(|edge| within(&edge.to)).filter_map(|edge| {
        if within(&edge.from) {
            return Some(edge.clone());
        }
        // What comes before no return has happened, in the failover.
        from_no_return(&edge.from).then(|| muster_runsheet::Edge { from: no_return.clone(), ..edge.clone() })
    }));
    nodes.extend(later);
    let mut sheet = Runsheet {
        operation: Operation { kind: Kind::Repoint, direction: from.operation.direction },
        nodes,
        edges,
        left_out: Vec::new(),
        ..from.clone()
    };
    sheet.assumptions = sheet.taken_for_granted();
    sheet.assume_run(run);
    sheet
}

/// A step of the failover, as it is done a second time. The old source was fenced by then: when it cannot be asked any
/// more, a person has to sign for it.
fn landed_again(node: &Node, now: PlanState) -> Node {
    let mut node = node.clone();
    match &mut node.action {
        Action::Fence { proof, .. } => *proof = FenceProof::PowerOffOrSignature,
        Action::Unlock { state, .. } => *state = now.after(Kind::Repoint),
        _ => {}
    }
    node
}

/// The machines that the failover starts; those started last come first.
fn landed_last_first(from: &Runsheet) -> Vec<MachineName> {
    let mut machines: Vec<MachineName> = Vec::new();
    for node in from.nodes.iter().rev() {
        if let Action::Start { machine, site } = &node.action
            && *site == from.target
            && !machines.contains(machine)
        {
            machines.push(machine.clone());
        }
    }
    machines
}
