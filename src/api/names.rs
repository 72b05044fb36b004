//! Validation of Kubernetes object names that users supply. A name becomes part of a request path, so the operator
//! validates it first and rejects, for example, `a?x=1` and `../../team-b/secrets/a`.

/// The pattern for object names in custom resources: a DNS subdomain.
pub const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// The pattern for keys of a Secret.
pub const SECRET_KEY: &str = r"^[-._a-zA-Z0-9]+$";

/// The label that allows `spec.notifications` to read a URL, signing key or login from a Secret, if its value is
/// [`NOTIFICATIONS`].
pub const USE: &str = "jobexec.dev/use";

/// The value of the label [`USE`] for notifications.
pub const NOTIFICATIONS: &str = "notifications";

/// The maximum length of an object name or Secret key, in bytes.
const MAX_NAME_LENGTH: usize = 253;

/// The maximum length of a DNS label, in bytes.
const MAX_LABEL_LENGTH: usize = 63;

/// Reports whether `text` is a DNS label, such as the name of a namespace.
pub fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL_LENGTH && is_part(text)
}

/// Reports whether `text` is a DNS subdomain, such as the name of a Secret: it matches [`SUBDOMAIN`] and has at most
/// 253 characters.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= MAX_NAME_LENGTH && text.split('.').all(is_part)
}

/// Reports whether `text` is a valid Secret key: it matches [`SECRET_KEY`] and has at most 253 characters.
pub fn is_secret_key(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && text.len() <= MAX_NAME_LENGTH && text.bytes().all(allowed)
}

fn is_part(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_change_a_request_path_are_rejected() {
        for good in ["a", "job-database", "db.example.org", "0", &"a".repeat(253)] {
            assert!(is_subdomain(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../../team-b/secrets/target",
            "job-database?x=1",
            "a#b",
            "a%2Fb",
            "a b",
            "A",
            "-a",
            "a-",
            "a..b",
            "a.",
            ".a",
            "a\n",
            "\u{e4}",
            &"a".repeat(254),
        ] {
            assert!(!is_subdomain(bad) && !is_label(bad), "{bad:?}");
        }
        assert!(is_label(&"a".repeat(63)) && !is_label(&"a".repeat(64)) && !is_label("a.b"));
    }

    #[test]
    fn secret_keys_are_validated() {
        assert!(["uri", "ca.crt", "TLS_KEY-1", ".dockerconfigjson"].into_iter().all(is_secret_key));
        assert!(!["", "a/b", "a b", "a\n", "a%", &"a".repeat(254)].into_iter().any(is_secret_key));
    }
}
