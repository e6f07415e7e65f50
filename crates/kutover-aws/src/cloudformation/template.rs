//! The template that kutover brings: `template/cluster.yaml` with `template/broker.sh` in its place.

const CLUSTER: &str = include_str!("../../template/cluster.yaml");
const BROKER: &str = include_str!("../../template/broker.sh");
const PLACE: &str = "@broker.sh@";

/// What updates of a stack must never do to it.
pub const STACK_POLICY: &str = include_str!("../../template/stack-policy.json");

/// The template's whole text, as CloudFormation takes it. The script goes where its name stands, as deep as that.
pub fn template() -> String {
    let indented = |line: &str| -> String {
        let indent = &line[..line.len() - line.trim_start().len()];
        let deep = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("{indent}{line}\n") };
        BROKER.lines().map(deep).collect()
    };
    CLUSTER
        .lines()
        .map(|line| if line.trim() == PLACE { indented(line) } else { format!("{line}\n") })
        .collect()
}
