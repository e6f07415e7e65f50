//! The machine's outputs, as lists.

use super::*;
use crate::error::{ErrorKind, ProviderError};
use crate::owner::{Intent, Target};
use crate::words::{Colour, Generation, Millis};

fn target(generation: u64, colour: Colour) -> Target {
    Target {
        generation: Generation(generation),
        colour,
        cluster_id: colour.as_str().into(),
        bootstrap: vec![format!("{colour}:9092")],
    }
}

const BLUE: Colour = Colour::Blue;
const GREEN: Colour = Colour::Green;

struct Bench {
    switch: Switch,
    now: u64,
}

impl Bench {
    fn give(&mut self, input: Input) -> Vec<Output> {
        self.switch.handle(Millis(self.now), &input).unwrap();
        self.drain()
    }

    fn drain(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        loop {
            match self.switch.poll() {
                Output::Wait(_) => return outputs,
                Output::Notify(_) => {}
                output => outputs.push(output),
            }
        }
    }

    fn serving(order: Order) -> Self {
        let policy = SwitchPolicy { order, ..SwitchPolicy::default() };
        let mut bench = Self { switch: Switch::new(policy, Millis(0)), now: 0 };
        let first = target(1, BLUE);
        assert_eq!(bench.give(Input::Target(first.clone())), [connect(1, first)]);
        assert_eq!(bench.give(connected(1, BLUE)), [Output::ReadControl { lane: LaneId(1) }]);
        assert_eq!(
            bench.give(Input::ControlRead { lane: LaneId(1) }),
            [Output::OpenGate { lane: LaneId(1) }]
        );
        bench
    }

    /// Up to the last look before the first offer: lane 2 is connected, seal 3 flushed, look 4 asked.
    fn sealed() -> Self {
        let mut bench = Self::serving(Order::Ordered);
        assert_eq!(bench.give(Input::Target(target(2, GREEN))), [connect(2, target(2, GREEN))]);
        assert_eq!(bench.give(connected(2, GREEN)), [close(1), flush(3, 1, 2_000)]);
        assert_eq!(bench.give(flushed(3)), [look(4)]);
        bench
    }
}

/// Announced fences, as a view says them whose target is of this generation.
fn said<const N: usize>(generation: u64, fenced: [Colour; N]) -> Fences {
    Fences { intent: None, fenced: fenced.into(), generation: Generation(generation) }
}

fn connect(lane: u64, target: Target) -> Output {
    Output::Connect { lane: LaneId(lane), target }
}

fn connected(lane: u64, colour: Colour) -> Input {
    Input::Connected { lane: LaneId(lane), cluster_id: colour.as_str().into() }
}

fn close(lane: u64) -> Output {
    Output::CloseGate { lane: LaneId(lane) }
}

fn discard(lane: u64) -> Output {
    Output::Discard { lane: LaneId(lane) }
}

fn flush(seal: u64, lane: u64, deadline: u64) -> Output {
    Output::Flush { seal: SealId(seal), lane: LaneId(lane), deadline: Millis(deadline) }
}

fn flushed(seal: u64) -> Input {
    Input::Flushed { seal: SealId(seal), settled: true, progress: true }
}

fn look(look: u64) -> Output {
    Output::Look { look: LookId(look) }
}

fn looked(look: u64) -> Input {
    Input::Looked { look: LookId(look) }
}

fn offer(lane: u64, left: u64, settled: bool) -> Output {
    Output::Offer { lane: LaneId(lane), left: LaneId(left), settled }
}

fn receipt(generation: u64, from: Colour, to: Colour, sealed_ms: u64) -> Output {
    Output::SendReceipt(SwitchReceipt {
        generation: Generation(generation),
        from: from.as_str().into(),
        to: to.as_str().into(),
        sealed_ms,
    })
}

/// L1, G3: close, flush, look, offer, open, receipt, and only then drop.
#[test]
fn a_switch_goes_in_this_order() {
    let mut bench = Bench::sealed();
    assert_eq!(bench.give(looked(4)), [offer(2, 1, true)]);
    bench.now = 40;
    let done = bench.give(Input::Offered { lane: LaneId(2) });
    assert_eq!(done, [Output::OpenGate { lane: LaneId(2) }, discard(1), receipt(2, BLUE, GREEN, 40)]);
    assert!(matches!(bench.switch.state(), State::Serving { .. }));
}

/// L4: an older generation, and the one we are on, move nobody.
#[test]
fn a_stale_target_moves_nobody() {
    let mut bench = Bench::serving(Order::Ordered);
    assert_eq!(bench.give(Input::Target(target(1, GREEN))), []);
    assert_eq!(bench.give(Input::Target(target(0, GREEN))), []);
}

/// L5: where the candidate's cluster says another id, nothing is sealed, and it is tried again later.
#[test]
fn a_candidate_with_another_id_is_refused() {
    let mut bench = Bench::serving(Order::Ordered);
    bench.give(Input::Target(target(2, GREEN)));
    assert_eq!(bench.give(connected(2, BLUE)), [discard(2)]);
    bench.now = 249;
    assert_eq!(bench.give(Input::Tick), []);
    bench.now = 250;
    assert_eq!(bench.give(Input::Tick), [connect(3, target(2, GREEN))]);
}

#[test]
fn a_newer_generation_cancels_the_preparation() {
    let mut bench = Bench::serving(Order::Ordered);
    bench.give(Input::Target(target(2, GREEN)));
    let back_on_blue = bench.give(Input::Target(target(3, BLUE)));
    assert_eq!(back_on_blue, [look(3), receipt(3, BLUE, BLUE, 0)]);
    assert_eq!(bench.give(connected(2, GREEN)), [discard(2)], "a late candidate is dropped");
}

/// The target is read once more after the seal; a rollback found there leads back to the old client.
#[test]
fn a_rollback_seen_at_the_last_look_leads_back() {
    let mut bench = Bench::sealed();
    bench.give(Input::Target(target(3, BLUE)));
    assert_eq!(bench.give(looked(4)), [discard(2), offer(1, 1, true)]);
    let done = bench.give(Input::Offered { lane: LaneId(1) });
    assert_eq!(done, [Output::OpenGate { lane: LaneId(1) }]);
}

/// A slow but living cluster is gone back to, and what failed there is not re-offered as if all were settled.
#[test]
fn a_slow_flush_leads_back_and_is_tried_again() {
    let mut bench = Bench::serving(Order::Ordered);
    bench.give(Input::Target(target(2, GREEN)));
    bench.give(connected(2, GREEN));
    bench.now = 2_000;
    let slow = Input::Flushed { seal: SealId(3), settled: false, progress: true };
    assert_eq!(bench.give(slow), [discard(2), offer(1, 1, false)]);
    assert_eq!(bench.give(Input::Offered { lane: LaneId(1) }), [Output::OpenGate { lane: LaneId(1) }]);
    bench.now = 2_250;
    assert_eq!(bench.give(Input::Tick), [connect(4, target(2, GREEN))]);
}

/// A dead cluster is never gone back to: its rest is purged and the switch goes on.
#[test]
fn a_dead_flush_ends_in_a_purge() {
    let mut bench = Bench::serving(Order::Ordered);
    bench.give(Input::Target(target(2, GREEN)));
    bench.give(connected(2, GREEN));
    bench.now = 2_000;
    let dead = |seal| Input::Flushed { seal: SealId(seal), settled: false, progress: false };
    assert_eq!(bench.give(dead(3)), [flush(4, 1, 10_000)]);
    bench.now = 10_000;
    assert_eq!(bench.give(dead(4)), [Output::Purge { seal: SealId(5), lane: LaneId(1) }]);
    assert_eq!(bench.give(Input::Purged { seal: SealId(5) }), [look(6)]);
    assert_eq!(bench.give(looked(6)), [offer(2, 1, true)]);
}

/// A refusal under an announced fence seals at once and looks for the newer target.
#[test]
fn a_refusal_under_a_fence_seals() {
    let mut bench = Bench::serving(Order::Ordered);
    bench.give(Input::Fences(said(0, [BLUE])));
    let refused = bench.give(Input::Refused { lane: LaneId(1) });
    assert_eq!(refused, [close(1), flush(2, 1, 10_000), look(3)]);
    assert_eq!(bench.give(flushed(2)), []);
    assert_eq!(bench.give(Input::Target(target(2, GREEN))), [connect(4, target(2, GREEN))]);
    assert_eq!(bench.give(connected(4, GREEN)), [look(5)]);
    assert_eq!(bench.give(looked(5)), [offer(4, 1, true)]);
}

/// A refusal that nothing explains is looked into once, and then goes back to the caller.
#[test]
fn an_unexplained_refusal_is_returned() {
    let mut bench = Bench::serving(Order::Ordered);
    let refused = Input::Refused { lane: LaneId(1) };
    assert_eq!(bench.give(refused.clone()), [look(2)]);
    assert_eq!(bench.give(refused.clone()), []);
    assert_eq!(bench.give(looked(2)), [Output::ReturnHeld]);
    assert_eq!(bench.give(refused.clone()), [Output::ReturnHeld], "looked up a moment ago");
    bench.now = 1_000;
    assert_eq!(bench.give(refused), [look(3)]);
}

/// `Replaying → Preparing(next)`: a rollback's fence refuses while records are being offered.
#[test]
fn the_new_cluster_refuses_in_turn() {
    let mut bench = Bench::sealed();
    bench.give(looked(4));
    let intent = Intent { closing: Generation(2), opening: Generation(3), colour: BLUE };
    bench.give(Input::Fences(Fences { intent: Some(intent), ..said(2, [GREEN]) }));
    let refused = bench.give(Input::Refused { lane: LaneId(2) });
    assert_eq!(refused, [discard(1), close(2), flush(5, 2, 10_000), look(6)]);
    assert_eq!(bench.give(flushed(5)), []);
    assert_eq!(bench.give(Input::Target(target(3, BLUE))), [connect(7, target(3, BLUE))], "a new client");
    assert_eq!(bench.give(connected(7, BLUE)), [look(8)]);
    assert_eq!(bench.give(looked(8)), [offer(7, 2, true)]);
    let done = bench.give(Input::Offered { lane: LaneId(7) });
    assert_eq!(done, [Output::OpenGate { lane: LaneId(7) }, discard(2), receipt(3, BLUE, BLUE, 0)]);
}

#[test]
fn a_fatal_client_is_rebuilt_on_its_cluster() {
    let mut bench = Bench::serving(Order::Ordered);
    let fatal = bench.give(Input::Fatal { lane: LaneId(1) });
    assert_eq!(fatal, [close(1), flush(2, 1, 10_000), connect(3, target(1, BLUE))]);
    assert_eq!(bench.give(connected(3, BLUE)), []);
    assert_eq!(bench.give(flushed(2)), [look(4)]);
    assert_eq!(bench.give(looked(4)), [offer(3, 1, true)]);
}

/// L16, L5: a client tells once that it is fatal (another cluster answers at its addresses), which may be before it has connected.
#[test]
fn a_candidate_that_becomes_fatal_before_it_connects_is_offered_nothing() {
    let mut bench = Bench::serving(Order::Ordered);
    bench.give(Input::Target(target(2, GREEN)));
    assert_eq!(bench.give(Input::Fatal { lane: LaneId(2) }), []);
    assert_eq!(bench.give(connected(2, GREEN)), [discard(2)]);
    bench.now = 250;
    assert_eq!(bench.give(Input::Tick), [connect(3, target(2, GREEN))]);

    let mut bench = Bench { switch: Switch::new(SwitchPolicy::default(), Millis(0)), now: 0 };
    bench.give(Input::Target(target(1, BLUE)));
    assert_eq!(bench.give(Input::Fatal { lane: LaneId(1) }), []);
    assert_eq!(bench.give(connected(1, BLUE)), [discard(1)]);
    bench.now = 250;
    assert_eq!(bench.give(Input::Tick), [connect(2, target(1, BLUE))]);
}

/// `Overlap`: the client in use dies during the last look, which finds that the candidate is not wanted any more.
#[test]
fn a_client_that_dies_before_the_gates_are_swapped_serves_no_more() {
    let mut bench = Bench::serving(Order::Overlap);
    bench.give(Input::Target(target(2, GREEN)));
    assert_eq!(bench.give(connected(2, GREEN)), [look(3)]);
    bench.give(Input::Fatal { lane: LaneId(1) });
    bench.give(Input::Target(target(3, BLUE)));
    let shut = bench.give(looked(3));
    assert_eq!(shut, [discard(2), close(1), flush(4, 1, 10_000), connect(5, target(3, BLUE))]);
}

/// The second cutover, back to blue, where green's log still says of the first one that blue is fenced: whoever is
/// late on green moves all the same, by itself and when green's fence refuses it.
#[test]
fn a_fence_left_over_from_the_first_cutover_holds_nobody_back() {
    for refused in [false, true] {
        let mut bench = Bench::sealed();
        bench.give(looked(4));
        bench.give(Input::Offered { lane: LaneId(2) });
        bench.give(Input::Fences(said(2, [BLUE])));
        if refused {
            bench.give(Input::Fences(said(2, [BLUE, GREEN])));
            let shut = bench.give(Input::Refused { lane: LaneId(2) });
            assert_eq!(shut, [close(2), flush(5, 2, 10_000), look(6)]);
        }
        let lane = if refused { 7 } else { 5 };
        assert_eq!(bench.give(Input::Target(target(3, BLUE))), [connect(lane, target(3, BLUE))]);
        assert_eq!(bench.give(Input::Fences(said(3, [BLUE, GREEN]))), [], "still wanted");
        let went = bench.give(connected(lane, BLUE));
        let seal = if refused { vec![] } else { vec![close(2), flush(6, 2, 2_000)] };
        assert_eq!(went, seal);
        assert_eq!(bench.switch.is_under_fence(LaneId(2)), Some(true));
        assert_eq!(bench.switch.is_under_fence(LaneId(lane)), Some(false));
    }
}

/// An announcement that was taken back and made anew counts, and so does one that came after the target it fences.
#[test]
fn a_fence_that_is_announced_anew_counts() {
    let mut bench = Bench::serving(Order::Ordered);
    bench.give(Input::Fences(said(1, [GREEN])));
    assert_eq!(bench.give(Input::Target(target(2, GREEN))), [connect(2, target(2, GREEN))]);
    bench.give(Input::Fences(said(2, [])));
    assert_eq!(bench.give(Input::Fences(said(2, [GREEN]))), [look(3)], "green is not wanted any more");

    let mut bench = Bench::serving(Order::Ordered);
    bench.give(Input::Fences(said(2, [GREEN])));
    assert_eq!(bench.give(Input::Target(target(2, GREEN))), []);
}

/// L5: the name leads to the cluster that we are on. What was refused meanwhile is looked into and returned.
#[test]
fn a_candidate_that_is_our_own_cluster_strands_nothing() {
    let mut bench = Bench::serving(Order::Ordered);
    let unnamed = Target { cluster_id: "".into(), ..target(2, GREEN) };
    assert_eq!(bench.give(Input::Target(unnamed.clone())), [connect(2, unnamed)]);
    assert_eq!(bench.give(Input::Refused { lane: LaneId(1) }), []);
    let adopted = bench.give(connected(2, BLUE));
    assert_eq!(adopted, [discard(2), receipt(2, BLUE, BLUE, 0), look(3)]);
    assert_eq!(bench.give(looked(3)), [Output::ReturnHeld]);
}

/// L5: targets that name no cluster (follow-dns) may lead to different ones, however alike they look.
#[test]
fn a_newer_target_without_an_id_is_connected_for_itself() {
    let mut bench = Bench::serving(Order::Ordered);
    let unnamed = |generation, colour| Target { cluster_id: "".into(), ..target(generation, colour) };
    assert_eq!(bench.give(Input::Target(unnamed(2, GREEN))), [connect(2, unnamed(2, GREEN))]);
    assert_eq!(bench.give(Input::Target(unnamed(3, BLUE))), [connect(3, unnamed(3, BLUE))]);
    assert_eq!(bench.give(connected(2, GREEN)), [discard(2)], "a late candidate is dropped");
    let adopted = bench.give(connected(3, BLUE));
    assert_eq!(adopted, [discard(3), receipt(3, BLUE, BLUE, 0), look(4)]);
}

/// A record that was re-offered is refused by report, and everything else is taken before the look comes back.
#[test]
fn what_is_refused_at_the_end_of_a_replay_is_not_stranded() {
    let mut bench = Bench::sealed();
    bench.now = 5_000;
    bench.switch.policy.look_ms = 0;
    bench.give(looked(4));
    assert_eq!(bench.give(Input::Refused { lane: LaneId(2) }), [look(5)]);
    bench.give(Input::Offered { lane: LaneId(2) });
    assert_eq!(bench.give(looked(5)), [Output::ReturnHeld]);
}

/// `Overlap` looks first, swaps the gates at once, and sends on what failed once the old client is settled.
#[test]
fn overlap_swaps_the_gates_at_once() {
    let mut bench = Bench::serving(Order::Overlap);
    bench.give(Input::Target(target(2, GREEN)));
    assert_eq!(bench.give(connected(2, GREEN)), [look(3)]);
    let swapped = bench.give(looked(3));
    assert_eq!(swapped, [close(1), flush(4, 1, 10_000), Output::OpenGate { lane: LaneId(2) }]);
    assert_eq!(bench.give(flushed(4)), [offer(2, 1, true)]);
    let done = bench.give(Input::Offered { lane: LaneId(2) });
    assert_eq!(done, [discard(1), receipt(2, BLUE, GREEN, 0)]);
}

/// A stale owner record at the start: the control topic of the cluster found there knows better.
#[test]
fn starting_with_a_stale_target_goes_on_to_the_newer() {
    let mut bench = Bench { switch: Switch::new(SwitchPolicy::default(), Millis(0)), now: 0 };
    bench.give(Input::Target(target(1, BLUE)));
    bench.give(connected(1, BLUE));
    assert_eq!(bench.give(Input::Target(target(2, GREEN))), []);
    let read = bench.give(Input::ControlRead { lane: LaneId(1) });
    assert_eq!(read, [discard(1), connect(2, target(2, GREEN))]);
}

#[test]
fn starting_is_bounded_and_says_what_was_missing() {
    let mut bench = Bench { switch: Switch::new(SwitchPolicy::default(), Millis(0)), now: 0 };
    bench.give(Input::Target(target(1, BLUE)));
    let error = ProviderError::new(ErrorKind::Unreachable, "connect to blue", "nobody answered");
    bench.give(Input::ConnectFailed { lane: LaneId(1), error });
    bench.now = 30_000;
    bench.give(Input::Tick);
    let State::Stopped { reason } = bench.switch.state() else { panic!("{:?}", bench.switch.state()) };
    assert_eq!(reason, "not started within 30000 ms: the cluster could not be connected");
}
