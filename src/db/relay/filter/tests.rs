//! Tests with messages of every kind, in pieces of every size.

use proptest::prelude::*;

use super::*;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind], &length[..], body].concat()
}

fn fed(started: bool) -> Filter {
    let mut filter = Filter::new(false, Arc::default());
    if started {
        feed(&mut filter, &start(), 1_000).unwrap();
    }
    filter
}

/// Feeds `input` in pieces of `piece` bytes.
fn feed(filter: &mut Filter, input: &[u8], piece: usize) -> Result<Vec<u8>, (Stop, Vec<u8>)> {
    let mut output = Vec::new();
    for input in input.chunks(piece) {
        if let Err(stop) = filter.feed(input, &mut output) {
            return Err((stop, output));
        }
    }
    Ok(output)
}

/// A login without a password.
fn start() -> Vec<u8> {
    let mut bytes = message(b'R', &[0; 4]);
    for (name, value) in [("server_version", "17.0"), ("TimeZone", "UTC")] {
        bytes.extend(message(b'S', format!("{name}\0{value}\0").as_bytes()));
    }
    bytes.extend(message(b'K', &[1; 8]));
    bytes.extend(message(b'Z', b"I"));
    bytes
}

/// An answer that contains every kind of message.
fn answer() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, body) in [
        (b'1', &b""[..]),
        (b't', &[0, 1, 0, 0, 0, 20]),
        (b'T', &[0, 0]),
        (b'2', b""),
        (b'D', &[0, 2, 0, 0, 0, 1, 7, 255, 255, 255, 255]),
        (b'S', b"search_path\0app\0"),
        (b'A', b"\0\0\0\x01jobexec\0app.runs\0"),
        (b'C', b"SELECT 1\0"),
        (b'E', b"SERROR\0C22012\0Mdivision by zero\0\0"),
        (b'3', b""),
        (b'Z', b"I"),
    ] {
        bytes.extend(message(kind, body));
    }
    bytes
}

#[test]
fn what_is_as_it_should_be_passes_as_it_is() {
    for piece in [1, 2, 3, 4, 5, 6, 7, 11, 1_000] {
        let mut filter = fed(false);
        assert_eq!(feed(&mut filter, &start(), piece).unwrap(), start(), "{piece}");
        assert!(filter.has_started());
        assert_eq!(feed(&mut filter, &answer(), piece).unwrap(), answer(), "{piece}");
    }
}

#[test]
fn notices_are_dropped_at_any_time() {
    let notice = message(b'N', b"SERROR\0C01000\0Mforged\n2026-01-01T00:00:00Z INFO all is well\0\0");
    let (first, second) = (start(), answer());
    let with = [notice.as_slice(), &first, &notice, &notice, &second, &notice].concat();
    for piece in [1, 7, 1_000] {
        let mut filter = fed(false);
        assert_eq!(feed(&mut filter, &with, piece).unwrap(), [start(), answer()].concat());
        assert!(filter.take_noise() >= 4 * notice.len());
        assert_eq!(filter.take_noise(), 0);
    }
}

#[test]
fn what_is_announced_is_not_waited_for() {
    for (started, kind) in
        [(false, b'E'), (false, b'R'), (false, b'N'), (true, b'D'), (true, b'E'), (true, b'T'), (true, b'A')]
    {
        let header = [&[kind], &0x7fff_ffff_u32.to_be_bytes()[..]].concat();
        let (stop, output) = feed(&mut fed(started), &header, 1).unwrap_err();
        assert!(matches!(stop.fault, Fault::TooMuch(_)) && stop.between_messages, "{stop:?}");
        assert!(output.is_empty());
    }
}

#[test]
fn what_makes_sqlx_panic_is_refused() {
    for (started, bytes) in [
        (false, b"R\0\0\0\0aaaa".to_vec()),
        (false, b"R\0\0\0\x03aaaa".to_vec()),
        (true, b"C\0\0\0\0".to_vec()),
        (false, message(b'R', b"")),
        (false, message(b'K', b"1234567")),
        (false, message(b'Z', b"")),
        (false, message(b'D', &[0, 0])),
        (false, message(b'A', b"\0\0\0\x01a\0b\0")),
        (true, message(b'Z', b"")),
        (true, message(b'R', &[0; 4])),
        (true, message(b'A', b"")),
        (true, message(b'A', b"\0\0\0")),
        (true, message(b'A', b"\0\0\0\x01a\0")),
        (true, message(b'A', b"\0\0\0\x01\xff\0b\0")),
        (true, message(b't', b"")),
        (true, message(b't', &[0, 2, 0, 0, 0, 1])),
        (true, message(b'D', b"")),
        (true, message(b'D', &[0, 1, 0, 0, 0, 9, 1])),
        (true, message(b'?', b"")),
    ] {
        let (stop, output) = feed(&mut fed(started), &bytes, 1_000).unwrap_err();
        assert!(stop.between_messages && output.is_empty(), "{bytes:?}: {stop:?}");
    }
}

#[test]
fn a_flood_is_stopped() {
    let parameters =
        (0..1_000).flat_map(|n| message(b'S', format!("k{n}\0{}\0", "v".repeat(4_000)).as_bytes()));
    let parameters: Vec<u8> = parameters.collect();
    let rows: Vec<u8> = message(b'D', &[0, 0]).repeat(400_000);
    let columns = message(b'D', &[&[6, 128][..], &[255; 4 * 1_664]].concat()).repeat(2_000);
    let described = message(b'T', &[&[6, 128][..], &vec![0; 19 * 1_664]].concat()).repeat(100);
    for (started, bytes) in [
        (false, [message(b'R', &[0; 4]), parameters.clone()].concat()),
        (true, parameters),
        (true, rows),
        (true, columns),
        (true, described),
        (true, message(b'T', &vec![0; DESCRIPTION + 1])),
        (true, message(b't', &vec![0; SHORT + 1])),
        (false, message(b'N', &vec![1; 60_000]).repeat(10)),
    ] {
        let (stop, output) = feed(&mut fed(started), &bytes, 64 * 1024).unwrap_err();
        assert!(matches!(stop.fault, Fault::TooMuch(_)) && stop.between_messages, "{:?}", stop.fault);
        assert!(output.len() < 33 << 20);
    }
}

#[test]
fn what_was_passed_on_in_part_cannot_be_followed_by_an_error() {
    let mut filter = fed(true);
    let row = message(b'D', &[0, 1, 0, 0, 0, 9, 1]);
    let (stop, output) = feed(&mut filter, &row, 7).unwrap_err();
    assert!(!stop.between_messages);
    assert_eq!(output, row[..7]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any input: the filter does not panic, passes on no more than arrived, and keeps nothing beyond the limit.
    #[test]
    fn any_bytes_in_any_pieces(
        started: bool,
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        kinds in prop::collection::vec((prop::sample::select(b"RSKZNEATDCt123nIdcGHsv".to_vec()), 0_usize..40), 0..40),
        piece in 1_usize..100,
    ) {
        let mut rest = bytes.as_slice();
        let mut input = Vec::new();
        for (kind, length) in kinds {
            let (body, others) = rest.split_at(length.min(rest.len()));
            input.extend(message(kind, body));
            rest = others;
        }
        input.extend_from_slice(rest);
        let mut filter = fed(started);
        let whole = feed(&mut filter, &input, piece);
        prop_assert!(filter.held.len() <= SHORT);
        let output = whole.as_ref().unwrap_or_else(|(_, output)| output);
        prop_assert!(output.len() <= input.len());
        // The size of the pieces makes no difference to valid input.
        let at_once = feed(&mut fed(started), &input, usize::MAX);
        prop_assert_eq!(whole.is_ok(), at_once.is_ok());
        if let (Ok(one), Ok(other)) = (&whole, &at_once) {
            prop_assert_eq!(one, other);
        }
    }
}
