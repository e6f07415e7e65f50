//! What the machine knows of fences and intents.

use std::collections::BTreeMap;

use super::io::Fences;
use crate::owner::{Intent, Target};
use crate::words::{Colour, Generation};

/// Folded from what was said, in the order in which it became known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct KnownFences {
    intent: Option<Intent>,
    announced: BTreeMap<Colour, Announced>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Announced {
    /// The generation of the target that was said along with it; without one, the newest that was known.
    since: Generation,
    /// A target of this colour came after it: a cluster is published only once it takes writes, so what still says
    /// otherwise is left over from an earlier cutover. It counts again once it has been taken back and said anew.
    overtaken: bool,
}

impl KnownFences {
    /// Takes in what is said, whole.
    pub(super) fn learn(&mut self, said: &Fences, newest: Option<&Target>) {
        self.intent.clone_from(&said.intent);
        self.announced.retain(|colour, _| said.fenced.contains(colour));
        let known = newest.map_or(Generation(0), |newest| newest.generation);
        let since = if said.generation == Generation(0) { known } else { said.generation };
        for colour in &said.fenced {
            // DNS may be ahead of the control topic, which still says what was true of an earlier generation.
            let overtaken =
                newest.is_some_and(|newest| newest.colour == *colour && newest.generation > since);
            let first = || Announced { since, overtaken };
            self.announced.entry(*colour).or_insert_with(first);
        }
        self.forget_intent(newest);
    }

    /// A newer target is known.
    pub(super) fn learn_target(&mut self, newest: &Target) {
        if let Some(announced) = self.announced.get_mut(&newest.colour) {
            announced.overtaken |= newest.generation > announced.since;
        }
        self.forget_intent(Some(newest));
    }

    /// An intent whose target is known is over.
    fn forget_intent(&mut self, newest: Option<&Target>) {
        let published = newest.map(|newest| newest.generation);
        if self.intent.as_ref().is_some_and(|intent| Some(intent.opening) <= published) {
            self.intent = None;
        }
    }

    /// Whether records are refused there, or are about to be.
    pub(super) fn cover(&self, target: &Target) -> bool {
        let closing = self.intent.as_ref().map(|intent| intent.closing);
        let fenced = self.announced.get(&target.colour).is_some_and(|announced| !announced.overtaken);
        fenced || closing == Some(target.generation)
    }
}
