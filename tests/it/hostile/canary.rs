//! Words that exist in one place only, so that finding one elsewhere shows its origin.

use std::fmt::Write as _;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// The canaries of one test, with the place of each.
#[derive(Default)]
pub(crate) struct Canaries(Mutex<Vec<(String, String)>>);

impl Canaries {
    /// Creates a new canary: letters and digits.
    pub(crate) fn put(&self, place: &str) -> String {
        let word = format!("kestrel{}", &uuid::Uuid::new_v4().simple().to_string()[..14]);
        self.0.lock().unwrap().push((word.clone(), place.to_owned()));
        word
    }

    /// Asserts that this text contains none: as plain text, percent-encoded, in hexadecimal, in base64 or as a list of
    /// bytes.
    #[track_caller]
    pub(crate) fn assert_none_in(&self, what: &str, text: &str) {
        let folded = fold(text);
        let decoded = fold(&percent_encoding::percent_decode_str(text).decode_utf8_lossy());
        let joined: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let joined = joined.replace('-', "+").replace('_', "/").replace("\\n", "");
        let known = self.0.lock().unwrap().clone();
        for (word, place) in &known {
            let forms = [fold(word), hexadecimal(word)];
            let found = forms.iter().find(|form| folded.contains(*form) || decoded.contains(*form)).cloned();
            let found = found.or_else(|| base64(word).into_iter().find(|form| joined.contains(form)));
            let found = found.or_else(|| Some(bytes(word)).filter(|form| joined.contains(form)));
            if let Some(found) = found {
                let at = text.find(word.as_str()).unwrap_or_default();
                let around: String = text[..at].chars().rev().take(300).collect();
                let around: String = around.chars().rev().chain(text[at..].chars().take(300)).collect();
                panic!("{what} has the canary of {place} as {found}:\n…{around}…");
            }
        }
    }
}

fn fold(text: &str) -> String {
    text.to_ascii_lowercase()
}

fn hexadecimal(word: &str) -> String {
    word.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The word as `{:?}` prints bytes.
fn bytes(word: &str) -> String {
    word.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(",")
}

/// At least nine bytes of the word, at each offset within a longer text, without the parts that depend on neighbours.
fn base64(word: &str) -> Vec<String> {
    (0..3).map(|skip| STANDARD_NO_PAD.encode(&word.as_bytes()[skip..skip + 18])).collect()
}

#[test]
fn a_canary_is_found_in_each_form() {
    let canaries = Canaries::default();
    let word = canaries.put("here");
    let encode = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    for text in [
        format!("x{word}y"),
        word.to_uppercase(),
        word.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02X}")),
        format!("0x{}", hexadecimal(&word)),
        format!("{:?}", format!("ab{word}").as_bytes()),
        encode(word.clone()),
        encode(format!("a{word}b")),
        encode(format!("\0a{word}bc")),
    ] {
        let found =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| canaries.assert_none_in("it", &text)));
        assert!(found.is_err(), "{text}");
    }
    canaries.assert_none_in("it", "nothing of the kind, though a kestrel flies");
}
