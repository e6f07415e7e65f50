//! What the entrance does, send by send. What threads make of it is in `threads`.

use std::cell::Cell;

use super::super::ack_marks::TopicKey;
use super::super::hand_over::ReturnReason;
use super::super::policy::{Order, UnknownPolicy};
use super::*;
use crate::ports::DeliveryFate;

#[derive(Debug)]
struct Client(Gate);

impl Gated for Client {
    fn gate(&self) -> &Gate {
        &self.0
    }
}

/// Every record has ten bytes; two can wait.
fn entrance() -> Entrance<Client> {
    Entrance::new(HandOver::new(Order::Ordered, UnknownPolicy::Return, 20))
}

/// A send: the sequence that a client took it under, or none where it waits.
fn send(entrance: &Entrance<Client>, token: u64) -> Result<Option<Sequence>, TurnedAway> {
    entrance.pass(|_, sequence| sequence, || ((), 10), |_, ()| (Token(token), Millis(100)))
}

fn opened(entrance: &Entrance<Client>) -> Arc<Client> {
    let client = Arc::new(Client(Gate::closed()));
    entrance.lock().open(&client);
    client
}

/// L2: a record goes to the client while its gate is open, and waits while it is not; both have a place in one order.
#[test]
fn a_record_goes_through_an_open_gate_and_waits_behind_a_closed_one() {
    let entrance = entrance();
    assert_eq!(send(&entrance, 1), Ok(None), "there is no client");
    let client = opened(&entrance);
    assert_eq!(send(&entrance, 2), Ok(Some(Sequence(2))));
    client.0.close();
    assert_eq!(send(&entrance, 3), Ok(None));
    assert_eq!(entrance.sequences(), 3);
    let parked = entrance.lock();
    let first = parked.hand_over.next_offer().map(|offer| (offer.token, offer.sequence));
    assert_eq!((first, parked.hand_over.len()), (Some((Token(1), Sequence(1))), 2));
}

/// The gate is asked again under the lock: a record is never parked behind a gate that was opened meanwhile.
#[test]
fn a_record_that_is_about_to_be_parked_goes_to_a_client_that_opens() {
    let (entrance, copies) = (entrance(), Cell::new(0));
    let open_late = || {
        copies.set(copies.get() + 1);
        opened(&entrance);
        ((), 10)
    };
    let sent = entrance.pass(|_, sequence| sequence, open_late, |_, ()| panic!("the gate is open"));
    assert_eq!((sent, copies.get()), (Ok(Some(Sequence(1))), 1));
}

/// Who finds no room has no place in the order, and the record still.
#[test]
fn a_full_park_and_a_shut_one_turn_away() {
    let entrance = entrance();
    entrance.lock().shut = true;
    assert_eq!(send(&entrance, 1), Err(TurnedAway::Full), "shut, and empty");
    entrance.lock().shut = false;
    assert_eq!(send(&entrance, 1), Ok(None));
    assert_eq!(send(&entrance, 2), Ok(None));
    assert_eq!(send(&entrance, 3), Err(TurnedAway::Full));
    assert_eq!(entrance.sequences(), 2);
    entrance.lock().shut = true;
    let client = opened(&entrance);
    assert!(!entrance.lock().shut, "who opens lets all in");
    assert!(entrance.current().is_some_and(|current| Arc::ptr_eq(&current, &client)));
}

/// G1: whoever waits at the end gets its record back, and nothing is taken in after it.
#[test]
fn the_end_gives_back_what_waits_and_takes_nothing_more() {
    let entrance = entrance();
    assert_eq!(send(&entrance, 1), Ok(None));
    assert!(entrance.hold(failure(2), true, || true));
    assert!(!entrance.hold(failure(3), false, || false), "nobody would judge it");
    let back = entrance.lock().end();
    let back: Vec<_> = back.iter().map(|back| (back.token, back.fate, back.reason)).collect();
    let stopped = ReturnReason::Stopped;
    assert_eq!(
        back,
        [(Token(2), DeliveryFate::Unknown, stopped), (Token(1), DeliveryFate::NotWritten, stopped)]
    );
    assert_eq!(send(&entrance, 4), Err(TurnedAway::Ended));
    assert!(!entrance.hold(failure(5), false, || true));
}

#[test]
fn a_client_that_is_forgotten_is_entered_no_more() {
    let entrance = entrance();
    opened(&entrance);
    entrance.forget_current();
    assert!(entrance.current().is_none());
    assert_eq!(send(&entrance, 1), Ok(None));
    assert_eq!(format!("{entrance:?}"), "Entrance { sequence: 1, .. }");
    assert!(format!("{:?}", entrance.lock()).starts_with("Parked(Parking { "));
}

fn failure(token: u64) -> Failure {
    Failure {
        token: Token(token),
        sequence: Sequence(token),
        topic: TopicKey(1),
        partition: None,
        fate: DeliveryFate::NotWritten,
        bytes: 10,
        expires: Millis(100),
    }
}
