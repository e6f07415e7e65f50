use super::*;
use format::{MAGIC, Place};
use kutover_testkit::conformance::journal;
use proptest::prelude::*;
use serde_json::json;

fn entry(index: u64, term: u64) -> JournalEntry {
    JournalEntry { index, term: Term(term), body: json!({"step": index, "why": "grün ; \"quoted\"\n"}) }
}

fn file_of(entries: &[JournalEntry]) -> Vec<u8> {
    entries.iter().fold(MAGIC.to_vec(), |mut file, entry| {
        file.extend(format::line(entry).unwrap());
        file
    })
}

fn entries() -> impl Strategy<Value = Vec<JournalEntry>> {
    proptest::collection::vec(("\\PC{0,30}", 0..3_u64), 1..8).prop_map(|made| {
        let mut term = 1;
        (0..)
            .zip(made)
            .map(|(index, (text, more))| {
                term += more;
                JournalEntry { index, term: Term(term), body: json!({ "text": text }) }
            })
            .collect()
    })
}

proptest! {
    /// L14: cut off anywhere, the whole entries before the cut are there and nothing else is.
    #[test]
    fn a_cut_leaves_the_entries_before_it(entries in entries(), cut in any::<prop::sample::Index>(), zeros in 0..64_usize) {
        let whole = file_of(&entries);
        let cut = cut.index(whole.len() + 1);
        let expected = (0..=entries.len()).rev().find(|n| *n == 0 || file_of(&entries[..*n]).len() <= cut).unwrap();
        let mut bytes = whole[..cut].to_vec();
        bytes.extend(vec![0; zeros]);
        let (read, good) = format::parse(&bytes).unwrap();
        prop_assert_eq!(&read, &entries[..expected]);
        let kept = if cut < MAGIC.len() { 0 } else { file_of(&entries[..expected]).len() };
        prop_assert_eq!(good, kept as u64);
    }

    /// L14: a flipped bit anywhere is an error that names its entry; the last entry is no exception.
    #[test]
    fn a_flipped_bit_is_named(entries in entries(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut bytes = file_of(&entries);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let hit = (0..entries.len()).find(|n| at < file_of(&entries[..=*n]).len()).unwrap() as u64;
        let place = if at < MAGIC.len() { Place::Magic } else { Place::Entry(hit) };
        let damage = format::parse(&bytes).unwrap_err();
        prop_assert_eq!(damage.place, place, "{}", damage.reason);
    }

    /// Cut and flipped at once: entries that are read are the true ones, in their places.
    #[test]
    fn no_entry_is_ever_wrong(
        entries in entries(), cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = file_of(&entries);
        bytes.truncate(cut.index(bytes.len()) + 1);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok((read, _)) = format::parse(&bytes) {
            prop_assert!(entries.starts_with(&read));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = format::parse(&[MAGIC, &bytes].concat());
        let _ = format::parse(&bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_ports_contract() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    journal::check_all(Arc::new(FileJournal::open(&path).await.unwrap())).await;
    let open = async || FileJournal::open(&path).await.unwrap();
    journal::appended_entries_survive(open).await;
    let tear = async || {
        let mut file = std::fs::File::options().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, &format::line(&entry(99, 99)).unwrap()[..12]).unwrap();
    };
    journal::a_torn_tail_is_dropped(open, tear).await;
    let damage = async || {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[MAGIC.len() + 20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    journal::damage_is_named(async || FileJournal::open(&path).await, damage).await;
}

#[tokio::test]
async fn entries_survive_a_restart_and_a_cut_tail_gives_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.journal");
    let journal = FileJournal::open(&path).await.unwrap();
    for index in 0..3 {
        journal.append(&entry(index, 1)).await.unwrap();
    }
    drop(journal);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();

    let journal = FileJournal::open(&path).await.unwrap();
    assert_eq!(journal.read().await.unwrap(), [entry(0, 1), entry(1, 1)]);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes.len() as u64 - 5, "reading changes nothing");
    journal.append(&entry(2, 4)).await.unwrap();
    assert_eq!(journal.read().await.unwrap(), [entry(0, 1), entry(1, 1), entry(2, 4)]);
    drop(journal);
    assert_eq!(FileJournal::open(&path).await.unwrap().read().await.unwrap().len(), 3);
}

#[tokio::test]
async fn appending_is_a_compare_and_set_on_index_and_term() {
    let directory = tempfile::tempdir().unwrap();
    let journal = FileJournal::open(&directory.path().join("j")).await.unwrap();
    journal.append(&entry(0, 3)).await.unwrap();
    for (wrong, kind, text) in [
        (entry(0, 3), ErrorKind::Conflict, "it has 1 entries; read it again"),
        (entry(2, 3), ErrorKind::Conflict, "it has 1 entries; read it again"),
        (entry(1, 2), ErrorKind::Superseded, "term 3 is in force, this is term 2"),
    ] {
        let error = journal.append(&wrong).await.unwrap_err();
        assert_eq!((error.kind, error.outcome, error.reason.as_str()), (kind, Outcome::NotDone, text));
    }
    assert_eq!(journal.read().await.unwrap(), [entry(0, 3)]);
}

/// L20 on one machine: the second controller is told, and may go on when the first has ended.
#[tokio::test]
async fn a_second_controller_is_locked_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    let first = FileJournal::open(&path).await.unwrap();
    let error = FileJournal::open(&path).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.to_string().contains("another controller has it locked; end that one"), "{error}");
    drop(first);
    FileJournal::open(&path).await.unwrap();
}

#[tokio::test]
async fn trouble_names_the_file_and_the_fix() {
    let directory = tempfile::tempdir().unwrap();
    let missing = FileJournal::open(&directory.path().join("no/j")).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound);
    assert!(missing.reason.contains("make the directory"), "{missing}");
    let is_directory = FileJournal::open(directory.path()).await.unwrap_err();
    assert!(is_directory.reason.contains("name a file"), "{is_directory}");

    let path = directory.path().join("j");
    let mut bytes = file_of(&[entry(0, 1), entry(1, 1), entry(2, 1)]);
    let second = file_of(&[entry(0, 1)]).len() + 40;
    bytes[second] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let damaged = FileJournal::open(&path).await.unwrap_err();
    let text = damaged.to_string();
    assert_eq!(damaged.kind, ErrorKind::Invalid);
    assert!(
        text.ends_with("j, entry 1: its checksum does not match; restore the file from a copy"),
        "{text}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "a damaged journal is left as it is");

    std::fs::write(&path, "groceries\n").unwrap();
    let foreign = FileJournal::open(&path).await.unwrap_err().to_string();
    assert!(foreign.contains("first line: it is not the first line of a kutover journal"), "{foreign}");
}

/// L14: once a sync has failed, a later one that works proves nothing: nothing more is written until a new start has read
/// what is really there.
#[tokio::test]
async fn after_a_failed_sync_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    let journal = FileJournal::open(&path).await.unwrap();
    journal.append(&entry(0, 1)).await.unwrap();
    journal.open.lock().sync = |_| Err(std::io::Error::other("no space left on the device"));
    let error = journal.append(&entry(1, 1)).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    journal.open.lock().sync = File::sync_all;
    for _ in 0..2 {
        let error = journal.append(&entry(1, 1)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("could not be made durable"), "{error}");
    }
    drop(journal);
    let journal = FileJournal::open(&path).await.unwrap();
    let there = journal.read().await.unwrap();
    journal.append(&entry(there.len() as u64, 1)).await.unwrap();
}
