//! Fences that are no ACLs of kutover's own, raised by the program, from 3.9.2 to 4.3.1 by size and back again by a command. Each
//! time the controller is killed once it has begun to fence. And what comes late: a topic before the switch, a group while others
//! read; and what never comes: a word of a producer that is dead.

use krafka::Kafka;
use kutover_core::words::Colour;
use kutover_lab::Tools;
use kutover_tests::{Program, command};
use kutover_tests_kafka::clients::{commit, make_topics, try_write, write};
use kutover_tests_kafka::members::Registered;
use kutover_tests_kafka::world::{TwoClusters, client};

const PLAN: &str = "approve = \"manual\"\nremove_old = false\nwaive_history = \"*\"\nwaive_retention = \"*\"\nwaive_unread = \"*\"\n\
                    converge_deadline = \"4s\"\nquiet_window = \"1s\"\nsoak = \"0s\"\nhold_limit = \"2m\"\ndrain_poll = \"200ms\"\n\
                    command_timeout = \"60s\"\nwatch = \"1s\"\nseparation_head_room = 1000\n";

/// A user's, though its name begins as those of Kafka's own do.
const LATE: &str = "__late";

/// `sh -c`'s script, whose `$0` is the Java launcher and whose `$1` is the class path.
const COMMAND: &str = include_str!("../../crates/kutover-admin/tests/support/fence.sh");

async fn by_command(tools: &Tools) -> String {
    let class_path = tools.class_path("4.3.1".parse().expect("a version")).await.expect("the tools");
    let java = tools.java.to_str().expect("UTF-8");
    let command = ["sh", "-c", COMMAND, java, &class_path].map(toml_text).join(", ");
    format!("fence = {{ kind = \"exec\", command = [{command}] }}\n\n")
}

/// A JSON text is a TOML one too.
fn toml_text(text: &str) -> String {
    serde_json::to_string(text).expect("a text")
}

/// One cutover, whose controller dies while it fences the cluster that is left.
struct Cutover {
    file: String,
    up: Program,
}

impl Cutover {
    fn start(world: &TwoClusters, tables: &str, to: Colour) -> Self {
        let path = world.configuration_with(tables, &format!("{PLAN}to = \"{to}\"\n"));
        let file = path.to_str().expect("UTF-8").to_owned();
        let mut up = Program::start(command().args(["up", &file]));
        up.wait_for("approve redirect");
        Self { file, up }
    }

    /// Goes on until the cluster that is left is closed.
    fn close(&mut self) {
        self.up.wait_for("fencing:");
        // Dropped, it is killed.
        self.up = Program::start(command().args(["up", &self.file]));
        self.up.wait_for("draining:");
    }

    fn complete(mut self) {
        let (status, _) = self.up.end();
        assert_eq!(status, Some(0), "{}", self.up.shown());
    }
}

async fn assert_fenced(left: &Kafka) {
    assert!(try_write(left, "orders", 1, 1).await.is_err(), "it takes records");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_by_size_and_back_by_a_command() {
    let test = "there_by_size_and_back_by_a_command";
    let Some(world) = TwoClusters::start(test, "3.9.2", "4.3.1").await else { return };
    let blue = client(&world.blue).await;
    make_topics(&blue, &[("orders", 1, &[])]).await;
    write(&blue, "orders", 1, 5).await;
    commit(&blue, "billing", "orders", 1, 0).await;

    let by_size = "[clusters.blue]\nfence = { kind = \"size\" }\n\n";
    let mut there = Cutover::start(&world, by_size, Colour::Green);
    make_topics(&blue, &[(LATE, 1, &[])]).await;
    write(&blue, LATE, 1, 1).await;
    // Nobody waives it, and it says no more: it is waited for until the deadline, and then the fence goes up. It has registered
    // before the switch is let begin, or else nobody might be waited for.
    let _dead = Registered::on(&world.blue, 1, "dead").await;
    there.up.say("approve redirect");
    there.up.wait_for("the old cluster's topics have changed; preparing again");
    there.up.wait_for("0 of 1 producers moved, waiting for dead (one that is gone for good");
    there.close();
    assert_fenced(&blue).await;
    commit(&blue, "born-late", LATE, 1, 0).await;
    there.up.wait_for("groups that must read to the end: 2");
    commit(&blue, "billing", "orders", 1, 5).await;
    commit(&blue, "born-late", LATE, 1, 1).await;
    there.complete();
    assert_fenced(&blue).await;

    let green = client(&world.green).await;
    write(&green, LATE, 1, 1).await;
    write(&green, "orders", 1, 2).await;
    let by_command = format!("[clusters.green]\n{}", by_command(&Tools::from_env()).await);
    let mut back = Cutover::start(&world, &by_command, Colour::Blue);
    back.up.say("approve redirect");
    back.close();
    assert_fenced(&green).await;
    write(&blue, "orders", 1, 1).await;
    for group in ["billing", "born-late"] {
        commit(&green, group, "orders", 1, 2).await;
        commit(&green, group, LATE, 1, 1).await;
    }
    back.complete();
    assert_fenced(&green).await;
}
