//! Which partition an event goes to: by the hash of its key that Kafka's own clients use, so that whoever knows the key and
//! the number of partitions knows the partition.

use taskpost_common::{Envelope, event::Topic};

use super::record;

/// Topic and partition of an event, by how many partitions each topic has.
pub(super) fn place(event: &Envelope, partitions: impl Fn(Topic) -> Option<i32>) -> Option<(Topic, i32)> {
    let topic = record::topic(event);
    let key = key(event);
    partitions(topic).and_then(|count| partition(key.as_bytes(), count)).map(|partition| (topic, partition))
}

/// The key of an event's record.
pub(super) fn key(event: &Envelope) -> String {
    event.aggregate_id.to_string()
}

/// As `partitioner=murmur2_random` of librdkafka and the default of Java.
fn partition(key: &[u8], count: i32) -> Option<i32> {
    let hash = i32::try_from(murmur2(key) & 0x7fff_ffff).ok()?;
    hash.checked_rem(count)
}

/// MurmurHash2 with 32 bits and Kafka's seed.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let mut words = key.chunks_exact(4);
    for word in words.by_ref() {
        let mut k = word.iter().rev().fold(0, |k, byte| (k << 8) | u32::from(*byte)).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |k, byte| (k << 8) | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Kafka's own test of its hash.
    #[test]
    fn it_is_the_hash_of_kafkas_clients() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert_eq!(partition(b"abc", 0), None);
    }
}
