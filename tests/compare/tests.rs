//! The comparison itself: what it takes for the same, and that nothing else passes for it.

use crate::explained::{self, Difference};
use crate::expression::{Expression, Scope};
use crate::message;
use crate::run::{Answer, fields};
use crate::script::{self, Action};
use crate::symbols::Symbols;
use crate::value::Value;

const ONE: &str = "compat-11111111-2222-3333-4444-555555555555";
const OTHER: &str = "compat-66666666-7777-8888-9999-000000000000";

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn member(id: &str) -> Value {
    fields(&[("MemberId", text(id)), ("Metadata", Value::Bytes(vec![1]))])
}

/// A JoinGroup answer with these members, the first of them the leader.
fn joined(own: &str, members: &[&str]) -> Value {
    fields(&[
        ("ErrorCode", Value::Number(0)),
        ("Leader", text(members[0])),
        ("MemberId", text(own)),
        (
            "Members",
            Value::List(members.iter().map(|id| member(id)).collect()),
        ),
    ])
}

fn symbols() -> Symbols {
    Symbols::new(19092, "cluster-of-its-own", "name-3-")
}

/// How the answers of two brokers differ, each a series in one conversation.
fn compared(api: &str, kafkas: &[Value], ours: &[Value]) -> Vec<(String, String, String)> {
    let (mut theirs, mut own) = (symbols(), symbols());
    let request = Value::Null;
    let pairs = kafkas.iter().zip(ours);
    pairs
        .flat_map(|(kafka, ours)| {
            let kafka = theirs.comparable(api, &request, kafka);
            kafka.differences(&own.comparable(api, &request, ours))
        })
        .collect()
}

#[test]
fn ids_of_their_own_are_compared_by_what_they_stand_for() {
    let kafkas = [joined(ONE, &[ONE]), joined(OTHER, &[ONE])];
    let ours = [joined(OTHER, &[OTHER]), joined(ONE, &[OTHER])];
    assert_eq!(compared("JoinGroup", &kafkas, &ours), []);
    // The second member is told that it leads: nothing but the id says so.
    let wrong = [joined(OTHER, &[OTHER]), joined(ONE, &[ONE])];
    let found = compared("JoinGroup", &kafkas, &wrong);
    let paths: Vec<_> = found.iter().map(|(path, ..)| &**path).collect();
    assert_eq!(paths, ["Leader", "Members[0].MemberId"]);
}

#[test]
fn every_difference_is_found() {
    let kafka = [joined(ONE, &[ONE, OTHER])];
    let change = |path: &str, value: Value| {
        let mut answer = joined(ONE, &[ONE, OTHER]);
        if let Value::Struct(fields) = &mut answer {
            let field = fields.iter_mut().find(|(name, _)| name == path);
            field.expect("a field").1 = value;
        }
        compared("JoinGroup", &kafka, &[answer])
    };
    assert_eq!(change("ErrorCode", Value::Number(0)), []);
    let differs = |field: &str, kafka: &str, ours: &str| {
        vec![(field.to_owned(), kafka.to_owned(), ours.to_owned())]
    };
    let found = change("ErrorCode", Value::Number(27));
    assert_eq!(found, differs("ErrorCode", "0", "27"));
    let found = change("Leader", text(""));
    assert_eq!(found, differs("Leader", "\"compat-{id 1}\"", "\"\""));
    let found = change("Leader", Value::Null);
    assert_eq!(found, differs("Leader", "\"compat-{id 1}\"", "null"));
    let found = change("Members", Value::List(vec![member(ONE)]));
    assert_eq!(found, differs("Members.length", "2", "1"));
    let found = compared("JoinGroup", &kafka, &[fields(&[])]);
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(found[0].2, "(absent)");
}

#[test]
fn only_what_has_no_order_may_be_in_any() {
    let groups = |names: &[&str]| {
        let groups = names.iter().map(|name| fields(&[("GroupId", text(name))]));
        [fields(&[("Groups", Value::List(groups.collect()))])]
    };
    let (one, other) = (
        groups(&["name-3-a", "name-3-b", "of-another-conversation"]),
        groups(&["name-3-b", "name-3-a"]),
    );
    assert_eq!(compared("ListGroups", &one, &other), []);
    assert_eq!(compared("OffsetFetch", &one, &other).len(), 3);
    let other = groups(&["name-3-b", "name-3-c"]);
    assert_eq!(compared("ListGroups", &one, &other).len(), 2);
}

#[test]
fn what_a_broker_chooses_has_a_symbol() {
    let answer = fields(&[
        ("Port", Value::Number(19092)),
        ("Id", Value::Uuid([7; 16])),
        (
            "Text",
            text("BwcHBwcHBwcHBwcHBwcHBw of name-3-t on 127.0.0.1:19092"),
        ),
        ("None", Value::Uuid([0; 16])),
        ("Cluster", text("cluster-of-its-own")),
    ]);
    let shown = symbols().comparable("Metadata", &Value::Null, &answer);
    assert_eq!(
        shown.to_string(),
        "{Port: \"{port}\", Id: \"{uuid 1}\", Text: \"{uuid 1} of @t on 127.0.0.1:{port}\", \
         None: \"AAAAAAAAAAAAAAAAAAAAAA\", Cluster: \"{cluster}\"}"
    );
}

fn difference(field: &str, kafka: &str, ours: &str) -> Difference {
    let answer = Answer {
        place: "here:1".to_owned(),
        api: "Produce".to_owned(),
        version: 9,
        request: Value::Null,
        answer: Value::Null,
    };
    let one = fields(&[("List", Value::List(vec![fields(&[(field, text(kafka))])]))]);
    let other = fields(&[("List", Value::List(vec![fields(&[(field, text(ours))])]))]);
    let mut found = explained::differences("produce-null", &answer, &one, &other);
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[test]
fn a_row_explains_what_it_says_and_no_more() {
    let rows = |cells: &str| explained::parse(&cells.replace('|', "\t"));
    let found = difference("Field", "one", "other");
    for (row, explains) in [
        (
            "produce-null|Produce 8-9|List[].Field|\"one\"|\"other\"|Why.",
            true,
        ),
        ("produce-*|Produce|*.Field|\"*|*\"|Why.", true),
        ("produce|Produce|List[].Field|\"one\"|\"other\"|Why.", false),
        (
            "produce-null|Fetch|List[].Field|\"one\"|\"other\"|Why.",
            false,
        ),
        (
            "produce-null|Produce 3-8|List[].Field|\"one\"|\"other\"|Why.",
            false,
        ),
        (
            "produce-null|Produce|List[].Fiel|\"one\"|\"other\"|Why.",
            false,
        ),
        (
            "produce-null|Produce|List[].Field|\"on\"|\"other\"|Why.",
            false,
        ),
        ("produce-null|Produce|List[].Field|\"one\"|null|Why.", false),
    ] {
        let rows = rows(row).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(rows[0].explains(&found), explains, "{row}");
    }
    assert!(rows("a|b|c|d|e").is_err(), "a cell is missing");
    assert!(rows("a|b|c|d|e|").is_err(), "no reason");
    assert!(rows("a|b x|c|d|e|f").is_err(), "no version");
}

#[test]
fn a_script_says_what_is_asked() {
    let text = "default Heartbeat {GroupId: \"@g\"}\n\
                conversation life # of a member\n\
                versions Heartbeat 2-4, LeaveGroup 4-5\n\
                topic t 3 cleanup.policy = \"compact\"\n\
                a> Heartbeat {MemberId: $join.MemberId,\n\
                  GenerationId: -1} as beat\n\
                a? 50\n\
                a<\n";
    let conversations = script::parse("file", text).unwrap_or_else(|error| panic!("{error}"));
    let conversation = &conversations[0];
    assert_eq!((conversation.variants(), conversation.steps.len()), (3, 4));
    let versions = |api: &str| [0, 1, 2].map(|variant| conversation.version(api, variant));
    assert_eq!(versions("Heartbeat"), [2, 3, 4]);
    assert_eq!(versions("LeaveGroup"), [4, 4, 5]);
    assert_eq!(versions("InitProducerId"), [5; 3], "the last stable one");
    let Action::Request { request, .. } = &conversation.steps[1].action else {
        panic!("a request is parked");
    };
    assert_eq!(conversation.steps[1].place, "file:5");
    let script::Body::Fields(body) = &request.body else {
        panic!("a request of fields");
    };
    let answers = [("join".to_owned(), joined(ONE, &[ONE]))].into();
    let scope = Scope {
        prefix: "life-2-".to_owned(),
        answers,
    };
    let value = body
        .resolve(&scope)
        .unwrap_or_else(|error| panic!("{error}"));
    let expected = format!("{{MemberId: {ONE:?}, GenerationId: -1, GroupId: \"life-2-g\"}}");
    assert_eq!(value.to_string(), expected);
    for wrong in [
        "a: Heartbeat {}",
        "conversation x\na Heartbeat {}",
        "conversation x\nwithin soon",
    ] {
        assert!(script::parse("file", wrong).is_err(), "{wrong}");
    }
    let unknown = Expression::Variable {
        name: "nobody".to_owned(),
        path: "MemberId".to_owned(),
    };
    assert!(unknown.resolve(&scope).is_err());
}

#[test]
fn requests_and_answers_go_by_their_formats() {
    let named = fields(&[("GroupId", text("g")), ("NoSuchField", Value::Null)]);
    assert!(message::encode("Heartbeat", 4, &named).is_err());
    let null = fields(&[("GroupId", Value::Null)]);
    assert!(message::encode("Heartbeat", 4, &null).is_err());
    let known = fields(&[("GroupId", text("g")), ("GenerationId", Value::Number(-2))]);
    let plain = message::encode("Heartbeat", 0, &known).expect("a request");
    assert_eq!(plain, [0, 1, b'g', 0xff, 0xff, 0xff, 0xfe, 0, 0]);
    let flexible = message::encode("Heartbeat", 4, &known).expect("a request");
    assert_eq!(flexible, [2, b'g', 0xff, 0xff, 0xff, 0xfe, 1, 0, 0]);
    let answer = message::decode("Heartbeat", 4, &[0, 0, 0, 0, 0, 27, 0]);
    let expected = "{ThrottleTimeMs: 0, ErrorCode: 27}";
    assert_eq!(answer.expect("an answer").to_string(), expected);
    for wrong in [&[0, 0, 0, 0, 0, 27][..], &[0, 0, 0, 0, 0, 27, 0, 0]] {
        assert!(message::decode("Heartbeat", 4, wrong).is_err(), "{wrong:?}");
    }
}
