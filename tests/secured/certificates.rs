//! TLS without SASL (`security.protocol = ssl`), for both clients: whom a certificate lets in, and as whom.

use kutover_admin::{AdminConfig, KafkaAdmin};
use kutover_core::error::ErrorKind;
use kutover_core::ports::{ClusterAdmin as _, Incarnation, NewAccess};
use kutover_lab::TlsAlone;

use crate::authority::Authority;
use crate::clients::{agree, both_work, refusal};
use crate::world::{CONTROLLER, Properties, World, controllers};

/// The certificate's subject as brokers make a principal of it, where nobody tells them how.
fn principal() -> String {
    format!("User:CN={}", CONTROLLER.0)
}

pub(crate) async fn tls_alone_lets_in(world: &World) {
    for cluster in [&world.blue, &world.green] {
        let access = NewAccess { acls: controllers(&principal()).into(), ..NewAccess::default() };
        let left = world.root(cluster).await.grant(&access).await.expect("its certificate is furnished");
        assert!(left.is_empty(), "{left:?}");
        let mutual = world.by_tls(cluster, TlsAlone::Mutual);
        let one_way = world.by_tls(cluster, TlsAlone::OneWay);
        for (of, properties) in [(&mutual, world.ssl(Some(&world.client))), (&one_way, world.ssl(None))] {
            agree(world, of, properties).await;
        }
        a_certificate_is_a_name(world, &mutual, &one_way).await;
        without_one_nobody_gets_in(world, &mutual).await;
        both_believe_no_other_authority(world, &one_way).await;
    }
}

/// What the subject of one may do, another's may not, nor whoever shows none.
async fn a_certificate_is_a_name(world: &World, mutual: &Incarnation, one_way: &Incarnation) {
    for done in both_work(mutual, world.ssl(Some(&world.client)), None).await {
        done.expect("it may do all that the controller has to");
    }
    let stranger = world.ssl(Some(&world.certificate("stranger")));
    for (of, properties) in [(mutual, stranger), (one_way, world.ssl(None))] {
        agree(world, of, properties.clone()).await;
        for done in both_work(of, properties, None).await {
            let error = done.expect_err("somebody else's rules");
            assert_eq!(error.kind, ErrorKind::NotAuthorised, "{error}");
        }
    }
}

async fn without_one_nobody_gets_in(world: &World, mutual: &Incarnation) {
    admin_is_refused(mutual, world.ssl(None)).await;
    let said = refusal(mutual, world.ssl(None));
    assert!(said.contains("certificate"), "{said}");
}

async fn both_believe_no_other_authority(world: &World, one_way: &Incarnation) {
    let strangers = ("ssl.ca.pem".to_owned(), Authority::new().pem());
    let properties: Properties = world.ssl(None).into_iter().chain([strangers]).collect();
    admin_is_refused(one_way, properties.clone()).await;
    let said = refusal(one_way, properties);
    assert!(said.contains("certificate verify failed"), "{said}");
}

async fn admin_is_refused(of: &Incarnation, properties: Properties) {
    let config = AdminConfig { bootstrap: of.bootstrap.clone(), properties, ..AdminConfig::default() };
    let refused = match KafkaAdmin::connect(config).await {
        Err(error) => error,
        Ok(admin) => admin.identity().await.expect_err("nobody lets it in"),
    };
    assert!(refused.reason.contains("ertificate"), "{refused}");
}
