//! Points in time and spans as people write them, in ISO 8601. Pure. Where no offset is given, a
//! time is in UTC, as Kafka's tools have it; what is printed is in UTC.

use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanTotal, Timestamp, Unit};

use crate::base::clock::TimestampMs;

/// Reads a point in time: a date, a date and time with or without an offset, milliseconds since
/// the epoch, or how long ago.
pub(super) fn parse_point(text: &str) -> Result<TimestampMs, String> {
    if let Ok(milliseconds) = text.parse::<i64>()
        && milliseconds >= 0
    {
        return Ok(milliseconds);
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago = parse_span(ago)?.as_millis();
        let now = now_ms();
        return Ok(now
            .saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
            .max(0));
    }
    parse_datetime(text).ok_or_else(|| {
        format!(
            "'{text}' is no time: it is written 2026-01-31T08:30:00Z, 2026-01-31, as milliseconds \
             since 1970, or -1h for an hour ago"
        )
    })
}

/// Reads a date, or a date and time with or without an offset.
fn parse_datetime(text: &str) -> Option<TimestampMs> {
    let in_utc = |time: DateTime| {
        time.to_zoned(TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp())
    };
    let point = text.parse::<Timestamp>().ok();
    let point = point.or_else(|| text.parse::<DateTime>().ok().and_then(in_utc));
    let point = point.or_else(|| text.parse::<Date>().ok().and_then(|day| in_utc(day.into())));
    point.map(Timestamp::as_millisecond)
}

/// Reads a span: `90s`, `15m`, `1h30m`, `7d`, or as ISO 8601 has it, `P7DT0H0M0S`. A day has 24
/// hours.
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("'{text}' is no length of time: it is written 90s, 15m, 1h30m, 7d or P7D");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let whole = SpanTotal::from(Unit::Nanosecond).days_are_24_hours();
    let nanoseconds = span.total(whole).map_err(|_| wrong())?;
    let duration = SignedDuration::try_from_secs_f64(nanoseconds / 1e9).map_err(|_| wrong())?;
    Duration::try_from(duration).map_err(|_| wrong())
}

/// Writes a point in time to the millisecond; the number itself where it is out of any calendar.
pub(super) fn show_point(at: TimestampMs) -> String {
    match Timestamp::from_millisecond(at) {
        Ok(point) => format!("{point:.3}"),
        Err(_) => at.to_string(),
    }
}

/// The time now.
pub(super) fn now_ms() -> TimestampMs {
    Timestamp::now().as_millisecond()
}
