//! A whole cutover, from 3.9.2 on ZooKeeper to 4.3.1 on KRaft, with live producers that find their cluster through BIND.

use kutover_audit::Deployment;
use kutover_core::ports::{DnsProvider as _, RecordData};
use kutover_core::words::{Colour, DnsName};
use kutover_producer::{Order, Resolvers};
use kutover_tests::{Counted, CutOver, LivePlan, command_with_aws, run};
use serde_json::Value;

use crate::account::planted;
use crate::world::{DEPLOYMENT, ENDPOINT, GROUPS, JOURNAL, PARTITIONS, World};

const PRODUCERS: usize = 4;
/// Records per second of all producers: enough to be in flight at every moment.
const RATE: u32 = 1_000;

/// What a plan of live traffic on this world is.
fn traffic(world: &World) -> LivePlan<'static> {
    LivePlan {
        deployment: Deployment {
            name: DEPLOYMENT.into(),
            endpoint: ENDPOINT.into(),
            resolvers: Resolvers::Servers(vec![world.bind.address]),
            order: Order::Ordered,
        },
        producers: PRODUCERS,
        rate: RATE,
        groups: &GROUPS,
        places: Colour::BOTH.map(|colour| world.lab.place(colour).to_string()),
        partitions: PARTITIONS,
    }
}

/// Nothing is lost, by the count of `demo --json`; blue's stack is gone and green's serves; and no secret came out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_stacks_records_and_journal_on_aws_nothing_is_lost() {
    let test = "with_stacks_records_and_journal_on_aws_nothing_is_lost";
    let Some(world) = World::open(test).await else { return };
    let path = world.configuration();
    let file = path.to_str().expect("UTF-8");
    let blue = world.make_blue(file).await;
    let checked = run(&mut world.program(&["check", file, "--online", "--json"]));
    planted().assert_not_in("what check says", &format!("{}{}", checked.stdout, checked.stderr));
    assert_eq!(checked.status, Some(0), "{}", checked.stdout);
    assert!(checked.stdout.contains(blue.id.as_str()), "{}", checked.stdout);

    let done =
        CutOver::carry_out(&mut world.program(&["up", "--json", file]), traffic(&world), &world.lab).await;
    world.instances.assert_sound();
    let Counted { report, said } = done.assert_complete().await;

    ends_as_it_should(&world, file).await;
    planted().assert_not_in("its report", &report);
    planted().assert_not_in("its log", &said);
    planted().assert_not_in("its journal", &world.account.object(JOURNAL).await);
    planted().assert_not_in_files(world.directory(), &[]);
}

/// Whoever makes stacks by other means has the template that kutover makes them of.
#[test]
fn the_template_is_printed_as_it_is() {
    let printed = run(command_with_aws().arg("template"));
    assert_eq!((printed.status, printed.stdout), (Some(0), kutover_aws::template()), "{}", printed.stderr);
}

/// Records, name servers and stacks agree that green is what there is.
async fn ends_as_it_should(world: &World, file: &str) {
    let served = world.bind.provider().read(&DnsName::new(ENDPOINT)).await.expect("BIND answers");
    let owner = served.owner.expect("an owner record");
    assert_eq!((owner.target.colour, owner.target.generation.0), (Colour::Green, 2));
    assert_eq!(owner.removal, None, "the mark is still there");
    let set = served.endpoint.expect("a record set");
    assert_eq!(set.ttl_s, 2, "the TTL was not restored");
    assert!(matches!(&set.data, RecordData::Cname(name) if name.as_str().starts_with("kafkab-")), "{set:?}");
    let checked = run(&mut world.program(&["check", file, "--online", "--json"]));
    let found: Value = serde_json::from_str(checked.stdout.trim()).expect("a report");
    let says = |part: &str| {
        let mut parts = found["parts"].as_array().expect("parts").iter();
        parts.find(|it| it["part"] == part).and_then(|it| it["says"].as_str()).unwrap_or_default().to_owned()
    };
    assert_eq!(says("cluster blue"), "nothing stands there", "{found}");
    assert!(says("cluster green").contains(owner.target.cluster_id.as_str()), "{found}");
    assert!(says(&format!("dns {ENDPOINT}")).contains("generation 2"), "{found}");
    // It has begun: whoever asks for its first cluster now gets none.
    let refused = run(&mut world.program(&["provision", file]));
    let said = refused.shown();
    assert!(said.contains("has begun") && said.contains("generation 2"), "{said}");
    assert_eq!(refused.status, Some(2), "{said}");
}
