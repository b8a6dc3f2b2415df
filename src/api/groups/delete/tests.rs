//! What is deleted, and in which order it is answered.

use super::*;
use crate::api::metadata::fixtures::Cluster;
use crate::protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::protocol::wire::Message;

fn request(topics: &[(&str, &[i32])]) -> OffsetDeleteRequest {
    let topic = |(name, partitions): &(&str, &[i32])| OffsetDeleteRequestTopic {
        name: (*name).into(),
        partitions: partitions
            .iter()
            .map(|index| OffsetDeleteRequestPartition {
                partition_index: *index,
            })
            .collect(),
    };
    let request = OffsetDeleteRequest {
        group_id: "g".into(),
        topics: topics.iter().map(topic).collect(),
    };
    let bytes = request.to_bytes(0).expect("it can be sent");
    OffsetDeleteRequest::from_bytes(bytes, 0).expect("it can be read")
}

fn rows(response: &OffsetDeleteResponse) -> Vec<(String, Vec<(i32, i16)>)> {
    let row = |topic: &OffsetDeleteResponseTopic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|each| (each.partition_index, each.error_code));
        (topic.name.to_string(), partitions.collect())
    };
    response.topics.iter().map(row).collect()
}

#[test]
fn what_does_not_exist_is_answered_first() {
    let cluster = Cluster::new();
    let topics: [(&str, &[i32]); 3] = [("b", &[0]), ("abc", &[1, 5]), ("unknown", &[0])];
    let (command, pending) = delete_offsets(request(&topics), &cluster.image);
    let asked = command.partitions.iter();
    let asked: Vec<_> = asked.map(|each| (&*each.topic, each.partition)).collect();
    assert_eq!((&*command.group, asked), ("g", vec![("b", 0), ("abc", 1)]));

    let response = pending.respond(Ok(vec![Ok(()), Err(GroupError::GroupSubscribedToTopic)]));
    assert_eq!(response.error_code, 0);
    let expected = [
        ("abc".to_owned(), vec![(5, 3), (1, 86)]),
        ("unknown".to_owned(), vec![(0, 3)]),
        ("b".to_owned(), vec![(0, 0)]),
    ];
    assert_eq!(rows(&response), expected);
    assert!(response.to_bytes(0).is_ok());
}

#[test]
fn an_error_of_the_whole_leaves_no_topics() {
    let cluster = Cluster::new();
    for topics in [vec![], vec![("unknown", &[0][..])], vec![("b", &[0][..])]] {
        let (_, pending) = delete_offsets(request(&topics), &cluster.image);
        let response = pending.respond(Err(GroupError::NonEmptyGroup));
        assert_eq!((response.error_code, response.topics.len()), (68, 0));
    }
}

#[test]
fn a_group_is_deleted_once() {
    for version in DeleteGroupsRequest::VERSIONS {
        let request = DeleteGroupsRequest {
            groups_names: ["b", "a", "b", "", "a"].map(ByteString::from).to_vec(),
        };
        let bytes = request.to_bytes(version).expect("it can be sent");
        let request = DeleteGroupsRequest::from_bytes(bytes, version).expect("it can be read");
        let groups = delete_groups(request);
        assert_eq!(groups, ["b", "a", ""], "version {version}");

        let not_empty = Err(GroupError::NonEmptyGroup);
        let results = [Ok(()), not_empty, Err(GroupError::GroupIdNotFound)];
        let response = groups_deleted(groups.into_iter().zip(results));
        let bytes = response.to_bytes(version).expect("it can be sent");
        let response = DeleteGroupsResponse::from_bytes(bytes, version).expect("it can be read");
        let results = response.results.iter();
        let results: Vec<_> = results
            .map(|each| (&*each.group_id, each.error_code))
            .collect();
        assert_eq!(
            results,
            [("b", 0), ("a", 68), ("", 69)],
            "version {version}"
        );
    }
}
