//! Validation rules of the API server for durations, in CEL. Its `duration()` knows no days, so rules convert them.

use kube::core::Rule;

use super::NEVER;

/// The word for a retry that waits for the end of the worker.
pub(in crate::api) const WORKER_GONE: &str = "WorkerGone";

/// Returns the expression for the length of the duration in `field`, for example `self`: its days, as a time in Unix
/// seconds less the time 0, plus the rest after the `d`. Both are 0 if they are empty. The parts are substrings, whose
/// size the cost estimate knows, unlike that of a number converted to text.
fn length(field: &str) -> String {
    format!(
        "timestamp(int('0' + {field}.substring(0, {field}.indexOf('d') + 1).replace('d', '')) * 86400) - timestamp(0) \
         + duration('0' + {field}.substring({field}.indexOf('d') + 1))"
    )
}

/// Requires more than 0.
pub(in crate::api) fn positive() -> Rule {
    Rule::new("self.matches('[1-9]')").message("must be longer than 0")
}

/// Requires that a limit is `Never` or more than 0.
pub(in crate::api) fn never_or_positive() -> Rule {
    Rule::new(format!("self == '{NEVER}' || self.matches('[1-9]')")).message("must be longer than 0")
}

/// Requires that a limit is `Never` or at least `least`, which has no days.
pub(in crate::api) fn never_or_at_least(least: &str) -> Rule {
    let rule = format!("self == '{NEVER}' || {} >= duration('{least}')", length("self"));
    Rule::new(rule).message(format!("must be at least {least}").as_str())
}

/// Requires at least `least`, which has no days.
pub(in crate::api) fn at_least(least: &str) -> Rule {
    let rule = format!("{} >= duration('{least}')", length("self"));
    Rule::new(rule).message(format!("must be at least {least}").as_str())
}

/// Requires at most `most`, which has no days.
pub(in crate::api) fn at_most(most: &str) -> Rule {
    let rule = format!("{} <= duration('{most}')", length("self"));
    Rule::new(rule).message(format!("must be at most {most}").as_str())
}

/// Requires that the time after which a retry may start is `WorkerGone` or at most a year.
pub(in crate::api) fn worker_gone_or_at_most_a_year() -> Rule {
    let rule = format!("self == '{WORKER_GONE}' || {} <= duration('8760h')", length("self"));
    Rule::new(rule).message("must be at most a year (8760h)")
}

/// Requires that the duration in the field `shorter`, if it and `longer` are set, is at most the one in `longer`.
pub(in crate::api) fn ordered(shorter: &str, longer: &str) -> Rule {
    let (least, most) = (length(&format!("self.{shorter}")), length(&format!("self.{longer}")));
    Rule::new(format!("!has(self.{longer}) || {least} <= {most}"))
        .message(format!("{shorter} must not be longer than {longer}").as_str())
}
