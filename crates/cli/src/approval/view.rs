//! How an approval is shown.

use serde::Serialize;

use crate::printer::{Report, facts, table};
use proto::v1;

/// One approval.
#[derive(Debug, Serialize)]
pub(super) struct Approval {
    pub(super) approval_id: String,
    pub(super) state: &'static str,
    pub(super) requester: String,
    pub(super) operation: String,
    pub(super) resource: String,
    description: String,
    pub(super) digest: String,
    creation_date: Option<String>,
    pub(super) expiration_date: Option<String>,
    pub(super) needed: u32,
    pub(super) given: u32,
    could_approve: Option<u32>,
    votes: Vec<Vote>,
}

#[derive(Debug, Serialize)]
struct Vote {
    voter: String,
    approves: bool,
    date: Option<String>,
    counts: bool,
}

impl From<v1::Approval> for Approval {
    fn from(approval: v1::Approval) -> Self {
        let state = match approval.state() {
            v1::ApprovalState::Waiting => "waiting",
            v1::ApprovalState::Approved => "approved",
            v1::ApprovalState::Used => "used",
            v1::ApprovalState::Refused => "refused",
            v1::ApprovalState::Expired => "expired",
            v1::ApprovalState::Unspecified => "unknown",
        };
        let vote = |vote: v1::ApprovalVote| Vote {
            voter: vote.voter,
            approves: vote.approves,
            date: vote.date.map(|date| date.to_string()),
            counts: vote.counts,
        };
        Self {
            approval_id: approval.approval_id,
            state,
            requester: approval.requester,
            operation: approval.operation,
            resource: approval.resource,
            description: approval.description,
            digest: approval.digest,
            creation_date: approval.creation_date.map(|date| date.to_string()),
            expiration_date: approval.expiration_date.map(|date| date.to_string()),
            needed: approval.needed,
            given: approval.given,
            could_approve: approval.could_approve,
            votes: approval.votes.into_iter().map(vote).collect(),
        }
    }
}

impl Approval {
    /// How many could approve it that still have to.
    fn outlook(&self) -> String {
        let more = self.needed.saturating_sub(self.given);
        match self.could_approve.filter(|_| self.state == "waiting" && more > 0) {
            Some(could) => format!("; {more} more needed, {could} could approve it"),
            None => String::new(),
        }
    }
}

impl Report for Approval {
    fn text(&self) -> String {
        let facts = facts([
            ("Approval", self.approval_id.clone()),
            ("State", format!("{}, approved by {} of {}{}", self.state, self.given, self.needed, self.outlook())),
            ("Asked for by", self.requester.clone()),
            ("Operation", self.operation.clone()),
            ("About", self.resource.clone()),
            ("Parameters", self.description.clone()),
            ("Digest", self.digest.clone()),
            ("Since", self.creation_date.clone().unwrap_or_default()),
            ("Until", self.expiration_date.clone().unwrap_or_default()),
        ]);
        if self.votes.is_empty() {
            return facts;
        }
        let row = |vote: &Vote| {
            let what = match (vote.approves, vote.counts) {
                (true, true) => "approves",
                (true, false) => "approves, does not count",
                (false, _) => "refuses",
            };
            vec![vote.voter.clone(), what.to_owned(), vote.date.clone().unwrap_or_default()]
        };
        format!("{facts}\n\n{}", table(&["voter", "vote", "since"], self.votes.iter().map(row)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_is_to_be_approved_and_who_has() {
        let vote =
            |voter: &str, approves, counts| v1::ApprovalVote { voter: voter.into(), approves, date: None, counts };
        let approval = Approval::from(v1::Approval {
            approval_id: "apr-1".into(),
            requester: "arn:aws:iam::111122223333:user/anna".into(),
            operation: "AddHsm".into(),
            resource: "arn:aws:cloudhsm:eu-central-1:111122223333:cluster/c".into(),
            description: "hsmId: \"hsm-c\"; password: given, not shown".into(),
            digest: "ab".repeat(32),
            needed: 2,
            given: 1,
            could_approve: Some(3),
            state: v1::ApprovalState::Waiting.into(),
            votes: vec![vote("cn:bert", true, true), vote("cn:carl", true, false), vote("cn:dora", false, false)],
            ..v1::Approval::default()
        });
        let text = approval.text();
        for line in [
            "State         waiting, approved by 1 of 2; 1 more needed, 3 could approve it",
            "Parameters    hsmId: \"hsm-c\"; password: given, not shown",
            "cn:bert  approves",
            "cn:carl  approves, does not count",
            "cn:dora  refuses",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
