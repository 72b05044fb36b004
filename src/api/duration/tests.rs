use proptest::prelude::*;
use proptest::string::string_regex;

use super::*;

#[test]
fn rough_durations_use_the_unit_that_fits() {
    let texts = [0.0, 59.0, 60.0, 3_599.0, 3_600.0, 79_560.0, 172_799.0, 172_800.0, 864_000.0].map(rough);
    assert_eq!(texts, ["0 s", "59 s", "1 min", "59 min", "1.0 h", "22.1 h", "48.0 h", "2.0 d", "10.0 d"]);
}

#[test]
fn valid_durations_are_parsed() {
    for (text, millis) in [
        ("24h", 86_400_000),
        ("1h30m", 5_400_000),
        ("500ms", 500),
        ("1m1ms", 60_001),
        ("0s", 0),
        ("1h1h", 7_200_000),
        ("1d", 86_400_000),
        ("2d", 172_800_000),
        ("3d4h", 273_600_000),
        ("1d1ms", 86_400_001),
        ("0d0h", 0),
        ("9999d99999h99999m99999s99999ms", 1_230_010_038_999),
    ] {
        let duration: Duration = text.parse().unwrap();
        assert_eq!(duration.get().as_millis(), millis, "{text}");
        assert_eq!(duration.to_string(), text);
    }
    let longest: Duration = "99999h99999h99999h99999h".parse().unwrap();
    assert_eq!(longest.to_chrono(), LONGEST);
}

#[test]
fn invalid_durations_are_rejected() {
    for text in [
        "",
        "1h-5m",
        "-5m",
        "5",
        "h",
        "d",
        "1.5h",
        "1.5d",
        "4h3d",
        "1d2d",
        "1d1h1h",
        "1d1s1h",
        "1d5",
        "10000d",
        "-1d",
        "1D",
        "1dh",
        "1w",
        "Never",
        "123456s",
        "1h1h1h1h1h",
        " 1h",
        "1h ",
        "1d 1h",
        "1H",
        "١h",
        "١d",
        "1hms",
    ] {
        assert!(text.parse::<Duration>().is_err(), "{text:?}");
    }
}

#[test]
fn days_are_printed_from_two_on() {
    let texts = [24, 47, 48, 49, 72, 76, 2_160, 239_976, 339_975, 399_996].map(|h| format(hours(h)));
    let longest = "99999h99999h99999h99999h";
    assert_eq!(texts, ["24h", "47h", "2d", "2d1h", "3d", "3d4h", "90d", "9999d", "9999d99999h", longest]);
    assert_eq!(format(hours(48) + chrono::TimeDelta::milliseconds(1)), "2d1ms");
    assert_eq!(format(chrono::TimeDelta::MAX), longest);
    assert_eq!(format(chrono::TimeDelta::MIN), "0s");
}

#[test]
fn errors_echo_only_the_start_of_a_long_text() {
    let error = "x".repeat(10_000).parse::<Duration>().unwrap_err();
    assert!(error.to_string().len() < 300);
}

#[test]
fn the_chart_has_the_same_pattern() {
    let schema = include_str!("../../../charts/jobexec-operator/values.schema.json");
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    assert_eq!(schema["$defs"]["duration"]["pattern"], PATTERN);
}

fn hours(hours: i64) -> chrono::TimeDelta {
    chrono::TimeDelta::hours(hours)
}

proptest! {
    #[test]
    fn formatted_durations_can_be_parsed(millis in prop_oneof![
        0..=200_000_000_i64,
        0..=1_223_913_599_999_i64,
        1_223_913_600_000..=1_439_985_600_000_i64,
    ]) {
        let length = chrono::TimeDelta::milliseconds(millis);
        let again: Duration = format(length).parse().unwrap();
        if length < hours(339_976) {
            prop_assert_eq!(again.to_chrono(), length);
        } else {
            prop_assert!(again.to_chrono() <= length && length - again.to_chrono() < hours(1));
        }
    }

    #[test]
    fn what_the_schema_accepts_is_parsed(text in string_regex(&PATTERN.replace(['^', '$'], "")).unwrap()) {
        let duration: Duration = text.parse().unwrap();
        prop_assert!(duration.to_chrono() <= LONGEST && text.len() <= MAX_LENGTH as usize);
    }
}
