//! The settings of a rule: one entry each. The columns of `jobexec.rules`, the settings that count for a row, and those that
//! `explain` shows follow from this list.

use std::sync::LazyLock;

use crate::rules::field;

/// What a column of a setting holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::db) enum Holds {
    /// A duration that is not negative.
    Duration,
    /// A percentage of the timeout.
    Percent,
    /// A word.
    Word,
    /// The rank of a timeout.
    Rank,
    /// Several values, as JSON.
    Json,
}

impl Holds {
    const fn type_(self) -> &'static str {
        match self {
            Self::Duration => "interval",
            Self::Percent => "integer",
            Self::Word => "text",
            Self::Rank => "smallint",
            Self::Json => "jsonb",
        }
    }
}

/// How the rule whose setting counts for a row is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::db) enum Precedence {
    /// By the rank of the timeouts.
    Rank,
    /// Only the rule of the execution has it.
    Execution,
    /// The rule of the job, then that of the type, then the defaults. It is one of the settings for the deadline.
    ScopeForDeadline,
    /// The same, for a setting that does not change the deadline.
    Scope,
}

/// A setting of a rule.
#[derive(Debug)]
pub(in crate::db) struct Setting {
    /// Its field in the specs.
    pub(in crate::db) field: &'static str,
    /// The columns of its value.
    pub(in crate::db) values: &'static [(&'static str, Holds)],
    /// The column of the object that sets it.
    pub(in crate::db) source: &'static str,
    /// How the rule whose setting counts is found.
    pub(in crate::db) precedence: Precedence,
    /// True if a source without a value sets `Never`.
    pub(in crate::db) may_be_never: bool,
}

/// All settings, in the order of the columns.
pub(in crate::db) const SETTINGS: [Setting; 7] = [
    Setting {
        field: field::TIMEOUT,
        values: &[("timeout", Holds::Duration), ("timeout_rank", Holds::Rank)],
        source: "timeout_source",
        precedence: Precedence::Rank,
        may_be_never: true,
    },
    Setting {
        field: field::EXTEND_BY,
        values: &[("extend_by", Holds::Duration)],
        source: "extend_source",
        precedence: Precedence::Execution,
        may_be_never: false,
    },
    Setting {
        field: field::GRACE_PERIOD,
        values: &[("grace", Holds::Duration)],
        source: "grace_source",
        precedence: Precedence::ScopeForDeadline,
        may_be_never: false,
    },
    Setting {
        field: field::HEARTBEAT_TIMEOUT,
        values: &[("heartbeat", Holds::Duration)],
        source: "heartbeat_source",
        precedence: Precedence::Scope,
        may_be_never: true,
    },
    Setting {
        field: field::ON_STALE,
        values: &[("on_stale", Holds::Word)],
        source: "on_stale_source",
        precedence: Precedence::ScopeForDeadline,
        may_be_never: false,
    },
    Setting {
        field: field::RETRY,
        values: &[("retry", Holds::Json)],
        source: "retry_source",
        precedence: Precedence::ScopeForDeadline,
        may_be_never: false,
    },
    Setting {
        field: field::WARN_AFTER,
        values: &[("warn_after", Holds::Duration), ("warn_percent", Holds::Percent)],
        source: "warn_source",
        precedence: Precedence::Scope,
        may_be_never: true,
    },
];

impl Setting {
    /// Returns its columns, with their types.
    fn columns(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.values.iter().map(|(name, holds)| (*name, holds.type_())).chain([(self.source, "text")])
    }

    /// Returns the columns by which it counts for a row, in addition to those for the deadline.
    fn verdict(&self) -> Vec<String> {
        let Self { source, precedence, .. } = self;
        let value = |column: &str| {
            format!(
                "CASE WHEN job_rule.{source} IS NOT NULL THEN job_rule.{column} \
                 WHEN type_rule.{source} IS NOT NULL THEN type_rule.{column} ELSE store_defaults.{column} END AS {column}"
            )
        };
        let values = match precedence {
            Precedence::Scope => self.values.iter().map(|(column, _)| value(column)).collect(),
            Precedence::ScopeForDeadline => Vec::new(),
            // `StalenessPredicate` knows how ranks compare, and no statement needs the source of an extension.
            Precedence::Rank | Precedence::Execution => return Vec::new(),
        };
        let source =
            format!("COALESCE(job_rule.{source}, type_rule.{source}, store_defaults.{source}) AS {source}");
        values.into_iter().chain([source]).collect()
    }
}

/// Returns the columns of a rule, with their types.
pub(in crate::db) fn columns() -> Vec<(&'static str, &'static str)> {
    let first = [("scope", "text"), ("key", "text")];
    let last = [("overruled", "text[]"), ("earliest", "interval"), ("fixed", "boolean")];
    first.into_iter().chain(SETTINGS.iter().flat_map(Setting::columns)).chain(last).collect()
}

/// The names of these columns, for a statement.
pub(in crate::db) static NAMES: LazyLock<String> =
    LazyLock::new(|| columns().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "));

/// The names with their types, for reading the columns from JSON.
pub(in crate::db) static TYPED: LazyLock<String> = LazyLock::new(|| {
    columns().iter().map(|(name, type_)| format!("{name} {type_}")).collect::<Vec<_>>().join(", ")
});

/// The condition that no time of a rule is negative: a rule with a negative time was not written by an operator, and has no effect.
pub(in crate::db) static ARE_SANE: LazyLock<String> = LazyLock::new(|| {
    let columns = columns();
    let times: Vec<&str> =
        columns.iter().filter(|(_, type_)| *type_ == "interval").map(|(name, _)| *name).collect();
    format!("LEAST({}) >= interval '0'", times.join(", "))
});

/// The columns by which the settings count for a row, in addition to those for the deadline and the timeout's source.
pub(in crate::db) static VERDICT: LazyLock<String> =
    LazyLock::new(|| SETTINGS.iter().flat_map(Setting::verdict).collect::<Vec<_>>().join(", "));

/// Returns the columns with every setting of the rules `scopes`, each with the name of its rule before its own.
pub(in crate::db) fn of_each(scopes: &[&str]) -> String {
    let all = scopes.iter().flat_map(|scope| {
        let columns = SETTINGS.iter().flat_map(Setting::columns).map(|(name, _)| name).chain(["overruled"]);
        columns.map(move |column| format!("{scope}.{column} AS {scope}_{column}"))
    });
    all.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_in_the_table_of_the_documentation() {
        let page = include_str!("../../../docs/policies.md");
        for Setting { field, .. } in &SETTINGS {
            assert!(page.contains(&format!("`{field}`")), "docs/policies.md does not mention {field}");
        }
    }
}
