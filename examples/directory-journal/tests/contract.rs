//! The contract of the port, and what docs/backends.md shows.

// ANCHOR: test
use std::sync::Arc;

use directory_journal::DirectoryJournal;
use kutover_testkit::conformance::journal;

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let open = async || DirectoryJournal::new(directory.path());
    journal::check_all(Arc::new(open().await)).await;
    journal::appended_entries_survive(open).await;
    let tear = async || std::fs::write(directory.path().join(".tmp-cut"), "5a").unwrap();
    journal::a_torn_tail_is_dropped(open, tear).await;
    let damage = async || {
        let first = directory.path().join("00000000.entry");
        let text = std::fs::read_to_string(&first).unwrap();
        std::fs::write(&first, text.replace("entry", "entrz")).unwrap();
    };
    journal::damage_is_named(async || Ok(open().await), damage).await;
}
// ANCHOR_END: test

#[tokio::test]
async fn an_entry_that_is_missing_is_named() {
    use kutover_core::ports::Journal as _;
    let directory = tempfile::tempdir().unwrap();
    let open = DirectoryJournal::new(directory.path());
    journal::entries_are_read_in_order(&open).await;
    std::fs::remove_file(directory.path().join("00000001.entry")).unwrap();
    let error = open.read().await.unwrap_err();
    assert!(error.to_string().contains("entry 1 is missing"), "{error}");
    let nowhere = DirectoryJournal::new(directory.path().join("nowhere"));
    assert!(nowhere.read().await.is_err(), "a directory that is not there is no empty journal");
}

/// What stands between the `ANCHOR` lines of a source is what the document shows, letter by letter.
#[test]
fn the_document_shows_this_code() {
    let document = include_str!("../../../docs/backends.md");
    let sources = [include_str!("../src/lib.rs"), include_str!("contract.rs")];
    let mut shown = 0;
    for source in sources {
        for part in source.split("// ANCHOR: ").skip(1) {
            let (name, rest) = part.split_once('\n').unwrap();
            let Some((code, _)) = rest.split_once(&format!("// ANCHOR_END: {name}")) else { continue };
            let block = format!("```rust,ignore\n{}\n```", code.trim_end());
            assert!(document.contains(&block), "docs/backends.md does not show `{name}` as it is:\n{block}");
            shown += 1;
        }
    }
    assert_eq!(shown, 4);
}
