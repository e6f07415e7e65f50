//! What producers say of themselves in the members topics, and what of it a controller has seen.
//!
//! A word is a heartbeat under the cluster that it was said on, which is all that a cutover without a rollback looks at.

use kutover_core::messages::{MemberKind, MemberState};
use kutover_core::ports::Incarnation;
use kutover_core::words::Colour;

use super::place::Place;
use crate::names::{index, target};

/// A producer as a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    /// Its newest heartbeat in each cluster's topic; 0: it has said nothing there.
    beats: [u8; 2],
    /// It has said something since a controller last looked.
    heard: bool,
    /// At the last look it had.
    lives: bool,
}

impl Member {
    /// One that has said that it is there, as every controller knows.
    pub(super) fn new(at: Colour) -> Self {
        let mut beats = [0; 2];
        beats[index(at)] = 1;
        Self { beats, heard: false, lives: false }
    }

    /// Where its newest word says that it is.
    pub(super) fn is_at(&self) -> Colour {
        if self.beats[index(Colour::Green)] > self.beats[index(Colour::Blue)] {
            Colour::Green
        } else {
            Colour::Blue
        }
    }

    pub(super) fn say(&mut self, at: Colour) {
        self.beats[index(at)] = self.beats[index(self.is_at())] + 1;
        self.heard = true;
    }

    /// A controller that looked twice has seen it live on a cluster.
    pub(super) fn lives_on(&self, colour: Colour) -> bool {
        self.lives && self.is_at() == colour
    }

    fn word(&self, name: usize, on: Colour) -> Option<MemberState> {
        let heartbeat = u64::from(self.beats[index(on)]);
        let mut said = MemberState::new(MemberKind::Producer, format!("p{name}").as_str().into(), "1".into());
        let generation = if on == Colour::Blue { 1 } else { 2 };
        said.beat(&target(generation, on));
        (heartbeat > 0).then_some(MemberState { heartbeat, ..said })
    }
}

impl Place {
    /// The newest words in these clusters' topics. Which members live is what changed since the last look.
    pub(super) fn read_members(&mut self, on: &[Incarnation]) -> Vec<Vec<MemberState>> {
        let words = |on: &Incarnation| {
            let members = self.members.iter().enumerate();
            members.filter_map(|(name, member)| member.word(name, on.colour)).collect()
        };
        let by_cluster = on.iter().map(words).collect();
        for member in &mut self.members {
            member.lives = std::mem::take(&mut member.heard);
        }
        by_cluster
    }
}
