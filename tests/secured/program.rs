//! `kutover up` as a process whose every word is kept.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use kutover_tests::command;

use crate::traffic::BOUND;
use crate::world::CONTROLLER;

/// The running program. It ends with the test, whatever becomes of that.
pub(crate) struct Program {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    out: Option<std::thread::JoinHandle<String>>,
    /// All that it has said so far on stderr, its log at the finest level among it.
    pub(crate) said: String,
}

impl Program {
    pub(crate) fn start(file: &str) -> Self {
        let mut command = command();
        command.args(["up", "--json", file]).env("BLUE_PASSWORD", CONTROLLER.1).env("KUTOVER_LOG", "trace");
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

    /// Waits until it has said this.
    pub(crate) fn wait_for(&mut self, sign: &str) {
        let deadline = Instant::now() + BOUND;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let line =
                line.unwrap_or_else(|error| panic!("`{sign}` was not said ({error}):\n{}", self.shown()));
            let found = line.contains(sign);
            self.said += &line;
            self.said.push('\n');
            if found {
                return;
            }
        }
    }

    /// What a person would have seen: without the log.
    fn shown(&self) -> String {
        let is_log = |line: &&str| !["TRACE", "DEBUG"].iter().any(|level| line.contains(level));
        let shown: Vec<&str> = self.said.lines().filter(is_log).collect();
        shown[shown.len().saturating_sub(60)..].join("\n")
    }

    pub(crate) fn say(&mut self, word: &str) {
        // One that has ended by itself does not listen, and its status tells.
        let _ = writeln!(self.input, "{word}");
    }

    /// What anybody on this machine sees of it.
    pub(crate) fn arguments(&self) -> String {
        std::fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join("cmdline"))
            .unwrap_or_default()
    }

    /// Waits for its end; gives its status and its report.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        let report = self.out.take().map(|out| out.join().expect("its report")).unwrap_or_default();
        let status = self.child.wait().expect("its end").code();
        for line in self.lines.iter() {
            self.said += &line;
            self.said.push('\n');
        }
        (status, report)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
