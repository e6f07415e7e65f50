//! Clusters of kutover-lab that the program has a command for: a script that hands each request to the test.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kutover_core::error::{ErrorKind, ProviderError};
use kutover_core::owner::RemovalMark;
use kutover_core::ports::{ClusterProvisioner as _, Incarnation, RecordData};
use kutover_core::words::{Colour, IncarnationId, Nonce};
use kutover_lab::LabProvisioner;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;

/// What the script is called.
const SCRIPT: &str = "cluster.sh";
/// Where every request is kept.
pub(crate) const REQUESTS: &str = "requests";
/// Between two looks for requests.
const LOOK: Duration = Duration::from_millis(20);
/// Each call has a folder of its own: the request is whole once it has its name, and the answer goes through a pipe.
const TEXT: &str = r#"#!/bin/sh
[ -n "$TOKEN" ] || exit 1
ask=$(mktemp -d "$0.XXXXXX") && mkfifo "$ask/answer" || exit 1
cat >"$ask/part" && mv "$ask/part" "$ask/request" || exit 1
cat "$ask/answer"
rm -r "$ask"
"#;

/// Writes the script into a directory, and answers what it asks for as long as the runtime of its test lives. Gives the
/// script's path.
pub(crate) fn open(directory: &Path, lab: &Arc<LabProvisioner>) -> PathBuf {
    let script = directory.join(SCRIPT);
    std::fs::write(&script, TEXT).expect("written");
    let (directory, lab) = (directory.to_owned(), Arc::clone(lab));
    tokio::spawn(async move {
        let mut looks = tokio::time::interval(LOOK);
        let mut begun = BTreeSet::new();
        loop {
            looks.tick().await;
            let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            for asked in entries.map(|entry| entry.path()) {
                if asked.join("request").is_file() && begun.insert(asked.clone()) {
                    tokio::spawn(serve(directory.clone(), asked, Arc::clone(&lab)));
                }
            }
        }
    });
    script
}

/// Carries out one request and answers it.
async fn serve(directory: PathBuf, asked: PathBuf, lab: Arc<LabProvisioner>) {
    let text = std::fs::read_to_string(asked.join("request")).expect("the request");
    let kept = std::fs::OpenOptions::new().create(true).append(true).open(directory.join(REQUESTS));
    writeln!(kept.expect("a file"), "{text}").expect("written");
    let request: Value = serde_json::from_str(&text).expect("JSON");
    let answer = match carry_out(&request, &lab).await {
        Ok(answer) => answer,
        Err(error) if error.kind == ErrorKind::Refused => json!({ "refused": error.to_string() }),
        Err(error) => json!({ "pending": error.to_string() }),
    };
    let mut looks = tokio::time::interval(LOOK);
    // Until somebody reads there, or the program has given the call up and nobody ever will.
    while asked.is_dir() {
        if let Ok(mut pipe) = pipe::OpenOptions::new().open_sender(asked.join("answer")) {
            let _ = pipe.write_all(answer.to_string().as_bytes()).await;
            return;
        }
        looks.tick().await;
    }
}

async fn carry_out(request: &Value, lab: &LabProvisioner) -> Result<Value, ProviderError> {
    let text = |field: &str| request[field].as_str().unwrap_or_else(|| panic!("no {field}: {request}"));
    let colour = if text("colour") == "blue" { Colour::Blue } else { Colour::Green };
    let incarnation = || IncarnationId::new(text("incarnation"));
    match text("act") {
        "provision" => {
            let made = lab.provision(colour, &Nonce::new(text("request"))).await?;
            Ok(json!({ "incarnation": described(lab, &made) }))
        }
        "describe" => {
            let there = lab.describe(colour).await?;
            Ok(json!({ "incarnation": there.map(|there| described(lab, &there)) }))
        }
        "isolate" => lab.isolate(&incarnation(), &Nonce::new(text("nonce"))).await.map(|()| json!({})),
        "put-back" => lab.put_back(&incarnation(), &Nonce::new(text("nonce"))).await.map(|()| json!({})),
        "destroy" => {
            let mark = RemovalMark { incarnation: incarnation(), cluster_id: text("cluster_id").into() };
            lab.destroy(&mark).await.map(|()| json!({}))
        }
        other => panic!("an act that nobody knows: {other}"),
    }
}

fn described(lab: &LabProvisioner, there: &Incarnation) -> Value {
    let RecordData::Addresses(addresses) = &there.endpoint else { panic!("{there:?}") };
    json!({
        "id": there.id,
        "cluster_id": lab.apache(there.colour).map(|cluster| cluster.cluster_id().clone()),
        "bootstrap": there.bootstrap,
        "controller_bootstrap": there.controller_bootstrap,
        "endpoint": { "addresses": addresses },
    })
}
