//! The annotation `jobexec.dev/adopt`: when its request is tried, and what a condition says where it was not carried out.

use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use super::reconciled::Reconciled;
use super::state::{FailedAdoption, StoreState};
use crate::api::conditions::{ConditionStatus, ConditionType, DesiredCondition};
use crate::api::{ADOPT, ExecutionStore};
use crate::notify::sanitize;

/// How long a request that was not carried out waits for another try while nothing else has changed: each may take as long as
/// `statementTimeout`, and nothing is ended meanwhile.
const AGAIN: Duration = Duration::from_mins(5);

/// How many characters of a request are told.
const WORDS: usize = 60;

/// The reason of `AuditAvailable` where nothing else is wrong.
const NOT_ADOPTED: &str = "NotAdopted";

/// What a person asks to adopt, if that was not carried out yet.
pub(super) fn asked(store: &ExecutionStore, state: &mut StoreState) -> Option<String> {
    let request = store.annotations().get(ADOPT)?;
    // An object that could not be decoded has conditions and no more.
    let status = store.status.as_ref().filter(|status| status.observed_generation.is_some());
    let Some(status) = status.filter(|_| state.adopted.as_ref() != Some(request)) else {
        if state.adopted.as_ref() != Some(request) {
            // An object may be made from another one's, for a copy of its database.
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

/// Whether a session is to be opened for it: it is new, or was last tried long ago.
pub(super) fn is_due(request: &str, state: &StoreState) -> bool {
    state.unadopted.as_ref().is_none_or(|tried| tried.request != request || tried.at.elapsed() >= AGAIN)
}

/// Notes what came of the request as a session was opened for it.
pub(super) fn note(state: &mut StoreState, request: Option<String>, done: Option<&Result<(), String>>) {
    let Some((request, done)) = request.zip(done) else { return };
    match done {
        Ok(()) => (state.adopted, state.unadopted) = (Some(request), None),
        Err(why) => {
            state.unadopted = Some(FailedAdoption { request, at: Instant::now(), why: why.clone() });
        }
    }
}

/// What is said of the request, if it was tried and not carried out.
pub(super) fn told(store: &ExecutionStore, state: &StoreState) -> Option<String> {
    let tried = state.unadopted.as_ref()?;
    let FailedAdoption { request, why, .. } = tried;
    let asked = store.annotations().get(ADOPT) == Some(request);
    asked.then(|| {
        format!("the annotation {ADOPT}={} was not carried out: {why}", sanitize::line(request, WORDS))
    })
}

/// `AuditAvailable`, with what is said of the request.
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
