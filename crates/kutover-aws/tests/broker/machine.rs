//! An instance, as far as the user data sees one: a folder of its own, a loopback address of its own, and programs that
//! stand for what this machine has not. What the user data starts ends with it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::fitted::fitted;

/// How long the user data may take; on an idle machine it takes less than ten seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// Logging to standard output, for both generations of log4j: which one a version's jars bring differs.
const LOGGING: [(&str, &str); 2] = [
    (
        "log4j.properties",
        "log4j.rootLogger=WARN, out\n\
         log4j.appender.out=org.apache.log4j.ConsoleAppender\n\
         log4j.appender.out.layout=org.apache.log4j.SimpleLayout\n",
    ),
    (
        "log4j2.properties",
        "rootLogger.level=warn\n\
         rootLogger.appenderRef.out.ref=out\n\
         appender.out.type=Console\n\
         appender.out.name=out\n\
         appender.out.layout.type=PatternLayout\n",
    ),
];
/// The programs that `machine.sh` stands for.
const PROGRAMS: [&str; 13] = [
    "aws",
    "blkid",
    "boot",
    "chown",
    "dnf",
    "id",
    "machine",
    "mkfs.xfs",
    "mount",
    "mountpoint",
    "runuser",
    "systemctl",
    "useradd",
];

/// One instance. Its files are below `root`.
pub(crate) struct Machine {
    pub(crate) root: PathBuf,
    pub(crate) address: IpAddr,
    /// Of every start: what keeps it running, and what is open for as long as anything of it runs.
    running: Mutex<Vec<(ChildStdin, ChildStdout)>>,
}

impl Machine {
    /// A new instance that holds a user data script, with an empty volume beside it. `buckets` is what S3 holds.
    pub(crate) fn new(root: PathBuf, address: IpAddr, user_data: &str, buckets: &Path) -> Self {
        for folder in ["bin", "dev", "etc/systemd/system", "opt", "run", "volume"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let program = root.join("bin/machine.sh");
        write_program(&program, include_str!("machine.sh"));
        for name in PROGRAMS {
            symlink(&program, root.join("bin").join(name)).unwrap();
        }
        fs::write(root.join("etc/fstab"), "").unwrap();
        symlink(root.join("volume"), root.join("dev/sdf")).unwrap();
        symlink(buckets, root.join("buckets")).unwrap();
        write_program(&root.join("user-data"), user_data);
        Self { root, address, running: Mutex::default() }
    }

    /// Runs the user data to its end. Whether it succeeded.
    pub(crate) async fn boot(&self) -> bool {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = Command::new(self.root.join("bin/boot"))
            .env_clear()
            .env("PATH", format!("{}:{path}", self.root.join("bin").display()))
            .env("KUTOVER_ROOT", &self.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.running.lock().unwrap().push((child.stdin.take().unwrap(), child.stdout.take().unwrap()));
        let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
        let Ok(ended) = tokio::time::timeout(BOOT_LIMIT, ended).await else {
            panic!("the user data does not end: {}", self.said())
        };
        ended.unwrap().success()
    }

    /// Boots and serves.
    pub(crate) async fn serves(&self) {
        assert!(self.boot().await, "{}", self.said());
    }

    /// Asks what runs to end in good order, as a reboot does, and waits until nothing runs any more.
    pub(crate) fn shut_down(&self) {
        for (lifeline, _) in self.running.lock().unwrap().iter_mut() {
            // One that has ended listens no more.
            let _ = lifeline.write_all(b"end\n");
        }
        self.wait_until_off(false);
    }

    /// Ends what runs at once, as a power cut does.
    pub(crate) fn cut_power(&self) {
        self.wait_until_off(true);
    }

    fn wait_until_off(&self, at_once: bool) {
        for (lifeline, mut open) in self.running.lock().unwrap().drain(..) {
            let kept = (!at_once).then_some(lifeline);
            let _ = open.read_to_end(&mut Vec::new());
            drop(kept);
        }
    }

    /// A file's text; nothing if it is not there.
    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    /// The calls of a program so far, each with its arguments.
    pub(crate) fn calls(&self, program: &str) -> Vec<String> {
        let of_program = |line: &&str| line.split(' ').next() == Some(program);
        self.text("calls").lines().filter(of_program).map(str::to_owned).collect()
    }

    /// The end of what user data and broker said.
    fn said(&self) -> String {
        ["boot.log", "kafka.log"]
            .map(|log| {
                let text = self.text(log);
                let lines: Vec<_> = text.lines().collect();
                format!("{log}:\n{}", lines[lines.len().saturating_sub(25)..].join("\n"))
            })
            .join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.cut_power();
    }
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A broker's user data, made of the template with these parameters.
pub(crate) fn user_data(python: &Path, parameters: &serde_json::Value) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/userdata.py");
    fitted(Command::new(python).args([script, &parameters.to_string()]))
}

/// Kafka's archive in a bucket, made of the jars that Maven gives, and its SHA-512. The programs in its `bin` are not
/// Kafka's own, which stand in no registry: they start the same classes.
pub(crate) fn archive(
    buckets: &Path,
    key: &str,
    jars: &Path,
    java: &Path,
    commands: &[(&str, &str)],
) -> String {
    let home = buckets.join(key.trim_end_matches(".tgz"));
    for folder in ["bin", "config"] {
        fs::create_dir_all(home.join(folder)).unwrap();
    }
    symlink(jars, home.join("libs")).unwrap();
    for (name, text) in LOGGING {
        fs::write(home.join("config").join(name), text).unwrap();
    }
    for (program, class) in commands {
        let text = format!(
            "#!/usr/bin/env bash\nset -eu\nhome=\"$(cd \"$(dirname \"$0\")/..\" && pwd)\"\n\
             [ -z \"${{LOG_DIR:-}}\" ] || mkdir -p \"$LOG_DIR\"\n\
             exec \"{}\" -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
             \"-Dlog4j.configuration=file:$home/config/log4j.properties\" \
             \"-Dlog4j2.configurationFile=$home/config/log4j2.properties\" -cp \"$home/libs/*\" {class} \"$@\"\n",
            java.display(),
        );
        write_program(&home.join("bin").join(program), &text);
    }
    pack(buckets, key)
}

/// Packs the folder of a key's name. The archive's SHA-512.
fn pack(buckets: &Path, key: &str) -> String {
    let file = buckets.join(key);
    let packed = Command::new("tar")
        .args(["--create", "--dereference", "--use-compress-program", "gzip -1", "--file"])
        .arg(&file)
        .arg("--directory")
        .arg(buckets)
        .arg(key.trim_end_matches(".tgz"))
        .status()
        .unwrap();
    assert!(packed.success(), "the archive cannot be packed");
    let summed = Command::new("sha512sum").arg(&file).output().unwrap();
    let text = String::from_utf8(summed.stdout).unwrap();
    text.split(' ').next().unwrap().to_owned()
}
