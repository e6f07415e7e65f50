//! What makes a client that has connected one to go to, and what is said of one that is not.

use super::io::{Lane, SwitchEvent};
use super::machine::Switch;
use crate::controls::{Control, without};
use crate::owner::Target;
use crate::words::ClusterId;

/// Why a candidate that dies before it serves has failed.
pub(super) const FATAL: &str = "the client became fatal";

impl Switch {
    /// Whether a client that has connected may be gone to; it is dropped if not. The cluster's own id has to be the target's:
    /// nothing else says where a client is. And a client that became fatal meanwhile does not say so again.
    pub(super) fn is_fit(&mut self, lane: &mut Lane, cluster_id: &ClusterId) -> bool {
        if lane.target.cluster_id.as_str().is_empty() {
            lane.target.cluster_id = cluster_id.clone();
        }
        let wanted = &lane.target.cluster_id;
        let reason = if *wanted != *cluster_id && !without(Control::TrustDns) {
            format!("the cluster there says its id is {cluster_id}, not {wanted}")
        } else if Self::is_good(lane) {
            return true;
        } else {
            FATAL.to_owned()
        };
        self.candidate_failed(&lane.target, reason);
        self.discard(lane.id);
        false
    }

    pub(super) fn candidate_failed(&mut self, target: &Target, reason: String) {
        self.notify(SwitchEvent::CandidateFailed { target: target.clone(), reason });
    }
}
