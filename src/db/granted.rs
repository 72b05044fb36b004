//! Conditions for the time that people granted without a Kubernetes object, as stored in `jobexec.rules`.

/// The prefix of the sources of such rules. An operator keeps rules with such sources.
pub(super) const SOURCE: &str = "CommandLine/";

/// Returns the condition that the rule `of` of an execution contains something that a person granted. `source` is the parameter
/// that holds the pattern of such sources.
pub(super) fn granted_in(of: &str, source: &str) -> String {
    format!("{of}.scope = 'execution' AND ({of}.extend_source LIKE {source} OR {of}.promised IS NOT NULL)")
}
