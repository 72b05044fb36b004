//! The Lease of a replica: its name, its labels, its content. Pure.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{Timestamp, ToSpan as _};
use kube::api::ObjectMeta;
use sha2::{Digest as _, Sha256};

/// The label of the Leases of one installation; its value is the group.
pub(super) const LABEL: &str = "jobexec.dev/operator";

/// The label that identifies the stores that the holder manages.
pub(super) const SCOPE: &str = "jobexec.dev/scope";

/// The longest name of a Lease, in bytes: that of a label value, since both are printed side by side.
const NAME_LIMIT: usize = 63;

/// The longest duration that a Lease may claim: otherwise anybody who may edit Leases could keep a dead replica alive for
/// years.
const LONGEST: Duration = Duration::from_mins(1);

/// The content of a Lease. It changes with each renewal, whatever the clock of the holder says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    holder: String,
    renewed: Option<MicroTime>,
    transitions: Option<i32>,
    /// The time for which it is valid after a renewal.
    pub(super) duration: Duration,
}

impl Record {
    /// Reads the content of a Lease; `None`: nobody holds it.
    pub(super) fn of(lease: &Lease) -> Option<Self> {
        let spec = lease.spec.as_ref()?;
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty())?;
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
        Some(Self {
            holder,
            renewed: spec.renew_time.clone(),
            transitions: spec.lease_transitions,
            duration: Duration::from_secs(seconds).min(LONGEST),
        })
    }
}

/// The name of the Lease of the replica `identity`. A name that is too long is cut, and ends with a hash.
pub(super) fn name(group: &str, identity: &str) -> String {
    let name = format!("{group}-{identity}").to_lowercase();
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let clean: String = name.chars().map(plain).collect();
    if clean.len() <= NAME_LIMIT && clean == format!("{group}-{identity}") && !clean.ends_with('-') {
        return clean;
    }
    let hash: String = Sha256::digest(format!("{group}-{identity}"))
        .iter()
        .take(5)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let start: String = clean.chars().take(NAME_LIMIT - hash.len() - 1).collect();
    format!("{}-{hash}", start.trim_end_matches('-'))
}

/// The holder of the Lease.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// The Lease after `holder` renews or takes it, based on the existing one, if there is one.
pub(super) fn held(
    there: Option<Lease>,
    (name, group): (&str, &str),
    holder: &str,
    duration: Duration,
) -> Lease {
    let there = there.unwrap_or_default();
    let mut metadata = ObjectMeta { name: Some(name.to_owned()), ..there.metadata };
    metadata.managed_fields = None;
    metadata.labels.get_or_insert_default().insert(LABEL.to_owned(), group.to_owned());
    let before = there.spec.unwrap_or_default();
    let now = after(before.renew_time.as_ref());
    let mine = before.holder_identity.as_deref() == Some(holder);
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: before.acquire_time.filter(|_| mine).or_else(|| Some(now.clone())),
        renew_time: Some(now),
        lease_transitions: Some(match before.lease_transitions {
            Some(times) if mine => times,
            Some(times) => times.saturating_add(1),
            None => 0,
        }),
        ..before
    };
    Lease { metadata, spec: Some(spec) }
}

/// Returns the current time, but never the same one twice: others notice only that it changes, and a clock may stand
/// still.
fn after(last: Option<&MicroTime>) -> MicroTime {
    let now = Timestamp::now();
    match last {
        Some(last) if last.0.as_microsecond() == now.as_microsecond() => {
            MicroTime(now.checked_add(1.microsecond()).unwrap_or(now))
        }
        _ => MicroTime(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn a_name_is_short_and_one_for_each_replica() {
        assert_eq!(name("jobexec-operator", "pod-1"), "jobexec-operator-pod-1");
        let long = "a-very-long-name-of-a-release-jobexec-operator-7d4b9c6f5-";
        let (a, b) =
            (name("jobexec-operator", &format!("{long}x")), name("jobexec-operator", &format!("{long}y")));
        assert!(a != b && a.len() <= NAME_LIMIT && b.len() <= NAME_LIMIT, "{a} {b}");
        for odd in ["Host_1.example", "ümlaut", "-", "", "a.b", "a-"] {
            let made = name("g", odd);
            assert!(
                made.starts_with("g-") && made.bytes().all(|b| b == b'-' || b.is_ascii_alphanumeric()),
                "{made}"
            );
            assert!(!made.ends_with('-') && made == made.to_lowercase(), "{made}");
        }
        assert_ne!(name("g", "a.b"), name("g", "a-b"));
    }

    #[test]
    fn a_renewal_keeps_what_is_there_and_always_changes_the_record() {
        let first = held(None, ("n", "g"), "me", TEN);
        let second = held(Some(first.clone()), ("n", "g"), "me", TEN);
        let (a, b) = (first.spec.clone().unwrap(), second.spec.clone().unwrap());
        assert_eq!((a.acquire_time, a.lease_transitions), (b.acquire_time, b.lease_transitions));
        assert_ne!(Record::of(&first), Record::of(&second));
        assert_eq!(second.metadata.labels.unwrap()[LABEL], "g");
        let other = held(Some(first), ("n", "g"), "other", TEN);
        assert_eq!(other.spec.unwrap().lease_transitions, Some(1));
    }

    #[test]
    fn nobody_makes_a_lease_hold_for_years() {
        let mut lease = held(None, ("n", "g"), "me", TEN);
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(i32::MAX);
        assert_eq!(Record::of(&lease).unwrap().duration, LONGEST);
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(-1);
        assert_eq!(Record::of(&lease).unwrap().duration, Duration::ZERO);
        lease.spec.as_mut().unwrap().holder_identity = Some(String::new());
        assert_eq!(Record::of(&lease), None);
    }
}
