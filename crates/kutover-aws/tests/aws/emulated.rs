//! The template without what MiniStack does not have.

use std::io::Write as _;
use std::process::{Command, Stdio};

use kutover_aws::template;

use crate::server::{MiniStack, http_get, tool};

/// For brokers of these ids, with commas; what else is to be different, see `emulate.py`.
pub(crate) fn emulated(brokers: &str, different: &[&str]) -> String {
    let mut command = Command::new(tool("python").unwrap());
    let mut child = command
        .args(["-c", include_str!("emulate.py"), brokers])
        .args(different)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python does not start");
    child.stdin.take().unwrap().write_all(template().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the template could not be made to fit");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a security group lets anybody in at a port; nobody where there is no such group.
pub(crate) fn lets_in(server: &MiniStack, group: &str, port: u16) -> bool {
    let query = "/?Action=DescribeSecurityGroups&Version=2016-11-15&Filter.1.Name=group-name";
    let groups = http_get(server.address, &format!("{query}&Filter.1.Value.1={group}")).unwrap();
    let inwards = groups.split("<ipPermissions>").nth(1).unwrap_or_default();
    let inwards = inwards.split("</ipPermissions>").next().unwrap_or_default();
    inwards.contains(&format!("<fromPort>{port}</fromPort>"))
}
