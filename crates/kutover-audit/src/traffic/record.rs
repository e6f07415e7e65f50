//! The record that the traffic is made of: small, of a fixed size, and telling who sent it and when in that sender's life.

use rand::Rng;

/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 100;
/// Keys that each instance uses. A key belongs to one instance, so that its order is that instance's to keep.
const KEYS_PER_INSTANCE: u16 = 32;

const MAGIC: [u8; 4] = *b"KTV1";
const HEADER_BYTES: usize = 24;

/// Who sent a record, and as its how-manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The producer's number, from 0.
    pub instance: u16,
    /// Which of its records, from 0, without gaps.
    pub seq: u64,
}

/// One record of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficRecord {
    /// Who sent it.
    pub id: RecordId,
    /// The instance's key that it carries.
    pub key: u16,
    /// The run it belongs to.
    pub run: u64,
}

impl TrafficRecord {
    /// A record with a key drawn at random.
    pub fn draw(id: RecordId, run: u64, rng: &mut impl Rng) -> Self {
        Self { id, key: rng.random_range(0..KEYS_PER_INSTANCE), run }
    }

    /// The key as it is sent.
    pub fn key_text(&self) -> String {
        format!("p{}-k{}", self.id.instance, self.key)
    }

    /// The payload as it is sent.
    pub fn payload(&self) -> [u8; PAYLOAD_BYTES] {
        let mut bytes = [0; PAYLOAD_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&self.id.instance.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.key.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.id.seq.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.run.to_be_bytes());
        for (place, byte) in bytes[HEADER_BYTES..].iter_mut().enumerate() {
            *byte = filler(self.id.seq, place);
        }
        bytes
    }

    /// Reads a payload back; `None` if it is not one of ours, or was damaged.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; PAYLOAD_BYTES] = bytes.try_into().ok()?;
        if bytes[0..4] != MAGIC {
            return None;
        }
        let short = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| Some(u64::from_be_bytes(bytes[at..at + 8].try_into().ok()?));
        let record =
            Self { id: RecordId { instance: short(4), seq: long(8)? }, key: short(6), run: long(16)? };
        (record.payload() == *bytes).then_some(record)
    }
}

/// What stands at a place of the filler: depends on the record, so that a mixed-up payload is noticed.
fn filler(seq: u64, place: usize) -> u8 {
    (seq.wrapping_add(place as u64) & 0xff) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_read_back_and_damage_is_seen() {
        let record = TrafficRecord { id: RecordId { instance: 7, seq: 1 << 40 }, key: 31, run: 99 };
        let payload = record.payload();
        assert_eq!(TrafficRecord::parse(&payload), Some(record));
        for place in 0..PAYLOAD_BYTES {
            let mut damaged = payload;
            damaged[place] ^= 1;
            assert_ne!(TrafficRecord::parse(&damaged), Some(record), "byte {place}");
        }
        assert_eq!(TrafficRecord::parse(b"hello"), None);
    }
}
