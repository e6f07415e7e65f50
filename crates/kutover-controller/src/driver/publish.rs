//! The publication: owner record and endpoint records, the authoritative one first.

use std::collections::BTreeMap;
use std::time::Duration;

use kutover_core::cutover::Answer;
use kutover_core::error::{ErrorKind, Outcome, ProviderError, ProviderResult};
use kutover_core::owner::{OwnerRecord, Target};
use kutover_core::ports::{Incarnation, Published, RecordSet};
use kutover_core::words::{EndpointKey, Nonce, Term};
use tokio::time::{Instant, timeout_at};

use super::world::World;

/// How often it is asked whether every authoritative server serves a new record.
const VISIBLE_POLL: Duration = Duration::from_millis(100);

/// What stands at an endpoint that is to be swapped.
struct Ahead<'a> {
    endpoint: &'a EndpointKey,
    found: Published,
    owner: OwnerRecord,
    set: RecordSet,
}

/// What has become of each endpoint. One that is not in it has not been tried.
type Fates<'a> = BTreeMap<&'a EndpointKey, ProviderResult<()>>;

impl World {
    /// Swaps owner record and endpoint records. All of them are looked at before the first is changed, and nothing is where
    /// one cannot be. The first endpoint's owner record holds the term and says alone where the deployment is: the others
    /// carry copies, which are written after it and never without it. From then on each that can be switched is, and the
    /// error says which are and what is missing. Returns once every authoritative server serves them.
    pub(super) async fn publish(
        &self,
        term: Term,
        target: &Target,
        to: &Incarnation,
        nonce: &Nonce,
    ) -> ProviderResult<Answer> {
        let deadline = self.patience();
        let what = format!("publish generation {}", target.generation);
        let first = self.first_endpoint();
        let (mut ahead, mut fates) = (Vec::new(), Fates::new());
        for endpoint in &self.deployment.endpoints {
            match self.still_ahead(endpoint, term, target, to, nonce).await {
                Ok(Some(next)) => ahead.push(next),
                Ok(None) => drop(fates.insert(endpoint, Ok(()))),
                Err(error) => note(&mut fates, endpoint, error)?,
            }
        }
        let (ahead, back) = self.check_ahead(target, to, ahead, &mut fates).await;
        let mut begun = fates.get(first).is_some_and(Result::is_ok);
        // On a way back nobody may be able to write before the first is switched: the others do not bar it.
        let bars = |(endpoint, fate): (&&EndpointKey, &ProviderResult<()>)| {
            fate.is_err() && (!back || *endpoint == first)
        };
        if !begun && fates.iter().any(bars) {
            return Err(self.partly(&what, &fates));
        }
        for Ahead { endpoint, found, owner, set } in ahead {
            let owner =
                OwnerRecord { term, nonce: nonce.clone(), target: target.clone(), intent: None, ..owner };
            let set = RecordSet { ttl_s: set.ttl_s, data: to.endpoint.clone() };
            let desired = Published { endpoint: Some(set), owner: Some(owner) };
            match self.dns(endpoint)?.compare_and_set(&endpoint.name, &found, &desired).await {
                Ok(()) => drop(fates.insert(endpoint, Ok(()))),
                Err(error) => note(&mut fates, endpoint, error)?,
            }
            begun |= endpoint == first && fates.get(first).is_some_and(Result::is_ok);
            if !begun {
                break;
            }
        }
        if fates.values().any(Result::is_err) {
            return Err(self.partly(&what, &fates));
        }
        self.served(&what, deadline).await?;
        Ok(Answer::Done)
    }

    /// What stands at an endpoint, if it is not what is wanted yet.
    async fn still_ahead<'a>(
        &self,
        endpoint: &'a EndpointKey,
        term: Term,
        target: &Target,
        to: &Incarnation,
        nonce: &Nonce,
    ) -> ProviderResult<Option<Ahead<'a>>> {
        let (found, owner, set) = self.owned_or_new_copy(endpoint, term, target, nonce).await?;
        if owner.target.generation > target.generation {
            return Err(ProviderError::new(
                ErrorKind::Refused,
                format!("publish generation {} at {endpoint}", target.generation),
                format!("the owner record already says generation {}", owner.target.generation),
            ));
        }
        let done = found.owner.is_some() && owner.target == *target && set.data == to.endpoint;
        Ok((!done).then_some(Ahead { endpoint, found, owner, set }))
    }

    /// As [`World::ours`]; a further endpoint that has no owner record yet gets its first copy.
    async fn owned_or_new_copy(
        &self,
        endpoint: &EndpointKey,
        term: Term,
        target: &Target,
        nonce: &Nonce,
    ) -> ProviderResult<(Published, OwnerRecord, RecordSet)> {
        if endpoint == self.first_endpoint() {
            return self.ours(endpoint, term).await;
        }
        let (found, set) = self.standing(endpoint, term).await?;
        let owner = found.owner.clone().unwrap_or_else(|| OwnerRecord {
            deployment: self.deployment.name.clone(),
            term,
            nonce: nonce.clone(),
            target: target.clone(),
            intent: None,
            removal: None,
        });
        Ok((found, owner, set))
    }

    /// Those of them that may be swapped, and whether it is a way back.
    async fn check_ahead<'a>(
        &self,
        target: &Target,
        to: &Incarnation,
        ahead: Vec<Ahead<'a>>,
        fates: &mut Fates<'a>,
    ) -> (Vec<Ahead<'a>>, bool) {
        let mut back = target.colour != self.switch.to;
        if ahead.is_empty() {
            return (ahead, back);
        }
        let from = to.colour.other();
        let left = self.provisioner(from).describe(from).await;
        // A way back removes nothing, and whoever still has the longer answer is better off the sooner it is over.
        let intended = |owner: &OwnerRecord| {
            owner.intent.as_ref().is_some_and(|intent| intent.opening == target.generation)
        };
        back |= ahead.iter().any(|next| intended(&next.owner));
        let mut may = Vec::new();
        for next in ahead {
            let Ahead { endpoint, set, .. } = &next;
            let checked = self.check_not_elsewhere(endpoint, set, to, &left);
            match checked.and_then(|()| if back { Ok(()) } else { self.check_ttl(endpoint, set) }) {
                Ok(()) => may.push(next),
                Err(error) => drop(fates.insert(endpoint, Err(error))),
            }
        }
        (may, back)
    }

    /// Refuses to swap a record set that leads to neither cluster: somebody has changed it, and may have had a reason.
    fn check_not_elsewhere(
        &self,
        endpoint: &EndpointKey,
        set: &RecordSet,
        to: &Incarnation,
        left: &ProviderResult<Option<Incarnation>>,
    ) -> ProviderResult<()> {
        let from = to.colour.other();
        if set.data == to.endpoint {
            return Ok(());
        }
        match left {
            // The cluster that is left is gone, and nobody can say what led there: this must not bar the way.
            Ok(None) => return Ok(()),
            Ok(Some(left)) if set.data == left.endpoint => return Ok(()),
            Ok(Some(_)) => {}
            // Nor must a provisioner that does not answer, where this controller has seen what leads there.
            Err(_) if self.led_to(from, &set.data) => return Ok(()),
            Err(error) => {
                let reason = format!(
                    "it points at {:?}, and whether that is {from} cannot be told: {error}",
                    set.data
                );
                return Err(ProviderError { what: format!("publish {endpoint}"), reason, ..error.clone() });
            }
        }
        Err(ProviderError::new(
            ErrorKind::Refused,
            format!("publish {endpoint}"),
            format!(
                "it points at {:?}, which is neither blue nor green: find out who changed it, and put it right",
                set.data
            ),
        ))
    }

    /// Which endpoints are switched, and which are not and why; of one alone, why.
    fn partly(&self, what: &str, fates: &Fates<'_>) -> ProviderError {
        let (mut switched, mut missing, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for endpoint in &self.deployment.endpoints {
            match fates.get(endpoint) {
                Some(Ok(())) => switched.push(endpoint.to_string()),
                Some(Err(error)) => {
                    missing.push(format!("{endpoint} ({error})"));
                    errors.push(error);
                }
                None => missing.push(format!("{endpoint} (waits for the others)")),
            }
        }
        let switched = if switched.is_empty() { "none".to_owned() } else { switched.join(", ") };
        let reason = format!("switched: {switched}; missing: {}", missing.join(", "));
        match (errors.as_slice(), self.deployment.endpoints.as_slice()) {
            ([error], [_]) => (*error).clone(),
            ([], _) => ProviderError::new(ErrorKind::Invalid, what, reason),
            ([error, ..], _) => {
                let unknown = errors.iter().any(|error| error.outcome == Outcome::Unknown);
                let outcome = if unknown { Outcome::Unknown } else { Outcome::NotDone };
                ProviderError { what: what.into(), reason, outcome, ..(*error).clone() }
            }
        }
    }

    /// When a wait within a command is over: before the command itself is given up, which would say nothing of why.
    pub(super) fn patience(&self) -> Instant {
        Instant::now() + self.switch.command_timeout * 9 / 10
    }

    /// Returns once every authoritative server serves what stands at the endpoints.
    ///
    /// # Errors
    /// What is not served when `deadline` has come, by its endpoint; or the first trouble in asking.
    pub(super) async fn served(&self, what: &str, deadline: Instant) -> ProviderResult<()> {
        let mut waiting = Vec::new();
        for endpoint in &self.deployment.endpoints {
            waiting.push((endpoint, self.dns(endpoint)?.read(&endpoint.name).await?));
        }
        loop {
            let (mut behind, mut silent) = (Vec::new(), None);
            for (endpoint, published) in waiting {
                match timeout_at(deadline, self.dns(endpoint)?.is_visible(&endpoint.name, &published)).await {
                    Ok(Ok(true)) => {}
                    Ok(Ok(false)) | Err(_) => behind.push((endpoint, published)),
                    Ok(Err(error)) if error.kind.is_silence() => {
                        silent = Some(error);
                        behind.push((endpoint, published));
                    }
                    Ok(Err(error)) => return Err(error),
                }
            }
            if behind.is_empty() {
                return Ok(());
            }
            if Instant::now() + VISIBLE_POLL >= deadline {
                let names: Vec<String> = behind.iter().map(|(endpoint, _)| endpoint.to_string()).collect();
                let why = silent.map_or_else(String::new, |error: ProviderError| format!(" ({error})"));
                let reason = format!(
                    "not every authoritative server serves the change yet at {}{why}; it is stored, and kutover goes on when they \
                     do",
                    names.join(", ")
                );
                return Err(ProviderError::new(ErrorKind::Unavailable, what, reason));
            }
            tokio::time::sleep(VISIBLE_POLL).await;
            waiting = behind;
        }
    }
}

/// Notes what went wrong at an endpoint. Under another controller's term nothing more is tried.
fn note<'a>(fates: &mut Fates<'a>, endpoint: &'a EndpointKey, error: ProviderError) -> ProviderResult<()> {
    if error.kind == ErrorKind::Superseded {
        return Err(error);
    }
    fates.insert(endpoint, Err(error));
    Ok(())
}
