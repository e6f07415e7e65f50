//! The template without what MiniStack does not have.

use std::process::Command;

use crate::fitted::fitted;
use crate::server::{MiniStack, http_get, tool};

/// For brokers of these ids, with commas; what else is to be different, see `emulate.py`.
pub(crate) fn emulated(brokers: &str, different: &[&str]) -> String {
    let mut python = Command::new(tool("python").unwrap());
    fitted(python.args(["-c", include_str!("emulate.py"), brokers]).args(different))
}

/// Whether a security group lets anybody in at a port; nobody where there is no such group.
pub(crate) fn lets_in(server: &MiniStack, group: &str, port: u16) -> bool {
    let query = "/?Action=DescribeSecurityGroups&Version=2016-11-15&Filter.1.Name=group-name";
    let groups = http_get(server.address, &format!("{query}&Filter.1.Value.1={group}")).unwrap();
    let inwards = groups.split("<ipPermissions>").nth(1).unwrap_or_default();
    let inwards = inwards.split("</ipPermissions>").next().unwrap_or_default();
    inwards.contains(&format!("<fromPort>{port}</fromPort>"))
}
