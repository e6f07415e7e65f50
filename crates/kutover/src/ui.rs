//! What a person sees while it runs: bars and live rates on a terminal, plain lines otherwise. All of it on stderr.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kutover_core::cutover::StateName;
use parking_lot::Mutex;

use crate::report::group_digits;

/// How often plain output says where things stand.
const PLAIN_EVERY: Duration = Duration::from_secs(2);
/// How many rates a sparkline shows.
const SPARKS: usize = 32;
const SPARK: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Live numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge {
    /// Records in each cluster's log so far: blue, green.
    pub logged: [u64; 2],
    /// Records sent and acknowledged so far.
    pub acknowledged: u64,
    /// Each group's name with the records that it has not processed yet.
    pub lags: Vec<(String, u64)>,
}

struct Bars {
    multi: MultiProgress,
    stage: ProgressBar,
    colours: [ProgressBar; 2],
    moved: ProgressBar,
    groups: ProgressBar,
}

struct State {
    began: Instant,
    gauged: Option<(Instant, [u64; 2])>,
    history: [VecDeque<u64>; 2],
    told: Instant,
    stage: String,
}

/// See the [module](self).
pub(crate) struct Ui {
    bars: Option<Bars>,
    state: Mutex<State>,
}

impl Ui {
    /// Bars if stderr is a terminal.
    pub(crate) fn new() -> Arc<Self> {
        let now = Instant::now();
        let history = [VecDeque::new(), VecDeque::new()];
        let state = State { began: now, gauged: None, history, told: now, stage: String::new() };
        let bars = std::io::stderr().is_terminal().then(Bars::new);
        Arc::new(Self { bars, state: Mutex::new(state) })
    }

    /// Milliseconds since the beginning.
    pub(crate) fn at_ms(&self) -> u64 {
        u64::try_from(self.state.lock().began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Writes a line; above the bars where there are some.
    pub(crate) fn line(&self, text: &str) {
        let stamped = format!("{:>7.2} s  {text}", self.at_ms() as f64 / 1_000.0);
        match &self.bars {
            Some(bars) => {
                let _ = bars.multi.println(stamped);
            }
            None => {
                let _ = writeln!(std::io::stderr(), "{stamped}");
            }
        }
    }

    /// A step before or after the cutover itself.
    pub(crate) fn step(&self, name: &str) {
        name.clone_into(&mut self.state.lock().stage);
        if let Some(bars) = &self.bars {
            bars.stage.set_message(name.to_owned());
            bars.stage.tick();
        }
        self.line(name);
    }

    /// A state of the cutover was entered.
    pub(crate) fn stage(&self, state: StateName) {
        let place = StateName::FORWARD.iter().position(|other| *other == state);
        let name = describe(state);
        self.state.lock().stage = state.to_string();
        if let Some(bars) = &self.bars {
            bars.stage.set_message(name.to_owned());
            if let Some(place) = place {
                bars.stage.set_position(place as u64);
            }
        }
        self.line(&format!("● {state}: {name}"));
    }

    /// How many producers have moved.
    pub(crate) fn moved(&self, moved: usize, of: usize) {
        if let Some(bars) = &self.bars {
            bars.moved.set_length(of as u64);
            bars.moved.set_position(moved as u64);
        }
    }

    /// New live numbers.
    pub(crate) fn gauge(&self, gauge: &Gauge) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let rates = match state.gauged {
            Some((then, before)) if now > then => {
                let seconds = now.duration_since(then).as_secs_f64();
                [0, 1].map(|at| (gauge.logged[at].saturating_sub(before[at]) as f64 / seconds) as u64)
            }
            _ => [0, 0],
        };
        state.gauged = Some((now, gauge.logged));
        for (history, rate) in state.history.iter_mut().zip(rates) {
            history.push_back(rate);
            if history.len() > SPARKS {
                history.pop_front();
            }
        }
        if let Some(bars) = &self.bars {
            let highest = state.history.iter().flatten().copied().max().unwrap_or(1).max(1);
            for at in [0, 1] {
                let sparks: String = state.history[at].iter().map(|rate| spark(*rate, highest)).collect();
                let rate = group_digits(rates[at]);
                let total = group_digits(gauge.logged[at]);
                bars.colours[at].set_message(format!("{rate:>9}/s  {sparks:<SPARKS$}  {total} records"));
            }
            bars.groups.set_message(lags(gauge));
        } else if now.duration_since(state.told) >= PLAIN_EVERY {
            state.told = now;
            let stage = state.stage.clone();
            drop(state);
            self.line(&format!(
                "  {stage}: blue {}/s, green {}/s, {} acknowledged; behind: {}",
                group_digits(rates[0]),
                group_digits(rates[1]),
                group_digits(gauge.acknowledged),
                lags(gauge)
            ));
        }
    }

    /// Takes the bars away.
    pub(crate) fn close(&self) {
        if let Some(bars) = &self.bars {
            bars.close();
        }
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        self.close();
    }
}

impl Bars {
    fn new() -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(12));
        let style = |template: &str| {
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸─")
        };
        let bar =
            |length: u64, template: &str| multi.add(ProgressBar::new(length).with_style(style(template)));
        let stages = StateName::FORWARD.len() as u64 - 1;
        let stage = bar(stages, "{spinner:.bold} {bar:26.cyan/dim} {pos:>2}/{len}  {msg:.bold}");
        stage.enable_steady_tick(Duration::from_millis(100));
        let colours = [bar(0, "  blue    {msg:.blue}"), bar(0, "  green   {msg:.green}")];
        let moved = bar(0, "  moved   {bar:18.magenta/dim} {pos}/{len} producers");
        let groups = bar(0, "  unread  {msg:.yellow}");
        Self { multi, stage, colours, moved, groups }
    }

    fn close(&self) {
        for bar in [&self.stage, &self.colours[0], &self.colours[1], &self.moved, &self.groups] {
            bar.finish_and_clear();
        }
    }
}

fn spark(rate: u64, highest: u64) -> char {
    let level = (rate * (SPARK.len() as u64 - 1)).div_ceil(highest);
    SPARK[usize::try_from(level).unwrap_or(0).min(SPARK.len() - 1)]
}

fn lags(gauge: &Gauge) -> String {
    let each = gauge.lags.iter().take(6).map(|(group, lag)| format!("{group} {}", group_digits(*lag)));
    let mut text = each.collect::<Vec<_>>().join("   ");
    if gauge.lags.len() > 6 {
        text.push_str("   ...");
    }
    text
}

/// What happens in a state, in a person's words.
pub(crate) fn describe(state: StateName) -> &'static str {
    match state {
        StateName::Planned => "taking the term",
        StateName::Provisioning => "making the new cluster",
        StateName::Verifying => "asking both clusters who they are",
        StateName::Preparing => "topics, groups, start offsets, TTL",
        StateName::Ready => "ready to redirect",
        StateName::Redirecting => "pointing the endpoints at the new cluster",
        StateName::Converging => "producers are moving",
        StateName::Fencing => "making the old cluster refuse records",
        StateName::Draining => "groups are reading the old cluster to its end",
        StateName::Soaking => "keeping the old cluster for a while",
        StateName::Isolating => "shutting clients out of the old cluster",
        StateName::Retiring => "proving everything once more, then removing",
        StateName::Complete => "complete",
        StateName::Aborting => "undoing what was prepared",
        StateName::Aborted => "aborted; the old cluster serves as before",
        StateName::RollingBack => "leading producers back to the old cluster",
        StateName::RolledBack => "rolled back; the old cluster serves again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparks_reach_from_nothing_to_the_highest() {
        assert_eq!([0, 1, 50, 100].map(|rate| spark(rate, 100)), ['▁', '▂', '▅', '█']);
    }

    #[test]
    fn many_groups_are_cut_short() {
        let lags_of = |count: usize| Gauge {
            lags: (0..count).map(|at| (format!("g{at}"), 1_000)).collect(),
            ..Gauge::default()
        };
        assert_eq!(lags(&lags_of(2)), "g0 1,000   g1 1,000");
        assert!(lags(&lags_of(7)).ends_with("..."));
    }
}
