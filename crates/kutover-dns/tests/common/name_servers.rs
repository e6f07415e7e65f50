//! BIND, Knot and PowerDNS as ordinary processes on a free port of this machine, each with a configuration of its own.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kutover_core::ports::DnsProvider as _;
use kutover_core::words::DnsName;
use kutover_dns::{Rfc2136, Rfc2136Options, TsigKey};
use kutover_testkit::until;
use tempfile::TempDir;

pub(crate) const ZONE: &str = "orders.test";
pub(crate) const KEY: &str = "kutover";
pub(crate) const SECRET: &str = "a3V0b3Zlci10ZXN0cy1rbm93LXRoaXMtc2VjcmV0LTA=";
/// How long a name server may take to start or to end.
const BOUND: Duration = Duration::from_secs(30);
/// A free port is taken by somebody else now and then before the server has it.
const STARTS: usize = 5;

const RECORDS: &str = r#"$ORIGIN orders.test.
$TTL 60
@ IN SOA ns1 hostmaster 1 1 1 86400 1
@ IN NS ns1
ns1 IN A 127.0.0.1
mail IN A 127.0.0.2
mail IN MX 10 ns1
_kutover.spoilt IN TXT "v=kutover1;term=x"
_kutover.taken IN CNAME mail
"#;

const EMPTY: &str = "$TTL 60\n@ IN SOA ns hostmaster 1 1 1 86400 1\n@ IN NS ns\nns IN A 127.0.0.1\n";

/// Which name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bind,
    Knot,
    PowerDns,
}

impl Kind {
    fn program(self) -> Option<PathBuf> {
        match self {
            Self::Bind => find("named"),
            Self::Knot => find("knotd"),
            // Its tools are packages of their own.
            Self::PowerDns => {
                find("pdns_server").filter(|_| find("pdnsutil").is_some() && find("sqlite3").is_some())
            }
        }
    }

    fn packages(self) -> &'static str {
        match self {
            Self::Bind => "bind9",
            Self::Knot => "knot",
            Self::PowerDns => "pdns-server, pdns-backend-sqlite3 and sqlite3",
        }
    }
}

/// Servers stand in `sbin`, which is not on everybody's path.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join(program)).find(|program| program.is_file())
}

/// A running name server; it is ended by its pid when this is dropped, also when the test fails.
pub(crate) struct NameServer {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Its configuration, zone and log.
    _directory: TempDir,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl NameServer {
    /// The zone's primary; `None`, with a word, where the program is missing.
    pub(crate) async fn start(test: &str, kind: Kind) -> Option<Self> {
        let Some(program) = kind.program() else {
            kutover_testkit::skip(test, kind.packages());
            return None;
        };
        Some(Self::run(kind, &program, free_port(), None, &[]).await)
    }

    /// BIND, as the primary of further zones too, with nothing in them.
    pub(crate) async fn start_with(test: &str, zones: &[&str]) -> Option<Self> {
        let Some(program) = Kind::Bind.program() else {
            kutover_testkit::skip(test, Kind::Bind.packages());
            return None;
        };
        Some(Self::run(Kind::Bind, &program, free_port(), None, zones).await)
    }

    /// A secondary of `primary`, as BIND is one, on an address that is known before it runs.
    pub(crate) async fn start_secondary(primary: SocketAddr, at: SocketAddr) -> Self {
        let program = Kind::Bind.program().expect("BIND is here, it is the primary");
        Self::run(Kind::Bind, &program, at, Some(primary), &[]).await
    }

    async fn run(
        kind: Kind,
        program: &Path,
        first: SocketAddr,
        primary: Option<SocketAddr>,
        zones: &[&str],
    ) -> Self {
        let (mut address, mut said) = (first, String::new());
        for _ in 0..STARTS {
            let directory = tempfile::tempdir().expect("a directory");
            let mut command = Command::new(program);
            command.args(match kind {
                Kind::Bind => bind(directory.path(), address, primary, zones),
                Kind::Knot => knot(directory.path(), address),
                Kind::PowerDns => power_dns(directory.path(), address),
            });
            let log = directory.path().join("log");
            let out = File::create(&log).expect("a log");
            let child = command
                .stdin(Stdio::null())
                .stdout(out.try_clone().expect("the log once more"))
                .stderr(out)
                .spawn()
                .expect("the server starts");
            let mut server = Self { child, address, _directory: directory };
            if server.serves(primary.is_none()).await {
                return server;
            }
            said = fs::read_to_string(&log).unwrap_or_default();
            assert!(primary.is_none(), "the secondary ended: {said}");
            address = free_port();
        }
        panic!("{kind:?} did not start in {STARTS} attempts; at last it said: {said}");
    }

    /// Waits until it serves the zone, or at least takes connections; false if it ended.
    async fn serves(&mut self, the_zone: bool) -> bool {
        let provider = self.provider();
        let Self { child, address, .. } = self;
        until(&format!("a name server on {address}"), BOUND, || {
            let ended = child.try_wait().expect("our own child").is_some();
            let (address, provider) = (*address, &provider);
            async move {
                // It takes connections before it has read its zone.
                let ready = match the_zone {
                    true => provider.read(&DnsName::new(ZONE)).await.is_ok(),
                    false => tokio::net::TcpStream::connect(address).await.is_ok(),
                };
                if ended { Some(false) } else { ready.then_some(true) }
            }
        })
        .await
    }

    /// kutover's side of it, with the key that it knows.
    pub(crate) fn options(&self) -> Rfc2136Options {
        Rfc2136Options {
            server: self.address,
            zone: DnsName::new(ZONE),
            key: key(KEY, SECRET),
            visible_at: Vec::new(),
            limit: Duration::from_secs(20),
        }
    }

    pub(crate) fn provider(&self) -> Rfc2136 {
        Rfc2136::new(self.options())
    }

    /// The same for one of its further zones.
    pub(crate) fn provider_of(&self, zone: &str) -> Rfc2136 {
        Rfc2136::new(Rfc2136Options { zone: DnsName::new(zone), ..self.options() })
    }
}

pub(crate) fn key(name: &str, secret: &str) -> TsigKey {
    TsigKey::new(&DnsName::new(name), secret).expect("a key")
}

/// A port that is free for UDP and TCP.
pub(crate) fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = tcp.local_addr().expect("bound");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

fn bind(directory: &Path, at: SocketAddr, primary: Option<SocketAddr>, zones: &[&str]) -> Vec<String> {
    let dir = directory.display();
    let updated = format!("type primary; update-policy {{ grant {KEY} zonesub A AAAA CNAME TXT; }};");
    let zone = match primary {
        None => {
            write(directory, "zone", RECORDS);
            updated.clone()
        }
        Some(primary) => {
            format!("type secondary; primaries {{ {} port {}; }};", primary.ip(), primary.port())
        }
    };
    let more = zones.iter().fold(String::new(), |mut text, name| {
        write(directory, name, &format!("$ORIGIN {name}.\n{EMPTY}"));
        let _ = writeln!(text, "zone \"{name}\" {{ {updated} file \"{dir}/{name}\"; }};");
        text
    });
    let conf = format!(
        r#"options {{
    directory "{dir}"; pid-file "{dir}/pid"; session-keyfile "{dir}/session.key"; managed-keys-directory "{dir}";
    listen-on port {} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
    recursion no; dnssec-validation no; allow-transfer {{ 127.0.0.1; }}; notify no; min-refresh-time 1;
}};
controls {{ }};
key "{KEY}" {{ algorithm hmac-sha256; secret "{SECRET}"; }};
zone "{ZONE}" {{ {zone} file "{dir}/zone"; }};
{more}"#,
        at.port()
    );
    vec!["-g".into(), "-n".into(), "2".into(), "-c".into(), write(directory, "named.conf", &conf)]
}

fn knot(directory: &Path, at: SocketAddr) -> Vec<String> {
    write(directory, "zone", RECORDS);
    let dir = directory.display();
    let conf = format!(
        r"server:
    rundir: {dir}
    listen: {}@{}
database:
    storage: {dir}
log:
  - target: stderr
    any: info
key:
  - id: {KEY}
    algorithm: hmac-sha256
    secret: {SECRET}
acl:
  - id: kutover
    key: {KEY}
    action: update
zone:
  - domain: {ZONE}
    storage: {dir}
    file: zone
    acl: kutover
",
        at.ip(),
        at.port()
    );
    vec!["-c".into(), write(directory, "knot.conf", &conf)]
}

fn power_dns(directory: &Path, at: SocketAddr) -> Vec<String> {
    let dir = directory.display();
    let database = format!("{dir}/database");
    let conf = format!(
        "launch=gsqlite3\ngsqlite3-database={database}\nlocal-address={}\nlocal-port={}\nsocket-dir={dir}\n\
         dnsupdate=yes\nallow-dnsupdate-from=127.0.0.0/8\ndaemon=no\nguardian=no\ndisable-syslog=yes\n",
        at.ip(),
        at.port()
    );
    write(directory, "pdns.conf", &conf);
    let zone = write(directory, "zone", RECORDS);
    let schema = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql";
    run("sqlite3", &[&database, &format!(".read {schema}")]);
    let config_dir = format!("--config-dir={dir}");
    for words in [
        &["load-zone", ZONE, &zone][..],
        &["import-tsig-key", KEY, "hmac-sha256", SECRET],
        &["set-meta", ZONE, "TSIG-ALLOW-DNSUPDATE", KEY],
        &["set-meta", ZONE, "ALLOW-DNSUPDATE-FROM", "127.0.0.0/8"],
    ] {
        run("pdnsutil", &[&[config_dir.as_str()], words].concat());
    }
    vec![config_dir]
}

fn run(program: &str, words: &[&str]) {
    let program = find(program).expect("looked for before");
    let output = Command::new(&program).args(words).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {}: {said}", program.display(), words[0]);
}
