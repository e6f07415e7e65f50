//! MiniStack, which stands for AWS: one for all tests of this program, on loopback, ended with it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use kutover_aws::{Aws, AwsOptions};
use kutover_testkit::until;
use tokio::sync::OnceCell;

/// How long it may take to answer; it takes a second.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Runs it until nobody holds the other end of its standard input: also when a test is killed. What it writes, its pid among
/// that, goes with it.
const RUN: &str = "
import os, shutil, sys, tempfile, threading
own = tempfile.tempdir = tempfile.mkdtemp()
def end():
    sys.stdin.buffer.read()
    shutil.rmtree(own, ignore_errors=True)
    os._exit(0)
threading.Thread(target=end, daemon=True).start()
from ministack.app import main
sys.argv = ['ministack']
main()
";
/// Planted in the credentials: it must never be seen anywhere.
pub(crate) const SECRET: &str = "hunter2/hunter2/hunter2/hunter2/hunter2+";

/// A running MiniStack.
pub(crate) struct MiniStack {
    pub(crate) address: SocketAddr,
    child: Child,
    _lifeline: ChildStdin,
}

/// Where `cargo xtask test --only aws` puts the Python programs that these tests need.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    Some(target.join("aws-tools/bin").join(name)).filter(|path| path.exists())
}

/// The one MiniStack of this program, or `None` after having said what is missing.
pub(crate) async fn ministack(test: &str) -> Option<&'static MiniStack> {
    static RUNNING: OnceCell<MiniStack> = OnceCell::const_new();
    match tool("python") {
        Some(python) => Some(RUNNING.get_or_init(|| MiniStack::start(python)).await),
        None => {
            kutover_testkit::skip(test, "MiniStack (`cargo xtask test --only aws` installs it)");
            None
        }
    }
}

impl MiniStack {
    async fn start(python: PathBuf) -> Self {
        for _ in 0..5 {
            let mut started = Self::try_start(&python);
            let address = started.address;
            let child = &mut started.child;
            let answers = until("MiniStack to answer or to end", READY_LIMIT, || {
                let ended = child.try_wait().unwrap().is_some();
                let found = if ended { Some(false) } else { is_healthy(address).then_some(true) };
                std::future::ready(found)
            });
            if answers.await {
                return started;
            }
            // Somebody else has taken the port in between.
        }
        panic!("MiniStack does not start")
    }

    fn try_start(python: &Path) -> Self {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let mut child = Command::new(python)
            .args(["-c", RUN])
            .env("BIND_HOST", address.ip().to_string())
            .env("GATEWAY_PORT", address.port().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lifeline = child.stdin.take().unwrap();
        Self { address, child, _lifeline: lifeline }
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
