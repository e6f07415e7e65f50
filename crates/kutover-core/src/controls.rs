//! Controls: every defence can be taken out, so that the suites can be seen to notice.
//!
//! A place that stops a loss asks [`without`] and, with its control on, leaves its defence out. Without the feature
//! `controls` the question is a constant `false` and costs nothing; with it, a build without debug assertions (a release)
//! does not compile. `cargo xtask controls` runs the suites against each control in turn; one that nothing catches fails
//! the run. The environment variable `KUTOVER_WITHOUT` names the control for a whole process.

/// Declares the controls with their loss modes (the table of ARCHITECTURE.md) and what is left out.
macro_rules! controls {
    ($($control:ident, $loss:literal, $name:literal, $what:literal;)+) => {
        /// A defence that can be taken out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Control {
            $(#[doc = $what] $control,)+
        }

        impl Control {
            /// Every control, in the order of the loss modes.
            pub const ALL: &'static [Control] = &[$(Control::$control,)+];

            /// The number of the loss mode that it lets in: 1 for L1.
            pub fn loss_mode(self) -> u8 {
                match self { $(Control::$control => $loss,)+ }
            }

            /// Its name on a command line.
            pub fn name(self) -> &'static str {
                match self { $(Control::$control => $name,)+ }
            }

            /// The control of that name, if there is one.
            pub fn named(name: &str) -> Option<Control> {
                Control::ALL.iter().copied().find(|control| control.name() == name)
            }

            /// What is left out.
            pub fn what(self) -> &'static str {
                match self { $(Control::$control => $what,)+ }
            }
        }
    };
}

controls! {
    NoFlush, 1, "no-flush", "the old client is dropped without a flush";
    FlushNotReports, 1, "flush-not-reports", "the flush is believed at its deadline; delivery reports are not counted";
    ReuseClient, 1, "reuse-client", "a client that was left is gone back to instead of a new one";
    SealUnbounded, 1, "seal-unbounded", "a flush that runs out of time is waited for, however long senders wait";
    OpenGate, 2, "open-gate", "the gate stays open during the flush";
    EntriesUncounted, 2, "entries-uncounted", "the flush begins while sends are still inside the gate";
    IgnoreLaterAcks, 3, "ignore-later-acks", "what came back is offered again although a later record was acknowledged";
    PurgedNotWritten, 3, "purged-not-written", "a record that was tried and purged counts as not written";
    TrustDns, 4, "trust-dns", "the candidate's cluster id is not compared with the target's";
    OlderMoves, 4, "older-moves", "an older generation moves a producer";
    SoakUnderTtl, 4, "soak-under-ttl", "the old cluster may go before answers that lead to it have expired";
    SameCluster, 5, "same-cluster", "both colours may lead to one cluster";
    NoRecheck, 6, "no-recheck", "topics are not compared again right before the switch";
    NoStartOffsets, 7, "no-start-offsets", "groups get no start offsets on the new cluster";
    StartsForgotten, 7, "starts-forgotten", "start offsets are not set again while the switch and the drain last";
    ReceiptsClose, 8, "receipts-close", "receipts of all known producers count as a closed segment; no fence is raised";
    StragglersIgnored, 8, "stragglers-ignored", "a producer id that no receipt claims is nobody";
    LivingIgnored, 8, "living-ignored", "clients are shut out of the old cluster while members are seen to live there";
    UnansweredIsZero, 9, "unanswered-is-zero", "a partition or group without an answer counts as drained";
    ExpiredIsDrained, 9, "expired-is-drained", "a group whose commits are gone counts as drained";
    BeyondIsRead, 9, "beyond-is-read", "a commit that lies beyond the log's end counts as read to it";
    LateGroupsIgnored, 9, "late-groups-ignored", "groups that appear after the switch are not waited for";
    TailUnread, 10, "tail-unread", "the tail of a log is not read: a transaction marker holds the drain for ever";
    RetentionIgnored, 11, "retention-ignored", "retention is not compared with the drain's time; eaten records count as read";
    RetentionNotRaised, 11, "retention-not-raised", "retention that the plan wants raised is left as it is";
    RetentionNotRestored, 11, "retention-not-restored", "retention that was raised stays so when the cutover is over";
    PastEndIgnored, 12, "past-end-ignored", "records past a closed end are not looked for";
    ReCreatedIgnored, 12, "re-created-ignored", "a topic that was made anew since it was closed counts as the closed one";
    RemoveByColour, 13, "remove-by-colour", "removal takes whatever stands behind the colour";
    AbortLeaves, 13, "abort-leaves", "an aborted cutover leaves the cluster that it made, for the next to take it as it is";
    AskAnew, 14, "ask-anew", "who goes on where another died asks for the new cluster by a request of its own";
    NoIntents, 14, "no-intents", "acts are not journalled before they are done, and unknown outcomes count as not done";
    WeakAcks, 15, "weak-acks", "acks and idempotence are as the user's properties say, without a word";
    NoSeparation, 16, "no-separation", "the new cluster's producer ids may overlap the old one's";
    AnyFence, 17, "any-fence", "a fence is taken for one that holds without a look at transactions and principals";
    HistoryIgnored, 18, "history-ignored", "history that nobody waived dies with the old cluster";
    SinksEarly, 19, "sinks-early", "sinks start on the new cluster before the old one is read to its end";
    EarlyMembersIgnored, 19, "early-members-ignored", "the new cluster is not asked for groups that are there too early";
    SkipTerm, 20, "skip-term", "the term in the owner record is not compared";
    BlindSwap, 20, "blind-swap", "a record of DNS is replaced whatever stands there";
    ClaimsIgnored, 20, "claims-ignored", "control messages of a lower term count after a claim";
    MarkLate, 20, "mark-late", "the old cluster is removed before the mark stands in the owner record";
    OldProof, 20, "old-proof", "a proof from before a restart, an approval or the isolation is good enough";
    PublishFirst, 20, "publish-first", "a rollback publishes the new generation before it writes the chain";
    LiftFirst, 20, "lift-first", "a rollback lifts the old fence before the chain is written";
    LateActsStay, 20, "late-acts-stay", "a fence or isolation that an older term left on the active cluster is not looked for";
}

#[cfg(all(feature = "controls", not(debug_assertions)))]
compile_error!("the feature `controls` takes defences out and cannot be part of a release build");

/// Whether a defence is taken out.
#[cfg(not(feature = "controls"))]
#[inline(always)]
pub const fn without(_: Control) -> bool {
    false
}

#[cfg(feature = "controls")]
pub use switched::{take_out, without};

#[cfg(feature = "controls")]
mod switched {
    use std::sync::OnceLock;

    use super::Control;

    static OUT: OnceLock<Option<Control>> = OnceLock::new();

    /// Takes a defence out for the rest of the process. The first call, or `KUTOVER_WITHOUT`, counts.
    pub fn take_out(control: Option<Control>) {
        let _ = OUT.set(control);
    }

    /// Whether a defence is taken out.
    ///
    /// # Panics
    /// If `KUTOVER_WITHOUT` names no control: a misspelt one would pass for a defence that nothing catches.
    #[allow(
        clippy::disallowed_methods,
        reason = "a test process names its control; no release has this code"
    )]
    pub fn without(control: Control) -> bool {
        let named = || {
            let name = std::env::var("KUTOVER_WITHOUT").ok()?;
            let known = Control::named(&name);
            assert!(known.is_some(), "KUTOVER_WITHOUT={name} is no control");
            known
        };
        *OUT.get_or_init(named) == Some(control)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Control;

    #[test]
    fn every_loss_mode_has_a_control_and_every_control_a_name_of_its_own() {
        let modes: BTreeSet<u8> = Control::ALL.iter().map(|control| control.loss_mode()).collect();
        assert_eq!(modes, (1..=20).collect());
        let names: BTreeSet<&str> = Control::ALL.iter().map(|control| control.name()).collect();
        assert_eq!(names.len(), Control::ALL.len());
    }
}
