//! The annotation `jobexec.dev/adopt`: when its request is tried, and the condition message if it was not carried out.

use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use super::reconciled::Reconciled;
use super::state::{FailedAdoption, StoreState};
use crate::api::conditions::{ConditionStatus, ConditionType, DesiredCondition};
use crate::api::{ADOPT, ExecutionStore};
use crate::notify::sanitize;

/// The pause before a request that was not carried out is tried again while nothing else has changed. Each try may take
/// as long as `statementTimeout`, and no execution is ended meanwhile.
const AGAIN: Duration = Duration::from_mins(5);

/// The most characters of a request that a message quotes.
const WORDS: usize = 60;

/// The reason of `AuditAvailable` if nothing else is wrong.
const NOT_ADOPTED: &str = "NotAdopted";

/// Returns the value of the annotation, if it was not carried out yet.
pub(super) fn asked(store: &ExecutionStore, state: &mut StoreState) -> Option<String> {
    let request = store.annotations().get(ADOPT)?;
    // An object that could not be decoded has conditions, but no observed generation.
    let status = store.status.as_ref().filter(|status| status.observed_generation.is_some());
    let Some(status) = status.filter(|_| state.adopted.as_ref() != Some(request)) else {
        if state.adopted.as_ref() != Some(request) {
            // The annotation may be copied with the object, for example for a copy of the database.
            tracing::info!(
                store = store.name_any(),
                "the annotation {ADOPT} is older than the first reconcile of the store: nothing is adopted, another value asks again"
            );
            state.adopted = Some(request.clone());
        }
        return None;
    };
    (status.observed_adopt.as_ref() != Some(request)).then(|| request.clone())
}

/// Reports whether a session should be opened for the request: it is new, or its last try is long ago.
pub(super) fn is_due(request: &str, state: &StoreState) -> bool {
    state.unadopted.as_ref().is_none_or(|tried| tried.request != request || tried.at.elapsed() >= AGAIN)
}

/// Records the outcome of the request after a session was opened for it.
pub(super) fn note(state: &mut StoreState, request: Option<String>, done: Option<&Result<(), String>>) {
    let Some((request, done)) = request.zip(done) else { return };
    match done {
        Ok(()) => (state.adopted, state.unadopted) = (Some(request), None),
        Err(why) => {
            state.unadopted = Some(FailedAdoption { request, at: Instant::now(), why: why.clone() });
        }
    }
}

/// The message for a request that was tried and not carried out.
pub(super) fn told(store: &ExecutionStore, state: &StoreState) -> Option<String> {
    let tried = state.unadopted.as_ref()?;
    let FailedAdoption { request, why, .. } = tried;
    let asked = store.annotations().get(ADOPT) == Some(request);
    asked.then(|| {
        format!("the annotation {ADOPT}={} was not carried out: {why}", sanitize::line(request, WORDS))
    })
}

/// Adds the message about the request to `AuditAvailable`.
pub(super) fn amend(recording: DesiredCondition, result: &Reconciled) -> DesiredCondition {
    const TYPE: ConditionType = ConditionType::AuditAvailable;
    match (&result.answered.unadopted, recording.status) {
        (Some(told), ConditionStatus::True) => {
            DesiredCondition::new(TYPE, false, NOT_ADOPTED, format!("what is done is recorded, and {told}"))
        }
        (Some(told), ConditionStatus::False) => {
            let message = format!("{}; {told}", recording.message);
            DesiredCondition::new(TYPE, false, recording.reason, message)
        }
        _ => recording,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_carried_out_counts_as_that_and_the_rest_is_tried_again_at_leisure() {
        let mut state = StoreState::default();
        assert!(is_due("1", &state));
        note(&mut state, Some("1".to_owned()), Some(&Err("held".to_owned())));
        assert_eq!(state.adopted, None);
        assert!(!is_due("1", &state) && is_due("2", &state));
        note(&mut state, None, None);
        assert!(state.unadopted.is_some());
        note(&mut state, Some("1".to_owned()), Some(&Ok(())));
        assert!(state.adopted.as_deref() == Some("1") && state.unadopted.is_none());
    }
}
