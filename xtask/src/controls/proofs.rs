//! Which test, world or seed shows what is lost without a defence.

use super::suite::Suite;

/// Something that holds with every defence in place and must not without this one.
pub(super) struct Proof {
    /// The control that takes the defence out.
    pub(super) control: &'static str,
    /// The suite.
    pub(super) suite: Suite,
    /// The test, the world or the seeds.
    pub(super) only: &'static str,
}

const fn proof(control: &'static str, suite: Suite, only: &'static str) -> Proof {
    Proof { control, suite, only }
}

/// A control is tried on its proofs, and each must notice. One without a proof is tried on all suites, the quickest first,
/// until one notices.
///
/// A proof is preferred that says which promise broke: a world or a seed, then a test that is named after the promise. What
/// a few seeds of the simulation notice, they have to notice as well: it would not be seen otherwise if its judging went
/// blind.
pub(super) const PROOFS: &[Proof] = &[
    proof("no-flush", Suite::Worlds, "switch"),
    proof("no-flush", Suite::Sim, "0..2"),
    proof("flush-not-reports", Suite::Worlds, "switch"),
    proof("flush-not-reports", Suite::Sim, "0..2"),
    proof("reuse-client", Suite::Worlds, "switch"),
    proof("seal-unbounded", Suite::Sim, "20..40"),
    proof("open-gate", Suite::Threads, "no_send_slips_past_a_seal_and_none_is_stranded"),
    proof("open-gate", Suite::Producer, "switches_under_load_lose_nothing_and_keep_order"),
    proof("entries-uncounted", Suite::Threads, "no_send_slips_past_a_seal_and_none_is_stranded"),
    proof("ignore-later-acks", Suite::Worlds, "switch-fences"),
    proof("purged-not-written", Suite::Worlds, "switch"),
    proof("trust-dns", Suite::Worlds, "switch-trouble"),
    proof("older-moves", Suite::Worlds, "switch"),
    proof("soak-under-ttl", Suite::Core, "the_old_cluster_outlives_every_answer_that_leads_to_it"),
    proof("same-cluster", Suite::Controller, "green_with_blues_cluster_id"),
    proof("no-recheck", Suite::Core, "a_topic_born_late_is_prepared_before_the_switch"),
    proof("no-start-offsets", Suite::Controller, "a_cutover_in_memory"),
    proof("no-start-offsets", Suite::Sim, "0..8"),
    proof("starts-forgotten", Suite::Core, "start_offsets_are_looked_after_until_everything_is_drained"),
    proof("starts-forgotten", Suite::Core, "start_offsets_stand_before_anybody_goes_home"),
    proof("starts-forgotten", Suite::Controller, "start_offsets_are_kept_fresh_while_the_drain_lasts"),
    proof(
        "starts-forgotten",
        Suite::Controller,
        "a_group_that_was_born_on_green_starts_on_blue_where_the_next_segment_does",
    ),
    proof("receipts-close", Suite::Controller, "a_leader_that_does_not_refuse_holds_with_its_name"),
    proof("receipts-close", Suite::Sim, "0..14"),
    proof("stragglers-ignored", Suite::Core, "an_id_that_nobody_claims_is_a_straggler"),
    proof("living-ignored", Suite::Worlds, "members"),
    proof("living-ignored", Suite::Core, "a_live_producer_on_the_old_cluster_holds_the_isolation"),
    proof("unanswered-is-zero", Suite::Core, "unanswered_is_not_drained"),
    proof("beyond-is-read", Suite::Core, "a_commit_beyond_the_end_is_not_drained"),
    proof("expired-is-drained", Suite::Core, "a_group_whose_commits_expired_is_not_drained"),
    proof("late-groups-ignored", Suite::Core, "removal_waits_for_fresh_proof"),
    proof("tail-unread", Suite::Core, "markers_and_empty_partitions_count_as_drained"),
    proof("retention-ignored", Suite::Core, "a_commit_below_the_start_is_a_loss"),
    proof("retention-ignored", Suite::Core, "retention_is_raised_to_what_the_drain_takes"),
    proof("retention-not-raised", Suite::Core, "retention_is_raised_while_it_runs_and_restored_at_its_end"),
    proof(
        "retention-not-raised",
        Suite::Controller,
        "retention_is_raised_while_it_runs_and_restored_exactly",
    ),
    proof(
        "retention-not-restored",
        Suite::Core,
        "what_was_raised_is_restored_from_every_prefix_of_the_journal",
    ),
    proof(
        "retention-not-restored",
        Suite::Controller,
        "retention_is_raised_while_it_runs_and_restored_exactly",
    ),
    proof("past-end-ignored", Suite::Core, "a_closed_end_must_stand"),
    proof("re-created-ignored", Suite::Core, "a_topic_made_anew_holds_the_removal"),
    proof(
        "remove-by-colour",
        Suite::Controller,
        "a_cluster_built_after_the_removal_is_not_taken_for_the_old_one",
    ),
    proof("abort-leaves", Suite::Sim, "0..20"),
    proof("ask-anew", Suite::Sim, "20..60"),
    proof("no-intents", Suite::Controller, "nothing_is_done_whose_intent_is_not_durable"),
    proof("weak-acks", Suite::Core, "one_strong_name_does_not_hide_a_weak_one"),
    proof("no-separation", Suite::Core, "fresh_clusters_are_not_separated"),
    proof("no-separation", Suite::Core, "ids_are_used_up_before_the_switch"),
    proof("any-fence", Suite::Core, "a_size_fence_needs_no_transactions"),
    proof("history-ignored", Suite::Core, "what_outlives_the_old_cluster_is_named"),
    proof("sinks-early", Suite::Controller, "a_sink_writes_each_line_once_and_in_order"),
    proof("early-members-ignored", Suite::Core, "who_is_early_on_the_new_cluster_is_named_once"),
    proof("early-members-ignored", Suite::Controller, "a_group_that_is_early_on_the_new_cluster_is_named"),
    proof("skip-term", Suite::Controller, "a_record_of_a_newer_term_is_never_written"),
    proof("skip-term", Suite::Worlds, "takeover"),
    proof("blind-swap", Suite::Controller, "a_controller_that_slept_writes_nothing_over_its_successor"),
    proof("claims-ignored", Suite::Worlds, "takeover"),
    proof("mark-late", Suite::Core, "nothing_is_destroyed_without_its_mark"),
    proof("mark-late", Suite::Sim, "0..2"),
    proof("old-proof", Suite::Core, "a_removal_is_proven_again_after_a_restart"),
    proof("old-proof", Suite::Core, "a_removal_is_proven_again_after_a_person_took_their_time"),
    proof("publish-first", Suite::Worlds, "rollback"),
    proof("lift-first", Suite::Worlds, "rollback"),
    proof("late-acts-stay", Suite::Controller, "late_acts_on_the_active_cluster_are_undone"),
    proof("late-acts-stay", Suite::Controller, "a_fence_that_no_journal_knows_is_lifted"),
];
