//! A server process: started, watched, adopted from an earlier run, and ended by its pid.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tracing::{debug, warn};

use super::jvm::Recording;
use super::tools::last_words;

/// How long a server may take to end after SIGTERM before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// How long a process may take to be gone after SIGKILL.
const GONE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A running server. It is killed when its handle is dropped.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    pid: Pid,
    /// `None` for one that an earlier process started and this one adopted.
    child: Mutex<Option<Child>>,
    /// A path in its command line that no other process has: its configuration file.
    marker: PathBuf,
    log: PathBuf,
    /// What it leaves behind if it ends in good order.
    recording: Option<Recording>,
}

impl ServerProcess {
    /// Starts a server whose command line contains `marker`; what it says goes to the end of the file `log`. Its pid
    /// is written beside the marker, for a later process.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &Path,
        args: impl IntoIterator<Item = A>,
        marker: &Path,
        log: &Path,
    ) -> io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        let pid = Pid::from_child(&child);
        let process = Self {
            pid,
            child: Mutex::new(Some(child)),
            marker: marker.to_owned(),
            log: log.to_owned(),
            recording: None,
        };
        // An unwritten pid file would hide the server from a later start: then it had better not run at all.
        fs::write(pid_file(marker), process.pid().to_string())?;
        debug!(pid = pid.as_raw_nonzero().get(), marker = %marker.display(), "server started");
        Ok(process)
    }

    /// Takes over a server that an earlier process started, if the pid that it left is still it.
    pub(crate) fn adopt(marker: &Path, log: &Path) -> Option<Self> {
        let pid = fs::read_to_string(pid_file(marker)).ok()?.trim().parse().ok()?;
        // Asked first: a handle kills its process when it is dropped.
        if !is_ours(pid, marker) {
            return None;
        }
        let (marker, log) = (marker.to_owned(), log.to_owned());
        Some(Self { pid: Pid::from_raw(pid)?, child: Mutex::new(None), marker, log, recording: None })
    }

    /// What it leaves behind if it ends in good order.
    pub(crate) fn leaving(mut self, recording: Option<Recording>) -> Self {
        self.recording = recording;
        self
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Whether it still runs. A pid that belongs to some other process by now is not it.
    pub(crate) fn is_running(&self) -> bool {
        self.may_be_signalled() || (self.child.lock().is_none() && is_ending(self.pid()))
    }

    /// Whether the pid is still this server's. A process without a command line may be it, ending, or somebody else's that
    /// is just being started under a pid that was used again.
    fn may_be_signalled(&self) -> bool {
        match self.child.lock().as_mut() {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => test_kill_process(self.pid).is_ok() && is_ours(self.pid(), &self.marker),
        }
    }

    /// The end of what it said.
    pub(crate) fn last_words(&self) -> String {
        fs::read(&self.log).map(|bytes| last_words(&String::from_utf8_lossy(&bytes))).unwrap_or_default()
    }

    /// Asks it to end, and ends it if it does not in time. Returns when it is gone.
    pub(crate) async fn stop(&self) {
        self.signal(Signal::TERM);
        if !self.gone_within(GRACE).await {
            warn!(pid = self.pid(), "server did not end on SIGTERM and is killed");
            self.kill().await;
        } else if let Some(recording) = &self.recording {
            recording.keep();
        }
    }

    /// Ends it as quickly as may be: nothing it holds is wanted any more. One that leaves something behind is let.
    pub(crate) async fn end(&self) {
        match self.recording {
            Some(_) => self.stop().await,
            None => self.kill().await,
        }
    }

    /// Ends it as a crash does. Returns when it is gone.
    pub(crate) async fn kill(&self) {
        self.signal(Signal::KILL);
        self.gone_within(GONE).await;
    }

    fn signal(&self, signal: Signal) {
        if self.may_be_signalled() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// The same where nothing can be awaited.
    fn is_gone_within(&self, bound: Duration) -> bool {
        let deadline = Instant::now() + bound;
        while self.is_running() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    async fn gone_within(&self, bound: Duration) -> bool {
        let deadline = Instant::now() + bound;
        while self.is_running() {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if let Some(recording) = self.recording.take().filter(|_| self.is_running()) {
            self.signal(Signal::TERM);
            if self.is_gone_within(GRACE) {
                recording.keep();
            }
        }
        self.signal(Signal::KILL);
        // A killed process is gone in a moment; waiting keeps its files from being written under a directory that
        // is removed next, and reaps it.
        self.is_gone_within(GONE);
    }
}

/// Whether a pid's command line contains the marker.
pub(crate) fn is_ours(pid: i32, marker: &Path) -> bool {
    let Some(marker) = marker.to_str() else { return false };
    match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(line) => String::from_utf8_lossy(&line).split('\0').any(|word| word == marker),
        // No /proc (macOS).
        Err(_) if !Path::new("/proc/self").exists() => Command::new("ps")
            .args(["-ww", "-o", "command=", "-p", &pid.to_string()])
            .output()
            .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(marker)),
        Err(_) => false,
    }
}

/// Whether a process has let go of its memory, and with it of its command line, but not yet of its files and ports.
fn is_ending(pid: i32) -> bool {
    let is_empty = fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty());
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which stands in brackets and may hold anything. A zombie holds nothing any more.
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    is_empty && state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Ends every server that an earlier run left in a directory (its pid files stand there or one level down), where
/// the pid is still it.
pub(crate) async fn end_leftovers(dir: &Path) {
    let list = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    for path in list(dir) {
        for path in if path.is_dir() { list(&path) } else { vec![path] } {
            let marker = path.with_extension("properties");
            if path.extension().is_some_and(|extension| extension == "pid")
                && let Some(process) = ServerProcess::adopt(&marker, Path::new("/dev/null"))
            {
                warn!(pid = process.pid(), "a server left over by an earlier run is ended");
                process.kill().await;
            }
        }
    }
}

fn pid_file(marker: &Path) -> PathBuf {
    marker.with_extension("pid")
}

/// A server that runs for ever; it has its command line by now, which a process that is being started has not.
#[cfg(test)]
pub(crate) fn sleeper(dir: &Path) -> ServerProcess {
    let marker = dir.join("server.properties");
    // The marker stands in the command line as the shell's own name.
    let args = [OsStr::new("-c"), OsStr::new("echo started; read never < /dev/zero"), marker.as_os_str()];
    let process = ServerProcess::start(Path::new("sh"), args, &marker, &dir.join("log")).expect("a shell");
    let deadline = Instant::now() + GONE;
    while process.last_words() != "started" {
        assert!(Instant::now() < deadline, "the shell does not start");
        thread::yield_now();
    }
    process
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pid_is_adopted_and_ended_only_if_it_is_ours() {
        let world = tempfile::tempdir().expect("a directory");
        let dir = world.path().join("lab-blue-1");
        fs::create_dir(&dir).expect("a directory");
        let process = sleeper(&dir);
        let log = dir.join("log");
        let other = dir.join("other.properties");
        fs::write(pid_file(&other), process.pid().to_string()).expect("a pid file");
        assert!(ServerProcess::adopt(&other, &log).is_none(), "a reused pid");
        fs::remove_file(pid_file(&process.marker)).expect("away");
        end_leftovers(world.path()).await;
        assert!(process.is_running(), "somebody else's process is left alone");
        fs::write(pid_file(&process.marker), process.pid().to_string()).expect("a pid file");
        end_leftovers(world.path()).await;
        assert!(!process.is_running());
        assert!(ServerProcess::adopt(&process.marker, &log).is_none());
    }

    #[tokio::test]
    async fn dropping_the_handle_ends_the_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let process = sleeper(dir.path());
        let (pid, marker) = (process.pid(), process.marker.clone());
        drop(process);
        assert!(!is_ours(pid, &marker));
    }
}
