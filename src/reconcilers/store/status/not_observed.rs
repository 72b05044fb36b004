//! Conditions of a table that was not observed.

use crate::api::conditions::{ConditionStatus, ConditionType, DesiredCondition};

/// The condition of this type while the table cannot be observed.
pub(super) fn unreachable_yet(type_: ConditionType) -> DesiredCondition {
    DesiredCondition::new(
        type_,
        ConditionStatus::Unknown,
        "NotObserved",
        "the table could not be looked at; see the condition Ready",
    )
}
