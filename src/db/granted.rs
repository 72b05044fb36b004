//! More time that people granted without an object of Kubernetes, as `jobexec.rules` has it.

/// How the sources of such rules begin. An operator keeps rules of such sources.
pub(super) const SOURCE: &str = "CommandLine/";

/// The condition that the rule `of` an execution has what a person granted. `source` is the parameter with how the sources of such rules
/// begin.
pub(super) fn granted_in(of: &str, source: &str) -> String {
    format!("{of}.scope = 'execution' AND ({of}.extend_source LIKE {source} OR {of}.promised IS NOT NULL)")
}
