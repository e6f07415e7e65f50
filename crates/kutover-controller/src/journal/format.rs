//! Lines of a journal file, in and out. Pure.

use std::fmt;

use kutover_core::ports::JournalEntry;
use kutover_core::words::Term;

/// The first line: what the file is, and the version of its form.
pub(super) const MAGIC: &[u8] = b"kutover-journal 1\n";

/// `LLLLLLLL BBBBBBBB HHHHHHHH `: length of the body, CRC-32 of the body, CRC-32 of the 18 bytes before.
const HEADER: usize = 27;
const CHECKED: usize = 18;

/// Where a file is damaged, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) place: Place,
    pub(super) reason: String,
}

/// A place in a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The first line.
    Magic,
    /// An entry, from 0.
    Entry(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Magic => f.write_str("first line"),
            Place::Entry(index) => write!(f, "entry {index}"),
        }
    }
}

/// An entry as its line.
pub(super) fn line(entry: &JournalEntry) -> Result<Vec<u8>, String> {
    let body = serde_json::to_vec(entry).map_err(|error| error.to_string())?;
    let length = u32::try_from(body.len()).map_err(|_| "it is longer than 4 GiB".to_owned())?;
    let mut line = format!("{length:08x} {:08x} ", crc32fast::hash(&body)).into_bytes();
    let check = crc32fast::hash(&line);
    line.extend(format!("{check:08x} ").into_bytes());
    line.extend(body);
    line.push(b'\n');
    Ok(line)
}

/// What one step through the file found.
enum Step<'a> {
    /// A whole line: its body and all its bytes.
    Whole(&'a [u8], usize),
    /// The rest was cut off while being written.
    CutOff,
}

/// All whole entries, and how many bytes they and the first line take. Nothing but a tail that was cut off is dropped.
pub(super) fn parse(bytes: &[u8]) -> Result<(Vec<JournalEntry>, u64), Damage> {
    // A power cut can leave a tail of blocks that were reserved but never written. No line holds a zero byte.
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let bytes = &bytes[..written];
    if bytes.len() < MAGIC.len() && MAGIC.starts_with(bytes) {
        return Ok((Vec::new(), 0));
    }
    if !bytes.starts_with(MAGIC) {
        let reason = "it is not the first line of a kutover journal".to_owned();
        return Err(Damage { place: Place::Magic, reason });
    }
    let mut entries = Vec::new();
    let mut term = Term::default();
    let mut at = MAGIC.len();
    while at < bytes.len() {
        let index = entries.len() as u64;
        let damage = |reason: String| Damage { place: Place::Entry(index), reason };
        let (body, length) = match step(&bytes[at..]).map_err(|reason| damage(reason.to_owned()))? {
            Step::Whole(body, length) => (body, length),
            Step::CutOff => break,
        };
        let entry: JournalEntry =
            serde_json::from_slice(body).map_err(|error| damage(format!("it makes no sense ({error})")))?;
        if entry.index != index {
            return Err(damage(format!("entry {} stands in its place", entry.index)));
        }
        if entry.term < term {
            return Err(damage(format!("its term {} is below {term}, which wrote before it", entry.term)));
        }
        term = entry.term;
        entries.push(entry);
        at += length;
    }
    Ok((entries, at as u64))
}

fn step(rest: &[u8]) -> Result<Step<'_>, &'static str> {
    let Some(header) = rest.get(..HEADER) else {
        // A writer that was cut off leaves no end of line.
        return if rest.contains(&b'\n') { Err("its header is damaged") } else { Ok(Step::CutOff) };
    };
    let check = number(&header[CHECKED..HEADER]).ok_or("its header is damaged")?;
    if crc32fast::hash(&header[..CHECKED]) != check {
        return Err("its header is damaged");
    }
    let length = number(&header[..9]).ok_or("its header is damaged")? as usize;
    let body_check = number(&header[9..CHECKED]).ok_or("its header is damaged")?;
    let whole = HEADER + length + 1;
    let Some(line) = rest.get(..whole) else { return Ok(Step::CutOff) };
    let body = &line[HEADER..HEADER + length];
    if crc32fast::hash(body) != body_check {
        return Err("its checksum does not match");
    }
    if line.last() != Some(&b'\n') {
        return Err("its end of line is damaged");
    }
    Ok(Step::Whole(body, whole))
}

/// Eight lower-case hexadecimal digits and a space.
fn number(field: &[u8]) -> Option<u32> {
    let digits = field.strip_suffix(b" ")?;
    let plain = digits.len() == 8 && digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    u32::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| plain)?, 16).ok()
}
