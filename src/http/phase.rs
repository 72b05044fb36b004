//! How answers write where an execution stands: in lower case.

use serde::{Deserialize as _, Deserializer, Serializer, de};

use crate::api::Phase;

const ALL: [Phase; 6] =
    [Phase::Scheduled, Phase::Running, Phase::Completed, Phase::Failed, Phase::Cancelled, Phase::Unmapped];

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Scheduled => "scheduled",
        Phase::Running => "running",
        Phase::Completed => "completed",
        Phase::Failed => "failed",
        Phase::Cancelled => "cancelled",
        Phase::Unmapped => "unmapped",
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
pub(super) fn serialize<S: Serializer>(phase: &Phase, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name(*phase))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Phase, D::Error> {
    let text = String::deserialize(deserializer)?;
    let phase = ALL.into_iter().find(|phase| name(*phase) == text);
    phase.ok_or_else(|| de::Error::custom(format!("the phase {text:?} is not known here")))
}
