//! Errors of libraries. Most tell what they should; some quote what they read, and that may be a Secret, a token or a key.

use std::error::Error;
use std::path::Path;

use kube::client::AuthError;
use kube::config::KubeconfigError;

/// What an error of the Kubernetes client says, without what it may quote of an answer, of a kubeconfig or of the output of a
/// program that gives out credentials.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(this) = cause {
        if let Some(fixed) = fixed(this) {
            return fixed.to_owned();
        }
        cause = this.source();
    }
    error.to_string()
}

/// What is said of an error that may quote.
fn fixed(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if error.is::<serde_json::Error>() {
        return Some("what it answered cannot be read");
    }
    if error.is::<serde_saphyr::Error>() || error.is::<Box<serde_saphyr::Error>>() {
        return Some(
            "the YAML of the kubeconfig, or of the program that it gets credentials from, cannot be read",
        );
    }
    match error.downcast_ref::<KubeconfigError>() {
        Some(KubeconfigError::Parse(_)) => {
            return Some("the kubeconfig is not valid YAML, or not a kubeconfig: see `kubectl config view`");
        }
        Some(KubeconfigError::ParseCertificates(_)) => {
            return Some("the kubeconfig holds certificates or a key that cannot be read");
        }
        _ => {}
    }
    match error.downcast_ref::<AuthError>() {
        Some(AuthError::AuthExecRun { .. }) => {
            Some("the program that the kubeconfig gets credentials from has failed: run it by hand")
        }
        Some(AuthError::AuthExecParse(_) | AuthError::ParseTokenKey(_)) => {
            Some("what the program of the kubeconfig printed is no credential: run it by hand")
        }
        _ => None,
    }
}

/// What is wrong with a PEM file, whose own error may quote a line of a private key.
pub fn describe_pem(path: &Path) -> String {
    format!("{} is not valid PEM, or holds nothing of what it should", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "canary-0b7d";

    #[test]
    fn an_answer_that_cannot_be_read_is_not_quoted() {
        let serde = serde_json::from_str::<u8>(&format!("\"{CANARY}\"")).unwrap_err();
        assert!(serde.to_string().contains(CANARY), "it would be");
        let error = kube::Error::SerdeError(serde);
        assert_eq!(describe(&error), "what it answered cannot be read");
    }

    #[test]
    fn a_kubeconfig_that_cannot_be_read_is_not_quoted() {
        let error = kube::config::Kubeconfig::from_yaml(&format!("users: {{token: {CANARY}}}")).unwrap_err();
        let text = describe(&error);
        assert!(!text.contains(CANARY) && text.contains("kubectl config view"), "{text}");
        let plain = KubeconfigError::CurrentContextNotSet;
        assert_eq!(describe(&plain), plain.to_string());
    }
}
