//! What the operator has to know of the tables of other job systems: an adapter each, all of it data. `adapters/NAME/` holds the
//! manifest, and the SQL that the owner of the tables installs.

mod manifest;

use std::sync::LazyLock;

pub use self::manifest::{Form, Limit, Manifest, Mapped, Package};
use crate::api::identifier::Identifier;

/// An adapter.
#[derive(Debug)]
pub struct Adapter {
    /// What it is for, and what it does.
    pub manifest: Manifest,
    /// Creates its view, functions and triggers.
    pub install: &'static str,
    /// Creates its indexes, each statement by itself, outside of a transaction.
    pub indexes: &'static str,
    /// Grants the operator's role what suffices.
    pub grants: &'static str,
    /// Removes what `install` and `indexes` created.
    pub remove: &'static str,
    /// What `install` creates.
    pub created: Vec<Created>,
}

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        [$((
            include_str!(concat!("../../adapters/", $name, "/adapter.yaml")),
            include_str!(concat!("../../adapters/", $name, "/install.sql")),
            include_str!(concat!("../../adapters/", $name, "/indexes.sql")),
            include_str!(concat!("../../adapters/", $name, "/grants.sql")),
            include_str!(concat!("../../adapters/", $name, "/remove.sql")),
        )),+]
    };
}

/// The files of each adapter.
const SHIPPED: [(&str, &str, &str, &str, &str); 6] =
    shipped!["graphile-worker", "pg-boss", "pgqueuer", "procrastinate", "river", "spring-batch"];

/// The adapters by name. A unit test reads every manifest.
static ALL: LazyLock<Vec<Adapter>> = LazyLock::new(|| {
    SHIPPED
        .iter()
        .filter_map(|(manifest, install, indexes, grants, remove)| {
            let manifest = serde_saphyr::from_str(manifest).ok()?;
            let created = created(install);
            Some(Adapter { manifest, install, indexes, grants, remove, created })
        })
        .collect()
});

/// Returns all adapters, by name.
pub fn all() -> &'static [Adapter] {
    &ALL
}

/// Returns the adapter with this name.
pub fn find(name: &str) -> Option<&'static Adapter> {
    ALL.iter().find(|adapter| adapter.manifest.name == name)
}

/// Returns the names of all adapters, for a message.
pub fn names() -> String {
    ALL.iter().map(|adapter| adapter.manifest.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// An object that an adapter creates, as its SQL names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// `FUNCTION`, `VIEW` or `TRIGGER`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The body, of a function, to be [filled in](Adapter::filled).
    pub body: Option<String>,
    /// True for a function that runs with the rights of its owner.
    pub definer: bool,
    /// The table and the function, of a trigger.
    pub trigger: Option<(String, String)>,
}

impl Adapter {
    /// Returns a part of the SQL for the tables in this schema, and a role. Both are quoted already.
    pub fn filled(sql: &str, schema: &str, role: &str) -> String {
        sql.replace("@schema@", schema).replace("@role@", role)
    }

    /// Returns the schema of the system's tables, unless the spec names another one.
    pub fn schema<'a>(&'a self, named: Option<&'a Identifier>) -> &'a Identifier {
        named.unwrap_or(&self.manifest.schema)
    }

    /// Returns the comment on everything that it creates.
    pub fn comment(&self) -> String {
        format!("jobexec adapter {} {}", self.manifest.name, self.manifest.version)
    }
}

/// Returns the objects that the SQL of an adapter creates.
fn created(install: &str) -> Vec<Created> {
    // The name of an object, without its schema.
    let named = |text: &str| {
        let rest = text.trim_start().strip_prefix("@schema@.")?;
        rest.split(['(', ' ', '\n', ';']).next().map(str::to_owned)
    };
    let mut created = Vec::new();
    for (kind, start) in [("FUNCTION", "CREATE OR REPLACE FUNCTION "), ("VIEW", "CREATE OR REPLACE VIEW ")] {
        for part in install.split(start).skip(1) {
            // The header and the body of a function.
            let mut parts = part.split("$function$");
            let header = parts.next().unwrap_or_default();
            let is_function = kind == "FUNCTION";
            created.push(Created {
                kind,
                name: named(part).unwrap_or_default(),
                body: parts.next().filter(|_| is_function).map(str::to_owned),
                definer: is_function && header.contains("SECURITY DEFINER"),
                trigger: None,
            });
        }
    }
    for part in install.split("CREATE TRIGGER ").skip(1) {
        let name = part.split_whitespace().next().unwrap_or_default().to_owned();
        let after = |word: &str| named(part.split(word).nth(1)?);
        let trigger = after(" ON ").zip(after("EXECUTE FUNCTION"));
        created.push(Created { kind: "TRIGGER", name, body: None, definer: false, trigger });
    }
    created
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ExecutionStoreSpec;

    #[test]
    fn every_manifest_can_be_read_and_fits_its_files() {
        for (text, ..) in SHIPPED {
            let read: Result<Manifest, _> = serde_saphyr::from_str(text);
            assert!(read.is_ok(), "{text}\n{}", read.unwrap_err());
        }
        let mut names: Vec<&str> = all().iter().map(|adapter| adapter.manifest.name.as_str()).collect();
        assert_eq!(names.len(), SHIPPED.len());
        names.sort_unstable();
        assert_eq!(super::names(), names.join(", "));
        let folders = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/adapters")).unwrap();
        let mut folders: Vec<String> = folders
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        folders.sort_unstable();
        assert_eq!(folders, names);
        // The program is built from them, in a container too.
        let containerfile = include_str!("../../Containerfile");
        assert!(containerfile.lines().any(|line| line == "COPY adapters adapters"));
    }

    #[test]
    fn what_an_adapter_creates_carries_its_name_and_version() {
        for adapter in all() {
            let created = &adapter.created;
            assert!(created.iter().any(|object| object.kind == "TRIGGER"), "{}", adapter.manifest.name);
            for object in created {
                let prefix = format!("jobexec_{}", adapter.manifest.name.replace('-', "_"));
                assert!(object.name.starts_with(&prefix), "{object:?}");
                assert_eq!(object.body.is_some(), object.kind == "FUNCTION", "{object:?}");
                assert_eq!(object.trigger.is_some(), object.kind == "TRIGGER", "{object:?}");
                if object.kind != "TRIGGER" {
                    let comment = format!("COMMENT ON {} @schema@.{}", object.kind, object.name);
                    let line = adapter.install.lines().find(|line| line.starts_with(&comment));
                    assert!(
                        line.is_some_and(|line| line.contains(&format!("'{}'", adapter.comment()))),
                        "{object:?}"
                    );
                }
            }
            for sql in [adapter.install, adapter.indexes, adapter.grants, adapter.remove] {
                assert!(
                    !sql.contains("EXECUTE format") && !sql.contains("EXECUTE '"),
                    "{}",
                    adapter.manifest.name
                );
            }
        }
    }

    #[test]
    fn an_adapter_stands_for_the_tables_of_a_spec() {
        let spec: ExecutionStoreSpec = serde_json::from_value(serde_json::json!({
            "connection": {"secretRef": {"name": "db"}}, "adapter": "river", "adapterSchema": "jobs",
        }))
        .unwrap();
        let adapter = find(spec.adapter.as_deref().unwrap()).unwrap();
        let mapped = adapter.mapped(&spec);
        assert_eq!((mapped.table.schema.0.as_str(), mapped.table.name.0.as_str()), ("jobs", "river_job"));
        assert!(mapped.table.retry.is_some());
    }
}
