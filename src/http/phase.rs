//! Serializes the phase of an execution in lower case.

use serde::{Deserialize as _, Deserializer, Serializer, de};

use crate::api::Phase;

const ALL: [Phase; 8] = [
    Phase::Scheduled,
    Phase::Running,
    Phase::Paused,
    Phase::Completed,
    Phase::Failed,
    Phase::Cancelled,
    Phase::Ignored,
    Phase::Unmapped,
];

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
pub(super) fn serialize<S: Serializer>(phase: &Phase, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(phase.label())
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Phase, D::Error> {
    let text = String::deserialize(deserializer)?;
    let phase = ALL.into_iter().find(|phase| phase.label() == text);
    phase.ok_or_else(|| de::Error::custom(format!("unknown phase {text:?}")))
}
