//! `jobexec crds`: prints the custom resource definitions.

use std::io::Write as _;

use super::CliError;
use crate::api::crds;

/// Prints the custom resource definitions as YAML documents.
pub(super) fn run() -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    for crd in crds() {
        let yaml = serde_saphyr::to_string(&crd).map_err(|error| CliError::Print(error.to_string()))?;
        write!(out, "---\n{yaml}")?;
    }
    Ok(())
}
