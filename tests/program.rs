//! A command of the program that goes on while the test does, and whose every word is kept.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::task::block_in_place;

use crate::without_log;

/// How long it may take until it says what is waited for.
const BOUND: Duration = Duration::from_secs(120);
/// How many of its last lines a failed test shows.
const SHOWN: usize = 60;

/// The running program. It ends with the test, whatever becomes of that. Its calls block, and let a runtime of several
/// threads go on meanwhile.
pub struct Program {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    out: Option<std::thread::JoinHandle<String>>,
    /// All that it has said so far on stderr, its log among it.
    pub said: String,
}

impl Program {
    /// Starts it.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (tell, lines) = mpsc::channel();
        let log = BufReader::new(child.stderr.take().expect("its log"));
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let mut stdout = child.stdout.take().expect("its report");
        let out = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("UTF-8");
            text
        });
        let input = child.stdin.take().expect("its input");
        Self { child, input, lines, out: Some(out), said: String::new() }
    }

    /// Waits until it has said this; gives the line.
    ///
    /// # Panics
    /// If it ends, or two minutes go by, without that.
    pub fn wait_for(&mut self, sign: &str) -> String {
        let deadline = Instant::now() + BOUND;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = block_in_place(|| self.lines.recv_timeout(left));
            let line =
                line.unwrap_or_else(|error| panic!("`{sign}` was not said ({error}):\n{}", self.shown()));
            let found = line.contains(sign);
            self.keep(&line);
            if found {
                return line;
            }
        }
    }

    /// What a person would have seen last: without the log.
    pub fn shown(&self) -> String {
        let shown: Vec<&str> = without_log(&self.said).collect();
        shown[shown.len().saturating_sub(SHOWN)..].join("\n")
    }

    /// Types a line.
    pub fn say(&mut self, word: &str) {
        // One that has ended by itself does not listen, and its status tells.
        let _ = writeln!(self.input, "{word}");
    }

    /// What anybody on this machine sees of it.
    pub fn arguments(&self) -> String {
        std::fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join("cmdline"))
            .unwrap_or_default()
    }

    /// Waits for its end; gives its status and what it wrote to stdout.
    ///
    /// # Panics
    /// If what it wrote is no text.
    pub fn end(&mut self) -> (Option<i32>, String) {
        block_in_place(|| {
            let report = self.out.take().map(|out| out.join().expect("its report")).unwrap_or_default();
            let status = self.child.wait().expect("its end").code();
            while let Ok(line) = self.lines.recv() {
                self.keep(&line);
            }
            (status, report)
        })
    }

    fn keep(&mut self, line: &str) {
        self.said += line;
        self.said.push('\n');
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
