use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Gives the answers of a list one after the other, then the last one for ever, and notes when it was asked.
struct Script {
    answers: Mutex<VecDeque<EndpointAnswer>>,
    takes: Duration,
    start: Instant,
    asked: Mutex<Vec<Duration>>,
    in_flight: AtomicUsize,
    most: AtomicUsize,
}

impl Script {
    fn new(takes: Duration, answers: impl IntoIterator<Item = EndpointAnswer>) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.into_iter().collect()),
            takes,
            start: Instant::now(),
            asked: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    fn asked_ms(&self) -> Vec<u128> {
        self.asked.lock().iter().map(Duration::as_millis).collect()
    }
}

/// Counts a look as over also when it is dropped half way.
struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Look for Arc<Script> {
    async fn look(&self) -> EndpointAnswer {
        self.asked.lock().push(self.start.elapsed());
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let _in_flight = InFlight(&self.in_flight);
        let answer = {
            let mut answers = self.answers.lock();
            if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
        };
        tokio::time::sleep(self.takes).await;
        answer.expect("the script has an answer")
    }
}

fn found(ttl_ms: u64) -> EndpointAnswer {
    EndpointAnswer::Found { addresses: vec![[127, 0, 0, 1].into()], owner: None, ttl_ms }
}

fn failed() -> EndpointAnswer {
    EndpointAnswer::Failed("SERVFAIL".into())
}

fn exact() -> WatchOptions {
    WatchOptions { jitter: 0.0, ..WatchOptions::default() }
}

fn over(script: &Arc<Script>, options: WatchOptions) -> ResolverWatch {
    ResolverWatch::over(Box::new(Arc::clone(script)), options)
}

const AT_ONCE: Duration = Duration::ZERO;

#[tokio::test(start_paused = true)]
async fn the_first_answer_comes_at_once_and_the_others_when_their_ttl_has_run_out() {
    let answers = [found(10_000), found(20_000), found(5_000)];
    let script = Script::new(AT_ONCE, answers.clone());
    let watch = over(&script, exact());
    for answer in answers {
        assert_eq!(watch.next().await, answer);
    }
    watch.next().await;
    assert_eq!(script.asked_ms(), [0, 10_000, 30_000, 35_000]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_keeps_its_bounds_whatever_the_ttl() {
    let script = Script::new(AT_ONCE, [found(0), found(u64::MAX), found(1)]);
    let watch = over(&script, exact());
    for _ in 0..3 {
        watch.next().await;
    }
    assert_eq!(script.asked_ms(), [0, 1_000, 301_000]);
}

#[tokio::test(start_paused = true)]
async fn jitter_comes_on_top_and_its_seed_repeats_it() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let script = Script::new(AT_ONCE, [found(10_000)]);
        let watch = over(&script, WatchOptions { seed: Some(seed), ..WatchOptions::default() });
        for _ in 0..50 {
            watch.next().await;
        }
        let asked = script.asked_ms();
        let waits: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // The clock ticks in milliseconds, so a wait may show as 1 ms longer.
        assert!(waits.iter().all(|wait| (10_000..=11_001).contains(wait)), "{waits:?}");
        runs.push(waits);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[1], runs[2]);
    assert!(runs[0].iter().any(|wait| *wait > 10_100), "there is jitter at all");
}

#[tokio::test(start_paused = true)]
async fn failed_and_empty_answers_back_off_until_a_real_one() {
    let mut answers = vec![failed(), EndpointAnswer::Empty];
    answers.extend(std::iter::repeat_n(failed(), 6));
    answers.extend([found(10_000), EndpointAnswer::Empty, failed()]);
    let script = Script::new(AT_ONCE, answers.clone());
    let watch = over(&script, exact());
    for answer in answers {
        assert_eq!(watch.next().await, answer);
    }
    let waits: Vec<_> = script.asked_ms().windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 10_000, 500]);
}

#[tokio::test(start_paused = true)]
async fn asking_now_brings_the_next_turn_nearer_and_never_puts_it_off() {
    let script = Script::new(AT_ONCE, [found(60_000), found(2_000), found(60_000), failed(), found(60_000)]);
    let watch = Arc::new(over(&script, exact()));
    watch.next().await;
    let waiting = tokio::spawn({
        let watch = Arc::clone(&watch);
        async move { watch.next().await }
    });
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(watch.ask_now().await, found(2_000));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(watch.ask_now().await, found(60_000));
    assert_eq!(watch.ask_now().await, failed());
    waiting.await.unwrap();
    assert_eq!(script.asked_ms(), [0, 10_000, 11_000, 11_000, 12_000]);
}

#[tokio::test(start_paused = true)]
async fn there_is_one_question_in_flight_at_most() {
    let script = Script::new(Duration::from_secs(1), [found(1_000)]);
    let watch = Arc::new(over(&script, exact()));
    let callers: Vec<_> = (0..16)
        .map(|n| {
            let watch = Arc::clone(&watch);
            tokio::spawn(async move { if n % 2 == 0 { watch.next().await } else { watch.ask_now().await } })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(script.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_an_older_question_does_not_answer_a_new_one() {
    let script = Script::new(Duration::from_secs(1), [found(1_001), found(1_002)]);
    let watch = Arc::new(over(&script, exact()));
    let older = tokio::spawn({
        let watch = Arc::clone(&watch);
        async move { watch.next().await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(watch.ask_now().await, found(1_002));
    assert_eq!(older.await.unwrap(), found(1_001));
}

/// A caller that gives up again and again (a `select!` with a ticker) still gets the answer, of one question.
#[tokio::test(start_paused = true)]
async fn giving_up_on_next_loses_nothing() {
    let script = Script::new(Duration::from_millis(3_500), [found(10_000), found(20_000)]);
    let watch = over(&script, exact());
    for _ in 0..3 {
        assert!(tokio::time::timeout(Duration::from_secs(1), watch.next()).await.is_err());
    }
    assert_eq!(watch.next().await, found(10_000));
    assert_eq!(script.asked_ms(), [0]);

    // An answer that came while nobody waited has aged, and is not given once its TTL has run out.
    assert!(tokio::time::timeout(Duration::from_secs(11), watch.next()).await.is_err());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let EndpointAnswer::Found { ttl_ms, .. } = watch.next().await else {
        panic!("the second answer is real")
    };
    assert!((17_000..18_000).contains(&ttl_ms), "{ttl_ms} ms are left of 20 s after 2.5 s");
    assert_eq!(script.asked_ms(), [0, 13_500]);
    assert!(tokio::time::timeout(Duration::from_secs(19), watch.next()).await.is_err());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(watch.next().await, found(20_000));
    assert_eq!(script.asked_ms().len(), 4, "the one that lay unread is asked for again");
}

#[tokio::test(start_paused = true)]
async fn a_look_that_hangs_fails_and_does_not_stay_in_flight() {
    let script = Script::new(Duration::from_secs(3600), [found(10_000)]);
    let watch = over(&script, exact());
    for answer in [watch.next().await, watch.ask_now().await, watch.next().await] {
        assert_eq!(answer, EndpointAnswer::Failed("no usable answer within 5000 ms".into()));
        assert_eq!(script.in_flight.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_that_dies_fails() {
    let script = Script::new(AT_ONCE, []);
    let watch = over(&script, exact());
    for answer in [watch.next().await, watch.ask_now().await] {
        assert_eq!(answer, EndpointAnswer::Failed("the look-up was cut short".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_watch_takes_its_question_along() {
    let script = Script::new(Duration::from_secs(4), [found(10_000)]);
    let watch = over(&script, exact());
    assert!(tokio::time::timeout(Duration::from_secs(1), watch.next()).await.is_err());
    assert_eq!(script.in_flight.load(Ordering::SeqCst), 1);
    drop(watch);
    tokio::task::yield_now().await;
    assert_eq!(script.in_flight.load(Ordering::SeqCst), 0);
}
