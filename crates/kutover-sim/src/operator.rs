//! The operator: starts controllers, starts them again when they die, approves, and takes what stands in the way away.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use kutover_controller::driver::{Controller, Deployment, DriveError, Finished, Operator as Word};
use kutover_core::cutover::{ApprovalGate, Event, Plan, StateName, Stop};
use kutover_core::words::{Colour, Nonce};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::observed::{Act, TakenBack};
use crate::ports::Ports;
use crate::weather::{CONTROLLERS_MEET, Fault, mostly_short, shaped};
use crate::witness::note;
use crate::world::{Awake, Flag, World};

/// What a whole run of cutovers came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) cutovers: u64,
    pub(crate) rollbacks: u64,
    pub(crate) crashes: u64,
    pub(crate) pauses: u64,
    pub(crate) resumes: u64,
    pub(crate) aborts: u64,
}

/// How one controller's run ended.
enum Ran {
    Ended(Box<Result<Finished, DriveError>>),
    Crashed,
}

/// A controller that may die or sleep between any two of its instructions.
struct Mortal<F> {
    running: Pin<Box<F>>,
    world: Arc<World>,
    by: usize,
    asleep: Option<Pin<Box<Sleep>>>,
    awake: Option<Awake>,
    tally: Arc<Mutex<Tally>>,
}

impl<F: Future<Output = Result<Finished, DriveError>>> Future for Mortal<F> {
    type Output = Ran;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ran> {
        if let Some(asleep) = &mut self.asleep {
            if asleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.asleep = None;
            self.awake = Some(self.world.awake());
            note!(self.world.witness, "controller {} wakes", self.by);
        }
        if self.world.weather.strikes(Fault::ControllerCrash).is_some() {
            note!(self.world.witness, "controller {} dies", self.by);
            self.tally.lock().crashes += 1;
            return Poll::Ready(Ran::Crashed);
        }
        if let Some(shape) = self.world.weather.strikes(Fault::ControllerPause) {
            note!(self.world.witness, "controller {} sleeps", self.by);
            self.tally.lock().pauses += 1;
            let mut asleep = Box::pin(tokio::time::sleep(mostly_short(shape, 1_000, 600_000)));
            // Registers the waking.
            let _ = asleep.as_mut().poll(context);
            self.asleep = Some(asleep);
            self.awake = None;
            return Poll::Pending;
        }
        self.running.as_mut().poll(context).map(|ended| Ran::Ended(Box::new(ended)))
    }
}

/// Runs the steps of a scene.
pub(crate) struct Operator {
    world: Arc<World>,
    tally: Arc<Mutex<Tally>>,
    started: Mutex<usize>,
}

impl Operator {
    pub(crate) fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self { world: Arc::clone(world), tally: Arc::default(), started: Mutex::new(0) })
    }

    pub(crate) fn tally(&self) -> Tally {
        *self.tally.lock()
    }

    /// Makes the deployment kutover's, before anybody writes to it.
    pub(crate) async fn adopt(&self) {
        for _ in 0..1_000 {
            let (by, controller) = self.controller(self.world.scene.plan.clone());
            let witness = &self.world.witness;
            let adopted = controller.adopt(|event| note!(witness, "controller {by}: {event}")).await;
            if adopted.is_ok_and(|finished| finished.stop == Stop::Adopted) {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Every cutover of the scene, each to its end.
    pub(crate) async fn run(self: Arc<Self>) {
        for step in self.world.scene.steps.clone() {
            let to = self.active().unwrap_or(Colour::Blue).other();
            let course = Arc::new(Course {
                to,
                back: Flag::default(),
                wants: step.back,
                held: AtomicU32::new(0),
                set_out: AtomicBool::new(false),
                done: AtomicBool::new(false),
            });
            let beside = async {
                if let Some(shape) = self.world.weather.strikes(Fault::SecondController) {
                    tokio::time::sleep(shaped(shape, 100, 60_000)).await;
                    if !course.done.load(Ordering::Relaxed) {
                        self.world.memory.faults.fire(CONTROLLERS_MEET);
                    }
                    self.insist_once(&course).await;
                }
            };
            tokio::join!(self.insist(&course), beside);
        }
    }

    fn active(&self) -> Option<Colour> {
        let published = self.world.memory.dns.published(&self.world.endpoint());
        published.owner.map(|owner| owner.target.colour)
    }

    /// Runs a step's controllers one after the other until one of them has brought it to its end.
    async fn insist(&self, course: &Arc<Course>) {
        let mut tries = 0;
        while !self.insist_once(course).await {
            tries += 1;
            self.tally.lock().resumes += 1;
            // Somebody notices, and starts it again.
            tokio::time::sleep(Duration::from_millis(500 + 500 * (tries % 7))).await;
        }
    }

    fn controller(&self, plan: Plan) -> (usize, Controller) {
        let by = {
            let mut started = self.started.lock();
            *started += 1;
            *started
        };
        let world = &self.world;
        let deployment = Deployment {
            name: plan.deployment.clone(),
            endpoints: vec![world.endpoint().into()],
            initial: Colour::Blue,
            ordinary_ttl_s: world.scene.ordinary_ttl_s,
            read_uncommitted: [].into(),
        };
        let nonce = Nonce::new(format!("nonce-{by}"));
        (by, Controller::new(plan, deployment, Ports::new(world, by).backends()).with_nonce(nonce))
    }

    /// One controller, once. Whether the step is done.
    async fn insist_once(&self, course: &Arc<Course>) -> bool {
        if course.done.load(Ordering::Relaxed) {
            return true;
        }
        let world = &self.world;
        let (by, controller) = self.controller(Plan { to: course.to, ..world.scene.plan.clone() });
        note!(world.witness, "controller {by} starts towards {}", course.to);
        // A step that was rolled back is left at that; the next one says that it means it.
        let controller = if course.set_out.load(Ordering::Relaxed) { controller } else { controller.again() };
        let (words, heard) = mpsc::unbounded_channel();
        let events = listener(Arc::clone(world), by, Arc::clone(course), words.clone());
        let back = tokio::spawn(say_back(Arc::clone(course), words));
        let running = Box::pin(controller.run(heard, events));
        let (tally, world) = (Arc::clone(&self.tally), Arc::clone(world));
        let awake = Some(world.awake());
        let ran = Mortal { running, world, by, asleep: None, awake, tally }.await;
        back.abort();
        let done = self.ended(by, course, ran);
        if done {
            course.done.store(true, Ordering::Relaxed);
        }
        done
    }

    fn ended(&self, by: usize, course: &Course, ran: Ran) -> bool {
        let witness = &self.world.witness;
        let Ran::Ended(ended) = ran else { return false };
        let finished = match *ended {
            Err(error) => {
                note!(witness, "controller {by}: {error}");
                self.stuck(&error.to_string());
                return false;
            }
            Ok(finished) => finished,
        };
        note!(witness, "controller {by}: {:?}", finished.stop);
        if course.done.load(Ordering::Relaxed) {
            return true; // The other controller of this step was first.
        }
        let mut tally = self.tally.lock();
        match finished.stop {
            Stop::Complete => tally.cutovers += 1,
            Stop::RolledBack(_) => {
                (tally.cutovers, tally.rollbacks) = (tally.cutovers + 1, tally.rollbacks + 1)
            }
            Stop::Aborted(_) => {
                // One that was not wanted is tried again.
                tally.aborts += 1;
                return course.back.is_raised();
            }
            Stop::Broken(reason) => {
                witness.observed().broken.push(reason);
                return false;
            }
            stop => {
                drop(tally);
                self.stuck(&format!("{stop:?}"));
                if let Stop::Held(why) = stop
                    && self.world.weather.is_calm()
                {
                    self.held(by, course, why);
                }
                return false;
            }
        }
        true
    }

    /// Who is held again and again with nothing left to wait for goes back.
    fn held(&self, by: usize, course: &Course, why: String) {
        if course.held.fetch_add(1, Ordering::Relaxed) < 2 || course.back.is_raised() {
            return;
        }
        let witness = &self.world.witness;
        let at_ms = witness.now_ms();
        let mut observed = witness.observed();
        let state = observed.acts.iter().rev().find_map(|acted| match acted.act {
            Act::Entered(state) if acted.by == Some(by) => Some(state),
            _ => None,
        });
        observed.taken_back.push(TakenBack { at_ms, state, why });
        drop(observed);
        course.back.raise();
    }

    /// What a controller stopped at, for the case that it never gets further.
    fn stuck(&self, why: &str) {
        if self.world.weather.is_calm() {
            *self.world.last_stop.lock() = Some(why.to_owned());
        }
    }
}

/// One step as it goes on.
struct Course {
    to: Colour,
    /// The operator wants back.
    back: Flag,
    /// From which state on, and how many milliseconds later.
    wants: Option<(StateName, u64)>,
    /// How often it was held in calm weather.
    held: AtomicU32,
    /// A controller has begun with it.
    set_out: AtomicBool,
    done: AtomicBool,
}

/// Tells a controller that the operator wants back, once that is so.
async fn say_back(course: Arc<Course>, words: mpsc::UnboundedSender<Word>) {
    course.back.raised().await;
    // Before the publication that is an abort.
    let _ = words.send(Word::RollBack);
}

/// What a controller tells becomes acts; what it asks is answered by a person, sometimes late.
fn listener(
    world: Arc<World>,
    by: usize,
    course: Arc<Course>,
    words: mpsc::UnboundedSender<Word>,
) -> impl FnMut(Event) + Send {
    move |event| match event {
        Event::Entered { state } => {
            world.witness.act(Some(by), Act::Entered(state));
            course.set_out.store(true, Ordering::Relaxed);
            if let Some((_, after_ms)) = course.wants.filter(|(wanted, _)| *wanted == state) {
                let course = Arc::clone(&course);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                    course.back.raise();
                });
            }
        }
        Event::BarrierLost { generation, .. } => world.witness.act(Some(by), Act::GivenUp(generation)),
        Event::AwaitingApproval { gate, unmoved } => approve(&world, gate, unmoved, words.clone()),
        other => note!(world.witness, "controller {by}: {other}"),
    }
}

/// A person says yes sooner or later; to what may still write to a cluster that goes, once it has ended or moved.
fn approve(world: &Arc<World>, gate: ApprovalGate, unmoved: Vec<String>, words: mpsc::UnboundedSender<Word>) {
    let late = world.weather.strikes(Fault::ApprovalLate);
    let after = late.map_or(Duration::from_secs(1), |shape| mostly_short(shape, 5_000, 600_000));
    let world = Arc::clone(world);
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        while unmoved.iter().any(|key| world.producer_stays(key)) {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        note!(world.witness, "approved: {gate:?}");
        // It may have died meanwhile.
        let _ = words.send(Word::Approve(gate));
    });
}
