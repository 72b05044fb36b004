//! Names of Kubernetes' objects, as users give them. A name becomes part of the path of a request, so that it is checked
//! before: `a?x=1` or `../../team-b/secrets/a` is none.

/// What the name of an object must look like where a custom resource holds one: a DNS subdomain.
pub const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// What a key of a Secret must look like.
pub const SECRET_KEY: &str = r"^[-._a-zA-Z0-9]+$";

/// The label, with the value [`NOTIFICATIONS`], of a Secret that `spec.notifications` may take a URL, a key or a login from.
pub const USE: &str = "jobexec.dev/use";

/// See [`USE`].
pub const NOTIFICATIONS: &str = "notifications";

/// The longest name of an object or of a key of a Secret, in bytes.
const LONGEST: usize = 253;

/// The longest label of DNS, in bytes.
const LONGEST_LABEL: usize = 63;

/// Whether it is a DNS label, such as the name of a namespace.
pub fn is_label(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && is_part(text)
}

/// Whether it is a DNS subdomain, such as the name of a Secret: what [`SUBDOMAIN`] says, of at most 253 characters.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= LONGEST && text.split('.').all(is_part)
}

/// Whether a Secret can have this key: what [`SECRET_KEY`] says, of at most 253 characters.
pub fn is_secret_key(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(plain)
}

fn is_part(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(plain) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_reaches_a_path_is_a_name() {
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
    fn a_key_of_a_secret_is_one() {
        assert!(["uri", "ca.crt", "TLS_KEY-1", ".dockerconfigjson"].into_iter().all(is_secret_key));
        assert!(!["", "a/b", "a b", "a\n", "a%", &"a".repeat(254)].into_iter().any(is_secret_key));
    }
}
