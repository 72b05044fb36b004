//! Errors of libraries. Some quote their input, which may be a Secret, a token or a key; these get a fixed text instead.

use std::error::Error;
use std::path::Path;

use kube::client::AuthError;
use kube::config::KubeconfigError;

/// Describes an error of the Kubernetes client, without quoting a response, a kubeconfig or the output of a credential plugin.
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

/// Returns the fixed text for an error that may quote its input.
fn fixed(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if error.is::<serde_json::Error>() {
        return Some("cannot parse its response");
    }
    if error.is::<serde_saphyr::Error>() || error.is::<Box<serde_saphyr::Error>>() {
        return Some("cannot parse the YAML of the kubeconfig, or of its credential plugin");
    }
    match error.downcast_ref::<KubeconfigError>() {
        Some(KubeconfigError::Parse(_)) => {
            return Some("the kubeconfig is not valid YAML, or not a kubeconfig: see `kubectl config view`");
        }
        Some(KubeconfigError::ParseCertificates(_)) => {
            return Some("cannot parse the certificates or the key in the kubeconfig");
        }
        _ => {}
    }
    match error.downcast_ref::<AuthError>() {
        Some(AuthError::AuthExecRun { .. }) => {
            Some("the credential plugin of the kubeconfig failed: run it by hand")
        }
        Some(AuthError::AuthExecParse(_) | AuthError::ParseTokenKey(_)) => {
            Some("the output of the kubeconfig's credential plugin is not a credential: run it by hand")
        }
        _ => None,
    }
}

/// Describes an invalid PEM file, whose own error may quote a line of a private key.
pub fn describe_pem(path: &Path) -> String {
    format!("{} is not valid PEM, or does not contain what it should", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "canary-0b7d";

    #[test]
    fn invalid_response_is_not_quoted() {
        let serde = serde_json::from_str::<u8>(&format!("\"{CANARY}\"")).unwrap_err();
        assert!(serde.to_string().contains(CANARY), "it would be");
        let error = kube::Error::SerdeError(serde);
        assert_eq!(describe(&error), "cannot parse its response");
    }

    #[test]
    fn invalid_kubeconfig_is_not_quoted() {
        let error = kube::config::Kubeconfig::from_yaml(&format!("users: {{token: {CANARY}}}")).unwrap_err();
        let text = describe(&error);
        assert!(!text.contains(CANARY) && text.contains("kubectl config view"), "{text}");
        let plain = KubeconfigError::CurrentContextNotSet;
        assert_eq!(describe(&plain), plain.to_string());
    }
}
