//! Requests about groups and the offsets that they commit.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use millrace::protocol::frame::Frame;
use millrace::protocol::messages::delete_groups_request::DeleteGroupsRequest;
use millrace::protocol::messages::describe_groups_request::DescribeGroupsRequest;
use millrace::protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use millrace::protocol::messages::heartbeat_request::HeartbeatRequest;
use millrace::protocol::messages::join_group_request::{
    JoinGroupRequest, JoinGroupRequestProtocol,
};
use millrace::protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use millrace::protocol::messages::list_groups_request::ListGroupsRequest;
use millrace::protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millrace::protocol::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use millrace::protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use millrace::protocol::messages::sync_group_request::{
    SyncGroupRequest, SyncGroupRequestAssignment,
};

use super::{Maker, TOPICS};

impl Maker<'_> {
    /// A member that is known, or one that is not, with its generation.
    fn member(&mut self) -> (ByteString, i32) {
        let known = &self.known.members;
        let latest = known.len() - 1;
        match self.choices.byte() {
            0..=200 => known[latest].clone(),
            201..=220 => known[self.choices.below(known.len())].clone(),
            _ => (self.text(), self.choices.number32()),
        }
    }

    pub(super) fn find_coordinator(&mut self) -> Option<Frame> {
        let key_type = self.choices.pick(&[0, 0, 0, 0, 0, 1, 2, -1]);
        let mut request = FindCoordinatorRequest {
            key_type: self.since(1, key_type),
            ..FindCoordinatorRequest::default()
        };
        if self.version < 4 {
            request.key = self.group();
        } else {
            request.coordinator_keys = self.some(Self::group);
        }
        self.frame(&request)
    }

    pub(super) fn join_group(&mut self) -> Option<Frame> {
        let group_id = self.group();
        let member_id = match self.choices.flag() {
            false => self.member().0,
            true => ByteString::new(),
        };
        let instance = self.instance();
        let request = JoinGroupRequest {
            group_id,
            session_timeout_ms: match self.choices.one_in(8) {
                true => self.choices.number32(),
                false => 10_000,
            },
            rebalance_timeout_ms: match self.choices.one_in(8) {
                true => self.choices.number32(),
                false => i32::from(self.choices.byte()),
            },
            member_id,
            group_instance_id: self.since(5, instance),
            protocol_type: match self.choices.byte() {
                0..=220 => ByteString::from_static("consumer"),
                _ => self.text(),
            },
            protocols: self.some(|it| JoinGroupRequestProtocol {
                name: it
                    .choices
                    .pick(&["range", "roundrobin", "range", ""])
                    .into(),
                metadata: it.subscription(),
            }),
            reason: Some(self.text()),
        };
        self.frame(&request)
    }

    /// What a consumer says of itself, or anything at all.
    fn subscription(&mut self) -> Bytes {
        if self.choices.one_in(8) {
            return self.bytes();
        }
        let mut bytes = BytesMut::new();
        bytes.put_i16(i16::from(self.choices.byte() % 4));
        let topic = self.choices.pick(&TOPICS[..2]);
        bytes.put_i32(1);
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
        bytes.put_i32(-1);
        bytes.freeze()
    }

    pub(super) fn sync_group(&mut self) -> Option<Frame> {
        let (group_id, (member_id, generation_id)) = (self.group(), self.member());
        let instance = self.instance();
        let (kind, name) = (self.choices.one_in(8), self.choices.one_in(8));
        let request = SyncGroupRequest {
            group_id,
            generation_id,
            assignments: self.some(|it| SyncGroupRequestAssignment {
                member_id: it.member().0,
                assignment: it.bytes(),
            }),
            member_id,
            group_instance_id: self.since(3, instance),
            protocol_type: Some(if kind { self.text() } else { "consumer".into() }),
            protocol_name: Some(if name { self.text() } else { "range".into() }),
        };
        self.frame(&request)
    }

    pub(super) fn heartbeat(&mut self) -> Option<Frame> {
        let (group_id, (member_id, generation_id)) = (self.group(), self.member());
        let instance = self.instance();
        let request = HeartbeatRequest {
            group_id,
            generation_id,
            member_id,
            group_instance_id: self.since(3, instance),
        };
        self.frame(&request)
    }

    pub(super) fn leave_group(&mut self) -> Option<Frame> {
        let mut request = LeaveGroupRequest {
            group_id: self.group(),
            ..LeaveGroupRequest::default()
        };
        if self.version < 3 {
            request.member_id = self.member().0;
        } else {
            request.members = self.some(|it| MemberIdentity {
                member_id: it.member().0,
                group_instance_id: it.instance(),
                reason: Some(it.text()),
            });
        }
        self.frame(&request)
    }

    pub(super) fn offset_commit(&mut self) -> Option<Frame> {
        let group_id = self.group();
        // Who is no member commits without a generation.
        let (member_id, generation) = match self.choices.flag() {
            false => self.member(),
            true => (ByteString::new(), -1),
        };
        let instance = self.instance();
        let request = OffsetCommitRequest {
            group_id,
            generation_id_or_member_epoch: generation,
            member_id,
            group_instance_id: self.since(7, instance),
            retention_time_ms: self.choices.number(),
            topics: self.some(|it| OffsetCommitRequestTopic {
                name: it.topic(),
                topic_id: it.topic_id(),
                partitions: it.some(|it| OffsetCommitRequestPartition {
                    partition_index: it.partition(),
                    committed_offset: it.choices.number(),
                    committed_leader_epoch: it.epoch(),
                    committed_metadata: it.choices.flag().then(|| it.text()),
                }),
            }),
        };
        self.frame(&request)
    }

    pub(super) fn offset_fetch(&mut self) -> Option<Frame> {
        let stable = self.choices.flag();
        let mut request = OffsetFetchRequest {
            require_stable: self.version >= 7 && stable,
            ..OffsetFetchRequest::default()
        };
        let is_all = self.version >= 2 && self.choices.flag();
        if self.version < 8 {
            request.group_id = self.group();
            let topics = self.some(|it| OffsetFetchRequestTopic {
                name: it.topic(),
                partition_indexes: it.some(Self::partition),
            });
            request.topics = (!is_all).then_some(topics);
        } else {
            request.groups = self.some(|it| {
                let (member_id, member_epoch) = it.member();
                let topics = it.some(|it| OffsetFetchRequestTopics {
                    name: it.topic(),
                    topic_id: it.topic_id(),
                    partition_indexes: it.some(Self::partition),
                });
                OffsetFetchRequestGroup {
                    group_id: it.group(),
                    member_id: it.choices.one_in(4).then_some(member_id),
                    member_epoch,
                    topics: (!is_all).then_some(topics),
                }
            });
        }
        self.frame(&request)
    }

    pub(super) fn offset_delete(&mut self) -> Option<Frame> {
        let request = OffsetDeleteRequest {
            group_id: self.group(),
            topics: self.some(|it| OffsetDeleteRequestTopic {
                name: it.topic(),
                partitions: it.some(|it| OffsetDeleteRequestPartition {
                    partition_index: it.partition(),
                }),
            }),
        };
        self.frame(&request)
    }

    pub(super) fn delete_groups(&mut self) -> Option<Frame> {
        let groups_names = self.some(Self::group);
        self.frame(&DeleteGroupsRequest { groups_names })
    }

    pub(super) fn describe_groups(&mut self) -> Option<Frame> {
        let operations = self.choices.flag();
        let request = DescribeGroupsRequest {
            groups: self.some(Self::group),
            include_authorized_operations: self.version >= 3 && operations,
        };
        self.frame(&request)
    }

    pub(super) fn list_groups(&mut self) -> Option<Frame> {
        let filters = [None, None, Some("Stable"), Some("classic"), Some("no such")];
        let (state, kind) = (self.choices.pick(&filters), self.choices.pick(&filters));
        let filter = |filter: Option<&'static str>| filter.into_iter().map(Into::into).collect();
        let (states, kinds) = (filter(state), filter(kind));
        let request = ListGroupsRequest {
            states_filter: self.since(4, states),
            types_filter: self.since(5, kinds),
        };
        self.frame(&request)
    }
}
