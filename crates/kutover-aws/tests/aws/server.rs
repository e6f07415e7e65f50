//! MiniStack, which stands for AWS: one for all tests of this program, on loopback, ended with it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use kutover_aws::{Aws, AwsOptions};

/// How long it may take to answer; it takes a second.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Runs it until nobody holds the other end of its standard input: also when a test is killed.
const RUN: &str = "
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
from ministack.app import main
sys.argv = ['ministack']
main()
";
/// Planted in the credentials: it must never be seen anywhere.
pub(crate) const SECRET: &str = "hunter2/hunter2/hunter2/hunter2/hunter2+";

/// A running MiniStack.
pub(crate) struct MiniStack {
    pub(crate) address: SocketAddr,
    _lifeline: ChildStdin,
}

/// Where `cargo xtask test --only aws` puts the Python programs that these tests need.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    Some(target.join("aws-tools/bin").join(name)).filter(|path| path.exists())
}

/// The one MiniStack of this program, or `None` after having said what is missing.
pub(crate) fn ministack(test: &str) -> Option<&'static MiniStack> {
    static RUNNING: OnceLock<MiniStack> = OnceLock::new();
    match tool("python") {
        Some(python) => Some(RUNNING.get_or_init(|| MiniStack::start(&python))),
        None => {
            kutover_testkit::skip(test, "MiniStack (`cargo xtask test --only aws` installs it)");
            None
        }
    }
}

impl MiniStack {
    fn start(python: &Path) -> Self {
        // Somebody else may take the port in between; then another one is tried.
        (0..5).find_map(|_| Self::try_start(python)).expect("MiniStack does not start")
    }

    fn try_start(python: &Path) -> Option<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let mut child: Child = Command::new(python)
            .args(["-c", RUN])
            .env("BIND_HOST", address.ip().to_string())
            .env("GATEWAY_PORT", address.port().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lifeline = child.stdin.take().unwrap();
        let deadline = Instant::now() + READY_LIMIT;
        while Instant::now() < deadline {
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            if is_healthy(address) {
                return Some(Self { address, _lifeline: lifeline });
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        None
    }

    /// A connection to it, or to what stands before it.
    pub(crate) async fn aws(&self, at: Option<SocketAddr>) -> Aws {
        let options = AwsOptions { region: Some("us-east-1".into()), profile: None };
        let aws = Aws::connect(&options).await.unwrap();
        let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", SECRET, None, None, "test");
        let url = format!("http://{}", at.unwrap_or(self.address));
        let config = aws.config().to_builder().endpoint_url(url);
        config.credentials_provider(SharedCredentialsProvider::new(credentials)).build().into()
    }
}

fn is_healthy(address: SocketAddr) -> bool {
    http_get(address, "/_ministack/health").is_ok_and(|reply| reply.contains(" 200 "))
}

/// A request as simple as can be; the whole reply.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
