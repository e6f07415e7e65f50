//! What controllers steer: two clusters and their infrastructure, DNS, a consumer group, the journal.

use std::collections::BTreeSet;

use kutover_core::cutover::{
    Approval, Command, CommandId, FencePolicy, Plan, Progress, Record, SeparationPolicy, Timings, Topics,
};
use kutover_core::owner::OwnerRecord;
use kutover_core::words::{Colour, GroupId, Nonce, Term};

use super::members::Member;
use crate::ground::Ground;
use crate::kept::Kept;
use crate::names::index;

/// What the authoritative servers hold: owner record, and the colour that the endpoint points at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Dns {
    pub(crate) owner: Option<OwnerRecord>,
    pub(crate) endpoint: Colour,
}

/// What stands behind a colour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Infra {
    pub(crate) present: bool,
    /// The names of the isolations that keep clients out; each is put back by its own name alone.
    pub(crate) isolations: BTreeSet<Nonce>,
    pub(crate) topic: bool,
    /// How far the group has committed.
    pub(crate) committed: usize,
}

/// The journal, as far as a resume looks at it.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Journal {
    pub(crate) taken_over: bool,
    pub(crate) term: Term,
    /// Intents that a resume looks for: adoptions, and whatever shuts clients out. Each once.
    pub(crate) intents: Vec<Record>,
    pub(crate) checkpoint: Option<Kept<Progress>>,
}

impl Journal {
    pub(crate) fn append(&mut self, term: Term, record: &Record) {
        self.term = term;
        match record {
            Record::Takeover { .. } => self.taken_over = true,
            Record::Checkpoint { progress } => self.checkpoint = Some(Kept::new(Progress::clone(progress))),
            Record::Intent { command, .. } => {
                let intent = Record::Intent { id: CommandId(0), command: command.clone() };
                if looked_for(command) && !self.intents.contains(&intent) {
                    self.intents.push(intent);
                }
            }
        }
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        let takeover = self.taken_over.then(|| Record::Takeover { nonce: Nonce::new("") });
        let checkpoint = self.checkpoint.as_ref();
        let checkpoint =
            checkpoint.map(|kept| Record::Checkpoint { progress: Box::new(Progress::clone(kept)) });
        self.intents.iter().cloned().chain(takeover).chain(checkpoint).collect()
    }
}

/// Whether a resume looks for the intent of such a command; of the others it is enough that they are written.
pub(crate) fn looked_for(command: &Command) -> bool {
    matches!(
        command,
        Command::TakeTerm { adopt: true, .. } | Command::RaiseFence { .. } | Command::Isolate { .. }
    )
}

/// See the [module](self).
#[derive(Clone, Debug, Hash)]
pub(crate) struct Place {
    pub(crate) ground: Ground,
    pub(crate) dns: Dns,
    pub(crate) infra: [Infra; 2],
    pub(crate) journal: Journal,
    /// The producers as members, where they say anything.
    pub(crate) members: Vec<Member>,
}

impl Place {
    pub(crate) fn infra(&mut self, colour: Colour) -> &mut Infra {
        &mut self.infra[index(colour)]
    }

    /// Whether anybody but the controller can get there.
    pub(crate) fn is_open(&self, colour: Colour) -> bool {
        let infra = &self.infra[index(colour)];
        infra.present && infra.isolations.is_empty() && !self.ground.at(colour).dead
    }
}

/// The one group.
pub(crate) fn group() -> GroupId {
    GroupId::new("g")
}

/// What the operator wants; nothing takes any time.
pub(crate) fn plan(remove_old: bool) -> Plan {
    Plan {
        deployment: "d".into(),
        to: Colour::Green,
        topics: Topics::All,
        groups: [(group(), None)].into(),
        waived_groups: BTreeSet::new(),
        waived_history: Topics::All,
        schemas_topic: "_schemas".into(),
        waived_deleted: [].into(),
        waived_members: [].into(),
        waived_replicas: Topics::none(),
        raised_retention: Topics::none(),
        fence: FencePolicy::Required,
        // The worlds have no producer ids: what they are about is order, and this only waits.
        separation: SeparationPolicy::Waived,
        connect: None,
        approve_redirect: Approval::Automatic,
        approve_removal: Approval::Automatic,
        remove_old,
        abandoned: None,
        timings: Timings {
            ttl_s: 0,
            converge_ms: 0,
            quiet_window_ms: 0,
            soak_ms: 0,
            poll_ms: 0,
            command_timeout_ms: 0,
            retry_ms: 0,
            barrier_ms: 0,
            hold_limit_ms: None,
        },
    }
}
