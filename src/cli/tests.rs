//! What the commands parse and print, without a broker.

use std::time::Duration;

use rdkafka::Timestamp;
use rdkafka::message::OwnedMessage;

use super::consume::format::Format;
use super::native::Header;
use super::output::{Table, counted};
use super::record::{Data, RecordToProduce};
use super::time::{now_ms, parse_point, parse_span, show_point};

#[test]
fn points_in_time_are_read_as_people_and_kafkas_tools_write_them() {
    let table = [
        ("0", 0),
        ("1700000000000", 1_700_000_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T22:13:20.123Z", 1_700_000_000_123),
        ("2023-11-14T22:13:20.123", 1_700_000_000_123),
        ("2023-11-14 22:13:20", 1_700_000_000_000),
        ("2023-11-15T00:13:20+02:00", 1_700_000_000_000),
        ("2023-11-14T16:43:20-05:30", 1_700_000_000_000),
        ("2023-11-14", 1_699_920_000_000),
        ("1970-01-01", 0),
    ];
    for (text, expected) in table {
        assert_eq!(parse_point(text), Ok(expected), "{text}");
    }
    for text in [
        "",
        "soon",
        "2023-13-01",
        "2023-02-29",
        "25:00",
        "-",
        "-x",
        "1h",
    ] {
        let told = parse_point(text).expect_err(text);
        assert!(told.contains("it is written"), "{text}: {told}");
    }
    let ago = now_ms() - parse_point("-90m").expect("a span");
    assert!((5_400_000..5_460_000).contains(&ago), "{ago}");
    assert_eq!(
        parse_point("-9999999h"),
        Ok(0),
        "before 1970 is its beginning"
    );
}

#[test]
fn spans_are_read_in_both_notations() {
    let table = [
        ("0s", 0),
        ("500ms", 500),
        ("90s", 90_000),
        ("15m", 900_000),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("P7D", 604_800_000),
        ("P7DT0H0M0S", 604_800_000),
        ("PT1H30M", 5_400_000),
        ("P1W", 604_800_000),
    ];
    for (text, expected) in table {
        assert_eq!(
            parse_span(text),
            Ok(Duration::from_millis(expected)),
            "{text}"
        );
    }
    for text in ["", "soon", "5", "-1h", "-PT1H", "P1M", "1y"] {
        let told = parse_span(text).expect_err(text);
        assert!(told.contains("P7D"), "{text}: {told}");
    }
}

#[test]
fn points_in_time_are_shown_to_the_millisecond() {
    assert_eq!(show_point(1_700_000_000_120), "2023-11-14T22:13:20.120Z");
    assert_eq!(show_point(-1), "1969-12-31T23:59:59.999Z");
    assert_eq!(show_point(i64::MAX), i64::MAX.to_string());
}

#[test]
fn a_format_prints_what_kcats_would() {
    let message = |key: Option<&[u8]>, value: Option<&[u8]>| {
        let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
        OwnedMessage::new(value, key, "t".into(), Timestamp::CreateTime(5), 3, 7, None)
    };
    let full = message(Some(b"k"), Some(b"v\xFF"));
    let empty = message(None, None);
    let headers: [Header<'_>; 2] = [(b"a\xFF", Some(b"1")), (b"b", None)];
    let table: [(&str, &[u8], &[u8]); 8] = [
        ("%s", b"v\xFF", b""),
        ("%k=%s\\n", b"k=v\xFF\n", b"=\n"),
        ("%t %p %o %T", b"t 3 7 5", b"t 3 7 5"),
        ("%S %K", b"2 1", b"-1 -1"),
        ("%h", b"a\xFF=1,b=NULL", b""),
        (
            "100%%\\t\\\\\\x1f\\0|",
            b"100%\t\\\x1f\0|",
            b"100%\t\\\x1f\0|",
        ),
        (
            "\u{e4}\u{1f600}%p",
            "\u{e4}\u{1f600}3".as_bytes(),
            "\u{e4}\u{1f600}3".as_bytes(),
        ),
        ("", b"", b""),
    ];
    for (format, of_full, of_empty) in table {
        let parsed: Format = format.parse().expect(format);
        for (message, headers, expected) in [
            (&full, headers.to_vec(), of_full),
            (&empty, Vec::new(), of_empty),
        ] {
            let mut out = Vec::new();
            parsed.write(message, |_| headers.clone(), &mut out);
            assert_eq!(out, expected, "{format}");
        }
    }
    for wrong in ["%", "%q", "\\", "\\q", "\\x", "\\xg1"] {
        wrong.parse::<Format>().expect_err(wrong);
    }
}

#[test]
fn a_table_is_as_wide_as_its_cells_and_numbers_stand_to_the_right() {
    let mut table = Table::new(&["NAME", "COUNT", "NOTE"]);
    table.row(vec!["a".into(), "5".into(), "x".into()]);
    table.row(vec![
        "l\u{e4}nger".into(),
        "-12345678".into(),
        String::new(),
    ]);
    let expected = [
        "NAME        COUNT  NOTE",
        "a               5  x",
        "l\u{e4}nger  -12345678  -",
    ];
    assert_eq!(table.lines(), expected);
    assert_eq!(Table::new(&["A", "B"]).lines(), ["A  B"]);
    let mut table = Table::new(&["A", "B"]);
    table.row(vec!["a b\tc\n".into(), "\u{1b}[31mred\u{a0}".into()]);
    let shown = "a\\x20b\\tc\\n  \\u{1b}[31mred\\u{a0}";
    assert_eq!(table.lines()[1], shown, "each cell is a word");
    assert_eq!(
        [counted(0, "x"), counted(1, "x"), counted(2, "x")],
        ["0 xs", "1 x", "2 xs"]
    );
}

#[test]
fn bytes_survive_json_whatever_they_are() {
    for bytes in [
        &b""[..],
        b"text",
        "\u{e4}\"\\\n".as_bytes(),
        b"\xFF\x00",
        b"{\"base64\":\"\"}",
    ] {
        let line = serde_json::json!({ "value": Data::new(bytes) }).to_string();
        let read: RecordToProduce = serde_json::from_str(&line).expect(&line);
        let value = read.value.expect("a value").into_bytes();
        assert_eq!(value.as_deref(), Ok(bytes), "{line}");
    }
    for wrong in [
        "{}",
        "{\"value\":1}",
        "{\"value\":\"v\",\"kye\":\"k\"}",
        "{\"value\":{\"base46\":\"\"}}",
        "{\"value\":\"v\",\"headers\":{\"a\":\"1\"}}",
        "[]",
        "",
    ] {
        serde_json::from_str::<RecordToProduce>(wrong).expect_err(wrong);
    }
    let wrong: RecordToProduce =
        serde_json::from_str("{\"value\":{\"base64\":\"*\"}}").expect("an object");
    wrong
        .value
        .expect("a value")
        .into_bytes()
        .expect_err("not base64");
}

#[test]
fn a_wrong_record_is_told_with_its_field_and_column() {
    let data = "it is a string, null, or {\"base64\": \"...\"}";
    for (line, expected) in [
        (
            "{\"value\":{\"a\":1}}",
            format!("value: {data} (column 17)"),
        ),
        (
            "{\"value\":\"v\",\"key\":1}",
            format!("key: {data} (column 21)"),
        ),
        (
            "{\"value\":\"v\",\"headers\":[[\"a\",1]]}",
            format!("headers: {data} (column 31)"),
        ),
        (
            "{\"value\":\"v\",\"partition\":\"0\"}",
            "partition: invalid type: string \"0\", expected i32 (column 28)".to_owned(),
        ),
        (
            "{\"value\":\"v\",\"kye\":1}",
            "unknown field `kye`, expected one of `topic`, `offset`, `key`, `value`, `headers`, \
             `timestamp`, `partition` (column 18)"
                .to_owned(),
        ),
        ("{}", "missing field `value` (column 2)".to_owned()),
        (
            "{\"value\":\"v",
            "value: EOF while parsing a string (column 11)".to_owned(),
        ),
        ("{\"value\" 1}", "expected `:` (column 10)".to_owned()),
    ] {
        let told = RecordToProduce::read(line.as_bytes()).expect_err(line);
        assert_eq!(told, expected, "{line}");
    }
}
