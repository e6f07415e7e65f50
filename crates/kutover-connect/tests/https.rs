//! Workers behind HTTPS that ask who is there: what a worker of Connect does with `listeners=https://` and its basic
//! authentication extension, as far as a client can tell.

mod answer;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use kutover_connect::{ConnectOptions, HttpConnect};
use kutover_core::error::{ErrorKind, ProviderError};
use kutover_core::ports::ConnectAdmin as _;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

const PASSWORD: &str = "planted-51c0-connects";
/// `kutover:` and the password (RFC 7617).
const AUTHORIZATION: &str = "Basic a3V0b3ZlcjpwbGFudGVkLTUxYzAtY29ubmVjdHM=";

/// A worker that is asked once, and the file with the certificate to know it by.
struct Worker {
    address: SocketAddr,
    ca_file: PathBuf,
    served: JoinHandle<Option<String>>,
    _directory: TempDir,
}

impl Worker {
    fn start() -> Self {
        let CertifiedKey { cert, signing_key } = certificate();
        let directory = tempfile::tempdir().expect("a directory");
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, cert.pem()).expect("written");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let chain = vec![CertificateDer::from(cert)];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they belong together");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = std::thread::spawn(move || serve_one(&listener, Arc::new(config)));
        Self { address, ca_file, served, _directory: directory }
    }

    fn options(&self, password: &str) -> ConnectOptions {
        ConnectOptions {
            url: format!("https://{}", self.address),
            credentials: Some(("kutover".into(), password.into())),
            ca_file: Some(self.ca_file.clone()),
        }
    }

    /// What it was asked, if anybody got that far.
    fn asked(self) -> Option<String> {
        self.served.join().expect("it served")
    }
}

fn certificate() -> CertifiedKey<rcgen::KeyPair> {
    generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate")
}

/// Answers one request as a worker's root does, and whoever does not say who he is with 401.
fn serve_one(listener: &TcpListener, config: Arc<ServerConfig>) -> Option<String> {
    let (stream, _) = listener.accept().expect("a connection");
    let connection = ServerConnection::new(config).expect("a connection");
    let mut stream = StreamOwned::new(connection, stream);
    answer::one(&mut stream, |asked| {
        if asked.contains(AUTHORIZATION) {
            ("200 OK", r#"{"version":"4.3.1","commit":"c","kafka_cluster_id":"green-id"}"#)
        } else {
            ("401 Unauthorized", "User cannot access the resource.")
        }
    })
}

fn assert_quiet(error: &ProviderError) {
    let told = format!("{error} {error:?}");
    assert!(!told.contains(PASSWORD) && !told.contains(AUTHORIZATION), "{told}");
}

#[tokio::test]
async fn workers_are_known_by_their_certificate_and_told_who_asks() {
    let worker = Worker::start();
    let admin = HttpConnect::new(&worker.options(PASSWORD)).expect("a client");
    assert_eq!(admin.kafka_cluster_id().await.expect("an answer").as_str(), "green-id");
    let asked = worker.asked().expect("a request");
    assert!(asked.starts_with("GET / HTTP/1.1\r\n"), "{asked}");
}

#[tokio::test]
async fn a_wrong_password_is_named_as_such_and_not_shown() {
    let worker = Worker::start();
    let admin = HttpConnect::new(&worker.options(&format!("{PASSWORD}-old"))).expect("a client");
    let error = admin.kafka_cluster_id().await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::NotAuthorised, "{error}");
    assert_quiet(&error);
}

/// Whoever else answers at that address gets neither the password nor a request.
#[tokio::test]
async fn a_stranger_at_the_address_is_told_nothing() {
    let worker = Worker::start();
    std::fs::write(&worker.ca_file, certificate().cert.pem()).expect("written");
    let admin = HttpConnect::new(&worker.options(PASSWORD)).expect("a client");
    let error = admin.kafka_cluster_id().await.expect_err("not trusted");
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_quiet(&error);
    assert_eq!(worker.asked(), None);
}
