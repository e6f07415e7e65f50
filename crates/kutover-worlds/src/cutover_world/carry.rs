//! The commands, as `kutover-controller`'s driver carries them out: what looks looks, what writes several places takes a
//! step for each.

use kutover_core::controls::{Control, without};
use kutover_core::cutover::{Answer, Command};
use kutover_core::error::{ErrorKind, ProviderError, ProviderResult};
use kutover_core::messages::{ControlBody, ControlMessage};
use kutover_core::owner::{OwnerRecord, RemovalMark, Target};
use kutover_core::ports::{FenceKind, Incarnation};
use kutover_core::words::{Colour, Generation, Nonce, Term};

use super::controller::{Scratch, Went};
use super::place::{Dns, Place};
use crate::names::{cluster_id, identity, incarnation, index};
use crate::promise::{Broken, Promise};

pub(super) fn error(kind: ErrorKind, why: &str) -> ProviderError {
    ProviderError::new(kind, "world", why)
}

fn done() -> ProviderResult<Went> {
    Ok(Went::Done(Answer::Done))
}

impl Place {
    /// Carries a command on by one place.
    pub(super) fn carry(
        &mut self,
        command: &Command,
        scratch: &mut Scratch,
        term: Term,
        broken: &mut Option<Broken>,
    ) -> ProviderResult<Went> {
        let replaces_the_owner =
            matches!(command, Command::Publish { .. } | Command::MarkRemoval { .. } | Command::Tidy { .. });
        if replaces_the_owner && scratch.at == 1 {
            self.swap(scratch, term, broken)?;
            return done();
        }
        match command {
            Command::TakeTerm { nonce, adopt, earlier } => self.take_term(nonce, *adopt, earlier, scratch),
            Command::Publish { target, to, nonce } => self.publish(term, target, to, nonce, scratch),
            Command::MarkRemoval { mark, nonce } => self.mark(term, mark, nonce, scratch),
            Command::Tidy { nonce, .. } => self.tidy(term, nonce, scratch),
            Command::Isolate { old, nonce } => self.isolate(old, nonce, broken),
            Command::Destroy { colour, mark } => self.destroy(*colour, mark, broken),
            Command::Claim { nonce, target, on, .. } => {
                let claim = ControlBody::Claim { nonce: nonce.clone() };
                let bodies = [claim, ControlBody::Announce { target: target.clone() }];
                if let Some(on) = on.get(usize::from(scratch.at)) {
                    self.may_claim(on, term, nonce, target)?;
                    return Ok(Went::More);
                }
                self.say_all(term, on, &bodies, usize::from(scratch.at) - on.len(), broken)
            }
            Command::WriteChain { on, chain } => {
                self.say_all(term, on, &ControlBody::of_chain(chain), scratch.at.into(), broken)
            }
            Command::Announce { target, on } => {
                let bodies = [
                    ControlBody::Fence { colour: target.colour, up: false },
                    ControlBody::Announce { target: target.clone() },
                    ControlBody::Intent { intent: None },
                ];
                self.say_all(term, on, &bodies, scratch.at.into(), broken)
            }
            Command::RaiseFence { old, on, .. } => {
                let body = ControlBody::Fence { colour: old.colour, up: true };
                if let Some(on) = on.get(usize::from(scratch.at)) {
                    self.say(term, on, &body, broken)?;
                    return Ok(Went::More);
                }
                self.reach(old)?;
                self.ground.at_mut(old.colour).fenced = true;
                Ok(Went::Done(Answer::FenceRaised { kind: FenceKind::Hook }))
            }
            Command::WriteIntent { .. } => self.write_intent(command, scratch, term, broken),
            Command::Reopen { on, isolations, prove, .. } => self.reopen(on, isolations, *prove, scratch),
            _ => self.look(command, scratch, term),
        }
    }

    /// A cluster that is dead or gone does not answer.
    pub(super) fn reach(&self, on: &Incarnation) -> ProviderResult<()> {
        if self.infra[index(on.colour)].present && !self.ground.at(on.colour).dead {
            Ok(())
        } else {
            Err(error(ErrorKind::Unreachable, "the cluster does not answer"))
        }
    }

    pub(super) fn incarnation(&self, colour: Colour) -> ProviderResult<Incarnation> {
        let present = self.infra[index(colour)].present;
        present
            .then(|| incarnation(colour, 1))
            .ok_or_else(|| error(ErrorKind::NotFound, "nothing stands there"))
    }

    fn say(
        &mut self,
        term: Term,
        on: &Incarnation,
        body: &ControlBody,
        broken: &mut Option<Broken>,
    ) -> ProviderResult<()> {
        self.reach(on)?;
        let view = &mut self.ground.at_mut(on.colour).control;
        let before = view.term;
        let message = ControlMessage { deployment: "d".into(), term, body: body.clone() };
        if view.apply(&message) && term < before {
            let seen =
                format!("the control topic of {} heeds term {term} after {before} claimed it", on.colour);
            broken.get_or_insert(Broken::new(Promise::G6, seen));
        }
        Ok(())
    }

    /// Says each of some messages on each of some clusters; this is the n-th time.
    fn say_all(
        &mut self,
        term: Term,
        on: &[Incarnation],
        bodies: &[ControlBody],
        nth: usize,
        broken: &mut Option<Broken>,
    ) -> ProviderResult<Went> {
        let (body, on) = (bodies.get(nth / on.len()), &on[nth % on.len()]);
        match body {
            Some(body) => self.say(term, on, body, broken).map(|()| Went::More),
            None => done(),
        }
    }

    fn may_claim(&self, on: &Incarnation, term: Term, nonce: &Nonce, target: &Target) -> ProviderResult<()> {
        self.reach(on)?;
        let view = &self.ground.at(on.colour).control;
        if view.term > term {
            return Err(error(ErrorKind::Superseded, "a newer term has claimed it"));
        }
        if view.term == term && view.claim.as_ref().is_some_and(|claim| claim != nonce) {
            return Err(error(ErrorKind::Refused, "another controller has claimed this term"));
        }
        match &view.target {
            Some(known) if known.generation > target.generation => {
                Err(error(ErrorKind::Refused, "it knows a newer generation than the owner record"))
            }
            Some(known) if known.generation == target.generation && known != target => {
                Err(error(ErrorKind::Refused, "it says something else of this generation"))
            }
            _ => Ok(()),
        }
    }

    /// What stands there, if it is under our term.
    fn ours(&self, term: Term) -> ProviderResult<(Dns, OwnerRecord)> {
        let found = self.dns.clone();
        let owner = found.owner.clone().ok_or_else(|| error(ErrorKind::NotFound, "no owner record"))?;
        if owner.term > term && !without(Control::SkipTerm) {
            return Err(error(ErrorKind::Superseded, "a newer term is in force"));
        }
        Ok((found, owner))
    }

    /// Replaces what was read, if it still stands there.
    fn swap(&mut self, scratch: &mut Scratch, term: Term, broken: &mut Option<Broken>) -> ProviderResult<()> {
        let Some((expected, desired)) = scratch.swap.take() else { return Ok(()) };
        if self.dns != expected {
            return Err(error(ErrorKind::Conflict, "something else stands there now"));
        }
        if let (Some(before), Some(after)) = (&expected.owner, &desired.owner) {
            if before.term > term {
                let seen = format!("term {term} replaces a record of term {}", before.term);
                broken.get_or_insert(Broken::new(Promise::G6, seen));
            }
            if after.target.generation < before.target.generation {
                broken.get_or_insert(Broken::new(Promise::G6, "the published generation goes back"));
            }
            if before.removal.is_some() && after.target.generation > before.target.generation {
                broken.get_or_insert(Broken::new(Promise::G4, "a new generation while a removal is marked"));
            }
        }
        self.dns = desired;
        self.note_owner();
        Ok(())
    }

    fn take_term(
        &mut self,
        nonce: &Nonce,
        adopt: bool,
        earlier: &[Nonce],
        scratch: &mut Scratch,
    ) -> ProviderResult<Went> {
        if scratch.at == 1 {
            let term = scratch.swap.as_ref().and_then(|(_, desired)| desired.owner.as_ref());
            let term = term.map_or(Term(0), |owner| owner.term);
            self.swap(scratch, term, &mut None)?;
            return self.term_taken();
        }
        let found = self.dns.clone();
        let ours = match &found.owner {
            Some(owner) if owner.nonce == *nonce => return self.term_taken(),
            None if adopt => OwnerRecord {
                deployment: "d".into(),
                term: Term(1),
                nonce: nonce.clone(),
                target: crate::names::target(1, found.endpoint),
                intent: None,
                removal: None,
            },
            None => return Err(error(ErrorKind::Refused, "there is no owner record")),
            Some(owner) if adopt && !earlier.contains(&owner.nonce) => {
                return Err(error(ErrorKind::Refused, "the journal is empty"));
            }
            Some(owner) => OwnerRecord { term: owner.term.next(), nonce: nonce.clone(), ..owner.clone() },
        };
        let desired = Dns { owner: Some(ours), ..found.clone() };
        scratch.swap = Some((found, desired));
        Ok(Went::More)
    }

    fn term_taken(&self) -> ProviderResult<Went> {
        let owner = self.dns.owner.clone().ok_or_else(|| error(ErrorKind::NotFound, "no owner record"))?;
        let active = self.incarnation(owner.target.colour)?;
        Ok(Went::Done(Answer::TermTaken { term: owner.term, owner, active }))
    }

    fn publish(
        &mut self,
        term: Term,
        target: &Target,
        to: &Incarnation,
        nonce: &Nonce,
        scratch: &mut Scratch,
    ) -> ProviderResult<Went> {
        let (found, owner) = self.ours(term)?;
        if owner.target.generation > target.generation {
            return Err(error(ErrorKind::Refused, "it says a newer generation"));
        }
        if owner.target == *target && found.endpoint == to.colour {
            return done();
        }
        let owner = OwnerRecord { term, nonce: nonce.clone(), target: target.clone(), intent: None, ..owner };
        scratch.swap = Some((found, Dns { owner: Some(owner), endpoint: to.colour }));
        Ok(Went::More)
    }

    fn mark(
        &mut self,
        term: Term,
        mark: &RemovalMark,
        nonce: &Nonce,
        scratch: &mut Scratch,
    ) -> ProviderResult<Went> {
        let (found, owner) = self.ours(term)?;
        match &owner.removal {
            Some(known) if known == mark => return done(),
            Some(_) => return Err(error(ErrorKind::Refused, "another removal is marked")),
            None => {}
        }
        let owner = OwnerRecord { nonce: nonce.clone(), removal: Some(mark.clone()), ..owner };
        scratch.swap = Some((found.clone(), Dns { owner: Some(owner), ..found }));
        Ok(Went::More)
    }

    fn tidy(&mut self, term: Term, nonce: &Nonce, scratch: &mut Scratch) -> ProviderResult<Went> {
        let (found, owner) = self.ours(term)?;
        if owner.removal.is_none() {
            return done();
        }
        let owner = OwnerRecord { nonce: nonce.clone(), removal: None, ..owner };
        scratch.swap = Some((found.clone(), Dns { owner: Some(owner), ..found }));
        Ok(Went::More)
    }

    fn write_intent(
        &mut self,
        command: &Command,
        scratch: &mut Scratch,
        term: Term,
        broken: &mut Option<Broken>,
    ) -> ProviderResult<Went> {
        let Command::WriteIntent { intent, unmark, nonce, claim, on, also } = command else { return done() };
        let body = ControlBody::Intent { intent: Some(intent.clone()) };
        match scratch.at {
            0 => {
                let (found, owner) = self.ours(term)?;
                if owner.removal.is_some() && owner.removal != *unmark {
                    return Err(error(ErrorKind::Refused, "a removal is marked: there is no way back"));
                }
                if owner.intent.as_ref() == Some(intent) || owner.target.generation >= intent.opening {
                    return Ok(Went::More);
                }
                if owner.target.generation != intent.closing {
                    return Err(error(ErrorKind::Refused, "it says another generation"));
                }
                let (nonce, intent) = (nonce.clone(), Some(intent.clone()));
                let owner = OwnerRecord { term, nonce, intent, removal: None, ..owner };
                scratch.swap = Some((found.clone(), Dns { owner: Some(owner), ..found }));
            }
            1 => self.swap(scratch, term, broken)?,
            2 => self.say(term, on, &body, broken)?,
            _ if self.reach(also).is_err() => return done(),
            3 => {
                if let Some(target) = &self.ground.at(also.colour).control.target {
                    self.may_claim(also, term, claim, target)?;
                }
            }
            4 => self.say(term, also, &ControlBody::Claim { nonce: claim.clone() }, broken)?,
            5 => self.say(term, also, &body, broken)?,
            _ => return done(),
        }
        Ok(Went::More)
    }

    fn reopen(
        &mut self,
        on: &Incarnation,
        isolations: &[Nonce],
        prove: bool,
        scratch: &mut Scratch,
    ) -> ProviderResult<Went> {
        self.reach(on)?;
        let at = usize::from(scratch.at);
        if let Some(name) = isolations.get(at) {
            self.infra(on.colour).isolations.remove(name);
            return Ok(Went::More);
        }
        match at - isolations.len() {
            0 => self.ground.at_mut(on.colour).fenced = false,
            _ if prove && self.ground.at(on.colour).fenced => {
                return Err(error(ErrorKind::Unavailable, "a leader would not take a record"));
            }
            _ => return done(),
        }
        Ok(Went::More)
    }

    /// Shuts clients out of a cluster: here it is seen whether somebody is known to live there.
    fn isolate(
        &mut self,
        old: &Incarnation,
        nonce: &Nonce,
        broken: &mut Option<Broken>,
    ) -> ProviderResult<Went> {
        if self.members.iter().any(|member| member.lives_on(old.colour)) {
            let seen = format!("{} is shut off, and a member was just seen to live there", old.colour);
            broken.get_or_insert(Broken::new(Promise::G4, seen));
        }
        self.infra(old.colour).isolations.insert(nonce.clone());
        Ok(Went::Done(Answer::Isolated { shut_out: true }))
    }

    /// Removes what the mark names: here it is seen whether it may go.
    fn destroy(
        &mut self,
        colour: Colour,
        mark: &RemovalMark,
        broken: &mut Option<Broken>,
    ) -> ProviderResult<Went> {
        let there = incarnation(colour, 1);
        if !self.infra[index(colour)].present || there.id != mark.incarnation {
            return done();
        }
        if cluster_id(colour) != mark.cluster_id {
            return Err(error(ErrorKind::Refused, "another cluster lives there"));
        }
        let (infra, cluster) = (&self.infra[index(colour)], self.ground.at(colour));
        let owner = self.dns.owner.as_ref();
        let why = if owner.is_none_or(|owner| owner.target.colour == colour) {
            Some("it is where producers belong")
        } else if owner.and_then(|owner| owner.removal.as_ref()) != Some(mark) {
            Some("the owner record does not mark it")
        } else if !cluster.fenced && infra.isolations.is_empty() {
            Some("nothing keeps clients from writing to it")
        } else if infra.committed < cluster.log.len() {
            Some("records on it are unread")
        } else {
            None
        };
        if let Some(why) = why {
            let seen = format!("{colour} is destroyed, and {why}");
            broken.get_or_insert(Broken::new(Promise::G4, seen));
        }
        self.infra(colour).present = false;
        done()
    }

    /// What the owner record says is what resolvers may answer from now on.
    pub(super) fn note_owner(&mut self) {
        let Some(owner) = &self.dns.owner else { return };
        let said = crate::ground::OwnerSaid { target: owner.target.clone(), intent: owner.intent.clone() };
        let colour = owner.target.colour;
        if self.ground.owner.last() != Some(&said) {
            self.ground.owner.push(said);
        }
        debug_assert!(
            owner.target.generation > Generation(0) && identity(colour).cluster_id == cluster_id(colour)
        );
    }
}
