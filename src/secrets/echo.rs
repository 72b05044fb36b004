//! Finds secrets in foreign text: an endpoint or a server that refuses a request may repeat it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret as _, SecretString};

/// The shortest base64 text to search for, in characters: shorter ones occur in any text.
const SHORTEST: usize = 5;

/// Replaces a text that repeats a secret.
pub const OMITTED: &str = "(text omitted, because it repeats a secret)";

/// Secrets that foreign text may repeat: literally, percent-encoded, escaped as in JSON, or in base64.
#[derive(Clone, Debug, Default)]
pub struct Echoes(Vec<SecretString>);

impl Echoes {
    /// Collects the secrets that are not empty.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| !secret.is_empty());
        Self(secrets.map(|secret| SecretString::from(secret.to_owned())).collect())
    }

    /// Whether a text repeats any of the secrets.
    pub fn are_in(&self, text: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let unescaped = text.replace('\\', "");
        let decoded = percent_decode_str(&unescaped).decode_utf8_lossy().into_owned();
        let of_form = percent_decode_str(&unescaped.replace('+', " ")).decode_utf8_lossy().into_owned();
        // Base64 may contain line breaks.
        let joined: String = decoded.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
        let joined = joined.replace('-', "+").replace('_', "/");
        let shown = [text, unescaped.as_str(), decoded.as_str(), of_form.as_str()];
        self.0.iter().any(|secret| {
            let secret = secret.expose_secret();
            shown.iter().any(|text| text.contains(secret))
                || encoded(secret).iter().any(|form| joined.contains(form.as_str()))
        })
    }

    /// Returns the text, or [`OMITTED`] if it repeats a secret.
    pub fn without(&self, text: String) -> String {
        if self.are_in(&text) { OMITTED.to_owned() } else { text }
    }
}

/// Returns the base64 forms of a secret at each of the three alignments in a longer text, without the characters at either
/// end that depend on the neighbouring bytes.
fn encoded(secret: &str) -> Vec<String> {
    let form = |before: usize| {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(secret.as_bytes());
        let whole = BASE64.encode(&bytes);
        let begin = (before * 8).div_ceil(6);
        let end = bytes.len() * 8 / 6;
        whole.get(begin..end).unwrap_or_default().to_owned()
    };
    (0..3).map(form).filter(|form| form.len() >= SHORTEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_found_in_every_encoding() {
        let echoes = Echoes::new(["caf\u{e9}/to ken", "x?y%z12", ""]);
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        for text in [
            "no such path: caf\u{e9}/to ken".to_owned(),
            r#"{"path": "caf\u{e9}\/to ken"}"#.replace("\\u{e9}", "\u{e9}"),
            "/caf%C3%A9%2Fto%20ken".to_owned(),
            "q=caf%C3%A9%2Fto+ken".to_owned(),
            "is x?y%z12 right".to_owned(),
            format!("535 {}", base64("caf\u{e9}/to ken")),
            format!("Basic {}", base64("me:caf\u{e9}/to ken")),
            format!("535 {}", base64("\0me\0caf\u{e9}/to ken;")),
            base64("....caf\u{e9}/to ken and more").replace('/', "_").replace('+', "-"),
            format!("{}\r\n {}", &base64("12345x?y%z12")[..9], &base64("12345x?y%z12")[9..]),
        ] {
            assert!(echoes.are_in(&text), "{text}");
            assert_eq!(echoes.without(text), OMITTED);
        }
        for text in ["", "535 no", "Basic YWJj", "x?y"] {
            assert_eq!(echoes.without(text.to_owned()), text);
        }
        assert!(!Echoes::new([""]).are_in("anything"));
        assert!(!format!("{echoes:?}").contains("x?y"), "{echoes:?}");
    }
}
