//! The instances that MiniStack does not have: a broker of Apache Kafka for each stack, by kutover-lab.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::{ResourceSignalStatus, Stack, StackStatus};
use kutover_aws::Aws;
use kutover_core::error::ProviderResult;
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{
    ClusterProvisioner as _, DnsProvider, Incarnation, Published, RecordData, RecordSet,
};
use kutover_core::words::{Colour, DnsName, Nonce};
use kutover_dns::Rfc2136;
use kutover_lab::LabProvisioner;
use kutover_lab::forwarder::Forwarder;
use parking_lot::Mutex;

use crate::account::Account;
use crate::emulated::{lets_in, register};
use crate::server::MiniStack;

/// Where MiniStack's load balancers have their names.
pub(crate) const BALANCERS: &str = "elb.amazonaws.com";
/// The port that the template gives to the controller of kutover.
const CONTROLLER_PORT: u16 = 9094;
/// A load balancer's own TTL.
const BALANCER_TTL_S: u32 = 60;
/// Between two looks at the stacks.
const LOOK: Duration = Duration::from_millis(100);
/// What isolations of the lab's are called here: the security groups have no more than open and shut.
const SHUT: &str = "security-groups";

/// Runs brokers for as long as the runtime of its test lives.
pub(crate) struct Instances {
    /// Why one could not be run.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Instances {
    /// For the stacks of this name; `balancers` is where the load balancers' names are kept.
    pub(crate) fn start(
        account: &Account,
        stack: &str,
        lab: &Arc<LabProvisioner>,
        balancers: Rfc2136,
    ) -> Self {
        let trouble = Arc::new(Mutex::new(None));
        let mut machines = Machines {
            server: account.server,
            aws: account.aws.clone(),
            client: Client::new(account.aws.config()),
            stack: stack.to_owned(),
            lab: Arc::clone(lab),
            balancers,
            controllers: BTreeMap::new(),
            open: BTreeMap::new(),
            named: BTreeMap::new(),
        };
        let told = Arc::clone(&trouble);
        tokio::spawn(async move {
            let mut looks = tokio::time::interval(LOOK);
            loop {
                looks.tick().await;
                for colour in Colour::BOTH {
                    if let Err(error) = machines.look(colour).await {
                        told.lock().get_or_insert_with(|| error.to_string());
                    }
                }
            }
        });
        Self { trouble }
    }

    /// That nothing went wrong here.
    pub(crate) fn assert_sound(&self) {
        let trouble = self.trouble.lock();
        assert!(trouble.is_none(), "the instances: {}", trouble.as_deref().unwrap_or_default());
    }
}

struct Machines {
    server: &'static MiniStack,
    aws: Aws,
    client: Client,
    stack: String,
    lab: Arc<LabProvisioner>,
    balancers: Rfc2136,
    /// The way in for the controller; clients are shut out elsewhere.
    controllers: BTreeMap<Colour, Forwarder>,
    /// Whether clients are let in, as far as it was seen to.
    open: BTreeMap<Colour, bool>,
    /// The load balancers' names that are known to resolve.
    named: BTreeMap<Colour, DnsName>,
}

impl Machines {
    /// Makes of a colour's machines what its stack says.
    async fn look(&mut self, colour: Colour) -> ProviderResult<()> {
        let name = format!("{}{}", self.stack, colour.suffix());
        let found = self.client.describe_stacks().stack_name(&name).send().await.ok();
        let stack = found.and_then(|found| found.stacks?.pop());
        let status = stack.as_ref().and_then(|stack| stack.stack_status.clone());
        let running = self.lab.describe(colour).await?;
        match (status, running) {
            (Some(StackStatus::CreateInProgress), running) => {
                if running.is_none() {
                    let id = stack.and_then(|stack| stack.stack_id).unwrap_or_default();
                    self.launch(colour, &Nonce::new(id)).await?;
                }
                // Refused until it is waited for.
                let signal = self.client.signal_resource().stack_name(&name).logical_resource_id("Serving0");
                let _ = signal.unique_id("i-0").status(ResourceSignalStatus::Success).send().await;
                Ok(())
            }
            (None | Some(StackStatus::DeleteComplete), Some(running)) => self.end(colour, running).await,
            (Some(StackStatus::CreateComplete | StackStatus::UpdateComplete), Some(running)) => {
                self.name_balancer(colour, stack.as_ref()).await?;
                self.obey(&name, &running).await
            }
            _ => Ok(()),
        }
    }

    async fn launch(&mut self, colour: Colour, request: &Nonce) -> ProviderResult<()> {
        let made = self.lab.provision(colour, request).await?;
        let inside: Vec<SocketAddr> =
            made.controller_bootstrap.iter().map(|server| server.parse().expect("an address")).collect();
        let at = SocketAddr::new(self.lab.place(colour).ip(), CONTROLLER_PORT);
        let forwarder = Forwarder::open(at, inside).await.expect("the controller's way in");
        self.controllers.insert(colour, forwarder);
        Ok(())
    }

    async fn end(&mut self, colour: Colour, running: Incarnation) -> ProviderResult<()> {
        self.controllers.remove(&colour);
        self.open.remove(&colour);
        self.named.remove(&colour);
        let cluster = self.lab.apache(colour).expect("it runs").cluster_id().clone();
        self.lab.destroy(&RemovalMark { incarnation: running.id, cluster_id: cluster }).await
    }

    /// Lets clients in while the stack's security groups do.
    async fn obey(&mut self, name: &str, running: &Incarnation) -> ProviderResult<()> {
        let (colour, shut) = (running.colour, Nonce::new(SHUT));
        let open = lets_in(self.server, &format!("{name}-client"), self.lab.place(colour).port());
        if self.open.get(&colour) == Some(&open) {
            return Ok(());
        }
        match open {
            true => self.lab.put_back(&running.id, &shut).await?,
            false => self.lab.isolate(&running.id, &shut).await?,
        }
        self.open.insert(colour, open);
        Ok(())
    }

    /// Gives the load balancer's name the forwarder's address, and has the load balancer know the broker.
    async fn name_balancer(&mut self, colour: Colour, stack: Option<&Stack>) -> ProviderResult<()> {
        let outputs = stack.and_then(|stack| stack.outputs.as_ref()).into_iter().flatten();
        let mut names = outputs.filter(|output| output.output_key() == Some("EndpointName"));
        let Some(name) = names.next().and_then(|output| output.output_value()) else { return Ok(()) };
        let (name, ip) = (DnsName::new(name).normal(), self.lab.place(colour).ip());
        let set = RecordSet { ttl_s: BALANCER_TTL_S, data: RecordData::Addresses(vec![ip]) };
        let wanted = Published { endpoint: Some(set), owner: None };
        if self.named.get(&colour) == Some(&name) {
            return Ok(());
        }
        let found = self.balancers.read(&name).await?;
        self.balancers.compare_and_set(&name, &found, &wanted).await?;
        let group = format!("{}{}-bootstrap", self.stack, colour.suffix());
        register(&self.aws, &group, &[&ip.to_string()]).await;
        self.named.insert(colour, name);
        Ok(())
    }
}
