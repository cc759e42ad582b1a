//! Who may answer what a step asks, and how many of them have to agree.

use muster_runsheet::{Action, Node, Runsheet};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Team {
    /// As in the plan; `anyone` when it says nothing.
    pub name: String,
    /// Empty: anybody may answer.
    pub members: Vec<String>,
    /// How many different people have to say yes. One no is enough.
    pub quorum: usize,
}

impl Team {
    /// Whoever comes.
    pub fn anyone() -> Self {
        Self { name: "anyone".to_owned(), members: Vec::new(), quorum: 1 }
    }

    /// The team that a step of this sheet asks. A signature for split-brain needs one member of the owner's team: in the
    /// night in which it is asked for, a second one may be out of reach.
    pub fn of(sheet: &Runsheet, node: &Node) -> Self {
        let (name, all) = match &node.action {
            Action::Approve { by, .. } => (Some(by), true),
            Action::Manual { by, .. } => (Some(by), false),
            Action::Fence { .. } => (sheet.owner.as_ref(), false),
            _ => (None, false),
        };
        if name.is_none() {
            return Self::anyone();
        }
        let known = name.and_then(|name| sheet.teams.get(name));
        let quorum = known.filter(|_| all).map_or(1, |team| usize::try_from(team.quorum).unwrap_or(usize::MAX));
        Self {
            name: name.cloned().unwrap_or_else(|| "anyone".to_owned()),
            members: known.map(|team| team.members.clone()).unwrap_or_default(),
            quorum: quorum.max(1),
        }
    }

    /// The member that somebody who calls themselves so is: by the whole name, or by what stands before the `@` when only
    /// one member has it. `None` when they are none.
    pub fn member(&self, who: &str) -> Option<String> {
        if self.members.is_empty() {
            return Some(who.to_owned());
        }
        let same = |member: &&String| member.eq_ignore_ascii_case(who);
        if let Some(member) = self.members.iter().find(same) {
            return Some(member.clone());
        }
        let local = |member: &&String| member.split('@').next().is_some_and(|name| name.eq_ignore_ascii_case(who));
        let mut found = self.members.iter().filter(local);
        match (found.next(), found.next()) {
            (Some(member), None) => Some(member.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_known_by_their_whole_name_or_by_the_part_that_only_they_have() {
        let members = ["anna@a.example", "ben@a.example", "ben@b.example", "leads"];
        let team = Team { name: "t".into(), members: members.map(str::to_owned).to_vec(), quorum: 2 };
        assert_eq!(team.member("Anna").as_deref(), Some("anna@a.example"));
        assert_eq!(team.member("ben@b.example").as_deref(), Some("ben@b.example"));
        assert_eq!(team.member("leads").as_deref(), Some("leads"));
        assert_eq!((team.member("ben"), team.member("carl"), team.member("")), (None, None, None));
        let anyone = Team::anyone();
        assert_eq!(anyone.member("carl").as_deref(), Some("carl"));
    }
}
