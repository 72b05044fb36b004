//! Signatures by the Standard Webhooks specification, by which an endpoint authenticates the operator.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;

use super::SendError;

/// A signing key, which is never printed.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// Parses the key in a Secret: `whsec_` and base64, or any other bytes as they are. Ignores a line break at the end.
    pub fn new(secret: &[u8]) -> Result<Self, SendError> {
        let mut secret = secret;
        while let Some(shorter) = secret.strip_suffix(b"\n").or_else(|| secret.strip_suffix(b"\r")) {
            secret = shorter;
        }
        let bytes = match secret.strip_prefix(b"whsec_") {
            Some(encoded) => BASE64.decode(encoded).map_err(|_| {
                invalid("the text after whsec_ is not base64. Use `whsec_$(openssl rand -base64 32)`")
            })?,
            None => secret.to_vec(),
        };
        if bytes.is_empty() {
            return Err(invalid("it is empty. Use `whsec_$(openssl rand -base64 32)`"));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// Signs a request body: returns the value of the header `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64.encode(context.sign()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

fn invalid(what: &str) -> SendError {
    SendError::InvalidConfiguration(format!("the key of signingSecretRef cannot be used: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example from the libraries of the specification.
    #[test]
    fn signature_matches_standard_webhooks() {
        let body = br#"{"test": 2432232314}"#;
        let signature = |key: &str| {
            let key = SigningKey::new(key.as_bytes()).unwrap();
            key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body)
        };
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), expected);
        assert_eq!(signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\r\n"), expected);
        assert_ne!(signature("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), expected);
    }

    #[test]
    fn invalid_signing_key_is_rejected_without_being_printed() {
        for key in ["", "\n", "whsec_", "whsec_not base64"] {
            let error = SigningKey::new(key.as_bytes()).unwrap_err();
            assert_eq!(error.reason(), "InvalidConfiguration");
            assert!(!error.to_string().contains("whsec_not"), "{error}");
        }
        let shown = format!("{:?}", SigningKey::new(b"hidden").unwrap());
        assert_eq!(shown, "SigningKey(…)");
    }
}
