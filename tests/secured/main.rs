//! A cutover between clusters that let in nobody without a certificate, a name and a rule for it. The listeners where it
//! takes place speak nothing but SASL_SSL, so whatever got through has. Others of the same brokers take clients by TLS alone.
//!
//! One world of real brokers for all of it: they are dear to start.

mod authority;
mod certificates;
mod clients;
mod traffic;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use kutover_core::ports::{ClusterAdmin as _, Incarnation};
use kutover_kafka::{ClientProperties, read_topic};
use kutover_tests::{Planted, Program, command, run};
use serde_json::Value;
use traffic::{BOUND, Billing, Shop};
use world::{BILLING, CONTROLLER, KEY_PASSWORD, PASSWORDS, PROBE, SHOP, TOPIC, World, written};

/// What the broker knows nobody by.
const WRONG: &str = "planted-6e1d-wrong";

/// The records of a topic as a stock consumer reads them: the payload's number, and how often it stands there.
async fn stored(world: &World, on: &Incarnation) -> BTreeMap<u64, usize> {
    let properties = ClientProperties::new(world.properties("SCRAM-SHA-512", BILLING)).expect("properties");
    let (tell, told) = std::sync::mpsc::channel();
    let visit = move |record: kutover_kafka::StoredRecord| {
        let text = String::from_utf8(record.payload.expect("an order")).expect("UTF-8");
        let _ = tell.send(text.parse().expect("a number"));
    };
    read_topic(&on.bootstrap, &properties, "audit", TOPIC, BOUND, visit).await.expect("it is read");
    let mut counts = BTreeMap::new();
    for number in told {
        *counts.entry(number).or_insert(0) += 1;
    }
    counts
}

/// No password, no part of the clients' key, neither as it is nor encrypted, and no token.
fn planted(world: &World) -> Planted {
    let read = |name: &str| std::fs::read_to_string(world.secret(name)).expect("a file");
    let line = |pem: &str| pem.lines().nth(1).expect("a line of the key").to_owned();
    let keys = [line(&world.client.key_pem), line(&read("client.key"))];
    let passwords = PASSWORDS.map(str::to_owned);
    Planted::new(passwords.into_iter().chain(keys).chain([WRONG.to_owned(), read("token")]))
}

/// The program with these words, a password for blue in its environment, and a log of all that it can tell.
fn program(words: &[&str], password: &str) -> Command {
    let mut program = command();
    program
        .args(words)
        .env("BLUE_PASSWORD", password)
        .env("KEY_PASSWORD", KEY_PASSWORD)
        .env("KUTOVER_LOG", "trace");
    program
}

fn up(file: &str) -> Program {
    Program::start(&mut program(&["up", "--json", file], CONTROLLER.1))
}

/// Whom the broker refuses is told so, and not with which password.
fn a_wrong_password_is_refused(world: &World, directory: &Path) {
    let file = world.write(directory, "");
    for words in [&["check", "--online", &file][..], &["plan", "--watch", "1", &file], &["drain", &file]] {
        let ran = run(&mut program(words, WRONG));
        assert_ne!(ran.status, Some(0), "{words:?}: {}", ran.shown());
        assert!(
            ran.shown().contains("uthenticat"),
            "{words:?} does not say that it is refused: {}",
            ran.shown()
        );
        planted(world).assert_not_in(words[0], &format!("{}{}", ran.stdout, ran.stderr));
    }
}

/// On green, where tokens let clients in, the client that proves fences gets in by its own and not by the controller's, and no
/// part of the check shows either.
fn the_probe_gets_in_by_its_own_token(world: &World, directory: &Path) {
    let own = world.secret("probes");
    let token = clients::token("probe");
    let file = world.write(directory, "");
    let text = std::fs::read_to_string(&file).expect("a configuration");
    let line = format!("[clusters.green]\nprobe_token_file = {:?}\n", own.display().to_string());
    std::fs::write(&file, text.replace("[clusters.green]\n", &line)).expect("written");
    for (is_there, says) in [(false, "FAILED  probe green: "), (true, "ok      probe green: ")] {
        if is_there {
            std::fs::write(&own, &token).expect("written");
        }
        let ran = run(&mut program(&["check", "--online", &file], CONTROLLER.1));
        assert!(ran.stderr.contains("ok      cluster green: "), "{}", ran.shown());
        assert!(ran.stderr.contains(says), "{}", ran.shown());
        assert!(is_there || ran.stderr.contains(&own.display().to_string()), "{}", ran.shown());
        Planted::new([token.as_str()]).assert_not_in("check", &ran.shown());
        planted(world).assert_not_in("check", &ran.shown());
    }
}

/// Without SASL the program is who its certificate says: it finds all that only the controller may see, and what is left to
/// refuse the plan over is not about getting in.
fn a_certificate_is_enough(world: &World, directory: &Path) {
    let file = written(directory, &world.by_certificate());
    let ran = |words: &[&str]| {
        let ran = run(&mut program(words, WRONG));
        planted(world).assert_not_in(words[0], &format!("{}{}", ran.stdout, ran.stderr));
        ran
    };
    let checked = ran(&["check", "--online", &file]);
    assert_eq!(checked.status, Some(0), "{}", checked.shown());
    let ran = ran(&["plan", "--watch", "1", "--json", &file]);
    let plan: Value = serde_json::from_str(ran.stdout.lines().last().unwrap_or_default()).expect("a plan");
    let refusals = plan["refusals"].as_array().expect("refusals").iter();
    let refusals: Vec<_> = refusals.map(|one| (one["code"].as_str(), one["subject"].as_str())).collect();
    let without_passwords = [BILLING.0, PROBE.0, SHOP.0].map(|user| (Some("scram-user"), Some(user)));
    assert_eq!((refusals, ran.status), (without_passwords.to_vec(), Some(3)), "{}", ran.shown());
    assert!(plan["access"]["acls"].as_array().is_some_and(|acls| acls.len() > 10), "{plan}");
}

/// A user that green lacks and whose password nobody has told holds the cutover, before anything is switched.
fn a_user_without_a_password_is_named(world: &World, directory: &Path) {
    let file = world.write(directory, &format!("shop = {:?}", SHOP.1));
    let mut program = up(&file);
    program.wait_for("SCRAM user billing (SCRAM-SHA-512)");
    program.say("abort");
    let (status, report) = program.end();
    assert_ne!(status, Some(0), "{report}");
    assert!(!report.contains("redirecting"), "{report}");
}

/// The cutover itself, under traffic. Gives what the shop sold.
async fn cut_over(world: &World, directory: &Path) -> (BTreeSet<u64>, Vec<u64>) {
    std::fs::write(directory.join("billing"), BILLING.1).expect("written");
    std::fs::rename(directory.join("billing"), world.secret("billing")).expect("out of the program's folder");
    std::fs::write(world.secret("shop"), SHOP.1).expect("written");
    let users = [(SHOP, "shop"), (BILLING, "billing"), (PROBE, "probe.password")].map(|((user, _), file)| {
        format!("{user} = {{ file = {:?} }}\n", world.secret(file).display().to_string())
    });
    let mut program = up(&world.write(directory, &users.concat()));
    program.wait_for("approve redirect");
    let arguments = program.arguments();
    assert!(arguments.contains("orders.toml"), "{arguments}");
    planted(world).assert_not_in("its command line", &arguments);
    let mut shop = Shop::open(world).await;
    let billing = Billing::open(world, &world.blue, None);
    shop.sells(200).await;
    program.say("approve redirect");
    program.wait_for("soaking");
    shop.sells(200).await;
    let mut billed = tokio::task::block_in_place(|| billing.close());
    program.wait_for("approve removal");
    program.say("approve removal");
    let (status, report) = program.end();
    planted(world).assert_not_in("its report", &report);
    planted(world).assert_not_in("its log", &program.said);
    planted(world).assert_not_in_files(directory, &[]);
    let last: Value = serde_json::from_str(report.lines().last().unwrap_or_default()).expect("a report");
    assert_eq!((last["outcome"].as_str(), status), (Some("complete"), Some(0)), "{last}");
    // The attempt before gave green nothing: it was refused before it touched it.
    let given =
        program.said.lines().find(|line| line.contains("the new cluster was given")).expect("it is said");
    assert!(given.contains("ACLs (") && given.contains("SCRAM users (3)"), "{given}");
    let sold = shop.close().await;
    let missing = sold.iter().copied().filter(|number| !billed.contains(number)).collect();
    let billing = Billing::open(world, &world.green, Some(missing));
    billed.extend(tokio::task::block_in_place(|| billing.end()));
    (sold, billed)
}

/// Green lets in whom blue lets in, and nobody else.
async fn green_is_like_blue(world: &World) {
    let (blue, green) = (world.root(&world.blue).await, world.root(&world.green).await);
    let (blue, green) = (blue.access().await.expect("blue's"), green.access().await.expect("green's"));
    assert!(blue.acls.as_ref().is_some_and(|acls| acls.len() > 10), "{blue:?}");
    assert_eq!(blue, green);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_clients_speak_sasl_ssl_throughout() {
    let Some(world) = World::start("both_clients_speak_sasl_ssl_throughout").await else { return };
    world.furnish().await;
    clients::every_mechanism_gets_in(&world).await;
    clients::nobody_else_gets_in(&world).await;
    certificates::tls_alone_lets_in(&world).await;
    let directory = tempfile::tempdir().expect("a directory");
    a_wrong_password_is_refused(&world, directory.path());
    a_certificate_is_enough(&world, directory.path());
    the_probe_gets_in_by_its_own_token(&world, directory.path());
    a_user_without_a_password_is_named(&world, directory.path());
    let (sold, billed) = cut_over(&world, directory.path()).await;
    let (on_blue, on_green) = (stored(&world, &world.blue).await, stored(&world, &world.green).await);
    assert!(!on_blue.is_empty() && !on_green.is_empty());
    let lost = sold.iter().filter(|number| !on_blue.contains_key(number) && !on_green.contains_key(number));
    assert_eq!(lost.count(), 0, "acknowledged and not there");
    let copies: usize = on_blue.values().chain(on_green.values()).sum();
    assert_eq!(copies, sold.len(), "each order stands in one log, once");
    let billed: BTreeSet<u64> = billed.into_iter().collect();
    assert_eq!(billed, sold, "the group has read them all");
    green_is_like_blue(&world).await;
    let users = green_users(&world).await;
    assert!(
        users.is_superset(&[CONTROLLER.0, SHOP.0, BILLING.0, PROBE.0].map(str::to_owned).into()),
        "{users:?}"
    );
    world.lab.stop().await;
}

async fn green_users(world: &World) -> BTreeSet<String> {
    let green = world.root(&world.green).await.access().await.expect("green's");
    green.scram_users.expect("it has users").into_keys().collect()
}
