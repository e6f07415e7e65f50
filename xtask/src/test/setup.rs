//! What the tests need from the machine. Installed by itself on Debian as root; elsewhere said, and then the tests
//! that need it skip.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Check, Context, Ran, python, sections::Section, tally::Tally};

/// Something that a section's tests cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// A Java runtime, 17 or newer: Kafka 4 does not start on an older one.
    Java,
    /// Maven, which fetches the Kafka jars.
    Maven,
    /// OpenSSL's headers and pkg-config, which librdkafka takes to be built with TLS.
    OpenSsl,
    /// BIND, Knot and PowerDNS, which take dynamic updates.
    NameServers,
    /// MiniStack, which stands for AWS, and cfn-lint: Python programs.
    AwsTools,
    /// ShellCheck, which reads what instances run at their start.
    ShellCheck,
}

/// What stands for AWS on this machine, what its instances are to become, and what a whole cutover on it takes besides.
pub(crate) const AWS: &[Need] =
    &[Need::AwsTools, Need::ShellCheck, Need::Java, Need::Maven, Need::NameServers];

/// What Apache Kafka on this machine takes.
pub(crate) const REAL_KAFKA: &[Need] = &[Need::Java, Need::Maven];

/// The same, for clients that speak TLS.
pub(crate) const SECURED_KAFKA: &[Need] = &[Need::Java, Need::Maven, Need::OpenSsl];

/// The name servers that kutover-dns is tested against, and Kafka for a whole cutover on one.
pub(crate) const NAME_SERVERS_AND_KAFKA: &[Need] = &[Need::NameServers, Need::Java, Need::Maven];

/// The oldest Java that Kafka 4 starts on.
const JAVA: u32 = 17;

/// Looks for everything that the chosen sections need, each once, and installs what is missing where it can.
pub(crate) fn run(context: &Context, sections: &[&Section]) -> Tally {
    let needs: BTreeSet<Need> = sections.iter().flat_map(|section| section.needs).copied().collect();
    let mut tally = Tally::default();
    for need in needs {
        tally.add(need.check().run(context, "setup"));
    }
    tally
}

/// Why what is built with TLS cannot be, or nothing if it can.
pub(crate) fn no_tls(context: &Context) -> Option<String> {
    Need::OpenSsl.missing(context)
}

impl Need {
    fn check(self) -> Check {
        match self {
            Self::Java => Check { name: "Java 17 or newer", run: |context| Self::Java.provide(context) },
            Self::Maven => Check { name: "Maven", run: |context| Self::Maven.provide(context) },
            Self::OpenSsl => Check {
                name: "OpenSSL's headers and pkg-config",
                run: |context| Self::OpenSsl.provide(context),
            },
            Self::NameServers => {
                Check { name: "BIND, Knot and PowerDNS", run: |context| Self::NameServers.provide(context) }
            }
            Self::AwsTools => {
                Check { name: "MiniStack and cfn-lint", run: |context| Self::AwsTools.provide(context) }
            }
            Self::ShellCheck => {
                Check { name: "ShellCheck", run: |context| Self::ShellCheck.provide(context) }
            }
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Java => &["openjdk-17-jre-headless"],
            Self::Maven => &["maven"],
            Self::OpenSsl => &["libssl-dev", "pkg-config"],
            Self::NameServers => &["bind9", "knot", "pdns-server", "pdns-backend-sqlite3", "sqlite3"],
            Self::AwsTools => &["python3-venv"],
            Self::ShellCheck => &["shellcheck"],
        }
    }

    /// Services that the packages bring and that Debian would start and go on starting; the tests start their own.
    fn services(self) -> &'static [&'static str] {
        match self {
            Self::NameServers => &["named", "knot", "pdns"],
            Self::Java | Self::Maven | Self::OpenSsl | Self::AwsTools | Self::ShellCheck => &[],
        }
    }

    /// Says why it is not usable, or nothing if it is.
    fn missing(self, context: &Context) -> Option<String> {
        let found = match self {
            Self::Java => java_version(context),
            Self::Maven => maven(context),
            Self::OpenSsl => openssl(context),
            Self::NameServers => name_servers(),
            Self::AwsTools => python::aws_tools(context),
            Self::ShellCheck => shellcheck(context),
        };
        found.err().map(|error| format!("{error:#}"))
    }

    fn provide(self, context: &Context) -> Result<Ran> {
        let Some(why) = self.missing(context) else { return Ok(Ran::Passed) };
        let packages = self.packages().join(" and ");
        if let Some(cannot) = cannot_install(context) {
            return Ok(Ran::Skipped(format!("{why}; {cannot}: install {packages} or its like")));
        }
        install(context, self.packages(), self.services())?;
        match self.missing(context) {
            None => Ok(Ran::Passed),
            Some(why) => bail!("{packages} is installed, and still: {why}"),
        }
    }
}

fn java_version(context: &Context) -> Result<()> {
    let java = match std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty()) {
        Some(home) => Path::new(&home).join("bin/java"),
        None => "java".into(),
    };
    let output = context.sh.cmd(&java).arg("-version").quiet().ignore_status().output();
    let output = output.with_context(|| format!("{} cannot be run", java.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let version = major(&said).with_context(|| format!("`java -version` said {:?}", said.trim()))?;
    ensure!(version >= JAVA, "Java {version} is older than {JAVA}");
    Ok(())
}

fn maven(context: &Context) -> Result<()> {
    context
        .sh
        .cmd("mvn")
        .arg("--version")
        .quiet()
        .ignore_stderr()
        .read()
        .context("mvn cannot be run")
        .map(drop)
}

fn shellcheck(context: &Context) -> Result<()> {
    let asked = context.sh.cmd("shellcheck").arg("--version").quiet().ignore_stderr().read();
    asked.context("shellcheck cannot be run").map(drop)
}

fn openssl(context: &Context) -> Result<()> {
    let asked = context.sh.cmd("pkg-config").args(["--modversion", "openssl"]).quiet().ignore_stderr().read();
    asked.context("pkg-config finds no OpenSSL").map(drop)
}

/// Servers stand in `sbin`, which is not on everybody's path.
fn name_servers() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]).collect();
    for program in ["named", "knotd", "pdns_server", "pdnsutil", "sqlite3"] {
        ensure!(places.iter().any(|place| place.join(program).is_file()), "{program} is not there");
    }
    Ok(())
}

/// `openjdk version "17.0.15" 2025-04-15` is 17, `java version "1.8.0_392"` is 8.
fn major(said: &str) -> Option<u32> {
    let version = said.split_once("version \"")?.1;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    let first = numbers.next()?.parse().ok()?;
    if first == 1 { numbers.next()?.parse().ok() } else { Some(first) }
}

/// Why packages cannot be installed here, or nothing if they can.
fn cannot_install(context: &Context) -> Option<&'static str> {
    let release = context.sh.read_file("/etc/os-release").unwrap_or_default();
    if !is_debian(&release) {
        return Some("this is not Debian");
    }
    match context.sh.cmd("id").arg("-u").quiet().read() {
        Ok(id) if id.trim() == "0" => None,
        _ => Some("only root can install packages"),
    }
}

fn is_debian(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .any(|ids| ids.trim_matches('"').split(' ').any(|id| id == "debian"))
}

fn install(context: &Context, packages: &[&str], services: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    println!("setup: {names} is missing and will be installed with apt-get");
    let apt = || context.sh.cmd("apt-get").env("DEBIAN_FRONTEND", "noninteractive");
    apt().args(["update", "-q"]).run().context("apt-get update failed")?;
    let args = ["install", "-q", "-y", "--no-install-recommends"];
    let kept_down = if services.is_empty() { None } else { KeptDown::new()? };
    apt().args(args).args(packages).run().with_context(|| format!("apt-get could not install {names}"))?;
    drop(kept_down);
    // Nor at the next start of the machine. Where systemd does not run, nothing starts them.
    if !services.is_empty() && Path::new("/run/systemd/system").is_dir() {
        context
            .sh
            .cmd("systemctl")
            .arg("disable")
            .args(services)
            .run()
            .context("systemctl disable failed")?;
    }
    Ok(())
}

/// While it lives, a package that is installed starts none of its services: they would take ports of this machine. The
/// file is Debian's own means for that (invoke-rc.d(8)).
struct KeptDown;

impl KeptDown {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    /// Nothing where the machine has a policy of its own.
    fn new() -> Result<Option<Self>> {
        if Path::new(Self::POLICY).exists() {
            return Ok(None);
        }
        // 101: forbidden.
        std::fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n").context(Self::POLICY)?;
        let kept = Self;
        std::fs::set_permissions(Self::POLICY, std::fs::Permissions::from_mode(0o755))
            .context(Self::POLICY)?;
        Ok(Some(kept))
    }
}

impl Drop for KeptDown {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(Self::POLICY) {
            println!("setup: {} could not be removed: {error}", Self::POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{is_debian, major};

    #[test]
    fn java_tells_its_version_in_two_ways() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
        assert_eq!(major("openjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(major("java version \"1.8.0_392\""), Some(8));
        assert_eq!(major("bash: java: command not found"), None);
    }

    #[test]
    fn debian_and_what_is_made_from_it() {
        assert!(is_debian("NAME=x\nID=debian\n"));
        assert!(is_debian("ID=ubuntu\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\n"));
        assert!(!is_debian(""));
    }
}
