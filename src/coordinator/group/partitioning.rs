//! Which partition of `__consumer_offsets` a group lives in. Pure; any shard.
//!
//! Kafka's `partitionFor`: Java's hash of the group's id, so that groups are found where another
//! broker has put them.

use crate::base::ids::PartitionIndex;

/// The partition of `group` among `partitions_count`, which never changes once the topic exists.
/// `None` if there are none.
pub fn partition_of(group: &str, partitions_count: usize) -> Option<PartitionIndex> {
    let partitions_count = i32::try_from(partitions_count).ok()?;
    // The one number whose absolute value does not exist counts as 0 (Kafka's `Utils.abs`).
    let hash = java_hash(group).checked_abs().unwrap_or(0);
    hash.checked_rem(partitions_count).map(PartitionIndex)
}

/// `String.hashCode` of Java, over UTF-16 units.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(unit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_where_kafka_puts_them() {
        // Made with Kafka 4.3.1.
        let rows = [
            ("", 0, 0, 0),
            ("a", 97, 47, 1),
            ("group", 98_629_247, 47, 2),
            ("my-group", -1_906_497_762, 12, 0),
            ("console-consumer-12345", 158_455_506, 6, 0),
            ("connect-sink", 1_867_811_222, 22, 2),
            ("é", 233, 33, 2),
            ("日本", 835_047, 47, 0),
            ("😀", 1_772_899, 49, 1),
            ("polygenelubricants", i32::MIN, 0, 0),
        ];
        for (group, hash, of_50, of_3) in rows {
            assert_eq!(java_hash(group), hash, "{group}");
            for (count, partition) in [(50, of_50), (3, of_3)] {
                let found = partition_of(group, count);
                assert_eq!(found, Some(PartitionIndex(partition)), "{group}");
            }
            // A record of the metadata log may name a topic and no partition of it.
            assert_eq!(partition_of(group, 0), None);
        }
    }
}
