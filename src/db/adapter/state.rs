//! Compares an adapter with the catalog: the columns that it was made for, and the objects that it creates.

use std::collections::BTreeMap;

use crate::adapters::{self, Adapter};
use crate::db::mapping::{AdapterUse, quote};
use crate::db::validate::Problem;
use crate::db::{Database, DbError, Layout};

/// An object in the database.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Found {
    kind: String,
    name: String,
    body: Option<String>,
    comment: Option<String>,
    enabled: bool,
    definer: bool,
    pinned: bool,
    owner: String,
    on_table: Option<String>,
    function: Option<String>,
}

/// Returns the reason why the adapter of a layout cannot be used. Reads the catalog only, for which a login needs no privilege.
///
/// # Errors
/// Those of the database.
pub(in crate::db) async fn problem(database: &Database, layout: &Layout) -> Result<Option<Problem>, DbError> {
    let Some(AdapterUse { name, adapter }) = &layout.adapter else { return Ok(None) };
    let Some(adapter) = adapter else {
        return Ok(Some(Problem::AdapterUnknown { name: name.clone(), known: adapters::names() }));
    };
    let schema = &layout.table.schema.0;
    if let Some(problem) = unsupported(database, adapter, schema).await? {
        return Ok(Some(problem));
    }
    let found = objects(database, adapter, schema).await?;
    let (owner, _) = owner(database, adapter, schema).await?;
    let foreign = foreign(&found, owner.as_deref());
    Ok(foreign.or_else(|| incomplete(adapter, &found, schema)).map(|what| Problem::AdapterNotInstalled {
        adapter: name.clone(),
        what,
        fix: format!("jobexec adapter apply {name} --schema {schema}"),
    }))
}

/// Reads the objects with the names of those that the adapter creates.
pub(super) async fn objects(
    database: &Database,
    adapter: &Adapter,
    schema: &str,
) -> Result<Vec<Found>, DbError> {
    let names: Vec<String> = adapter.created.iter().map(|object| object.name.clone()).collect();
    let mut tx = database.read_catalog().await?;
    let found = sqlx::query_as(include_str!("objects.sql"))
        .bind(schema)
        .bind(names)
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(found)
}

/// Reads the owner of the job system's tables, and the login.
pub(super) async fn owner(
    database: &Database,
    adapter: &Adapter,
    schema: &str,
) -> Result<(Option<String>, String), DbError> {
    let tables: Vec<String> = adapter.manifest.requires.keys().cloned().collect();
    let mut tx = database.read_catalog().await?;
    let found = sqlx::query_as(include_str!("owner.sql"))
        .bind(schema)
        .bind(tables)
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(found)
}

/// Returns the first object that belongs to another role than the tables: that role decides what runs.
pub(super) fn foreign(found: &[Found], owner: Option<&str>) -> Option<String> {
    let foreign = found.iter().find(|found| Some(found.owner.as_str()) != owner)?;
    let (kind, name) = (foreign.kind.to_lowercase(), &foreign.name);
    Some(format!(
        "the {kind} {name} belongs to {}, and not to the owner of the tables: drop it first",
        foreign.owner
    ))
}

/// Returns the first difference between the columns that an adapter uses and those of the tables in `schema`.
pub(super) async fn unsupported(
    database: &Database,
    adapter: &Adapter,
    schema: &str,
) -> Result<Option<Problem>, DbError> {
    let relations: Vec<String> = adapter.manifest.requires.keys().cloned().collect();
    let mut tx = database.read_catalog().await?;
    let found: Vec<(String, String, String)> = sqlx::query_as(include_str!("columns.sql"))
        .bind(schema)
        .bind(relations)
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    let found = found.into_iter().map(|(relation, name, type_)| ((relation, name), type_)).collect();
    let difference = difference(adapter, &found, schema);
    Ok(difference.map(|what| Problem::AdapterUnsupported { adapter: adapter.manifest.name.clone(), what }))
}

fn difference(adapter: &Adapter, found: &BTreeMap<(String, String), String>, schema: &str) -> Option<String> {
    for (relation, columns) in &adapter.manifest.requires {
        if !found.keys().any(|(name, _)| name == relation) {
            return Some(format!("there is no {relation} in the schema {schema}"));
        }
        for (column, wanted) in columns {
            match found.get(&(relation.clone(), column.clone())) {
                None => return Some(format!("{relation} has no column {column}")),
                Some(type_) if type_ != without_length(wanted).as_str() => {
                    return Some(format!("{relation}.{column} is of type {type_} and not {wanted}"));
                }
                Some(_) => {}
            }
        }
    }
    None
}

/// Returns a type without its length: an adapter does not depend on it.
fn without_length(type_: &str) -> String {
    match (type_.find('('), type_.find(')')) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &type_[..from], &type_[to + 1..]),
        _ => type_.to_owned(),
    }
}

/// Returns the first object that is missing, of another version, or disabled.
fn incomplete(adapter: &Adapter, found: &[Found], schema: &str) -> Option<String> {
    let comment = adapter.comment();
    adapter.created.iter().find_map(|object| {
        let (kind, name) = (object.kind.to_lowercase(), &object.name);
        let same = |found: &&Found| {
            let on_table = object.trigger.as_ref().map(|(on_table, _)| on_table);
            found.kind == object.kind && found.name == *name && found.on_table.as_ref() == on_table
        };
        let Some(there) = found.iter().find(same) else {
            return Some(format!("there is no {kind} {name} in the schema {schema}"));
        };
        if let Some((on_table, function)) = &object.trigger
            && there.function.as_ref() != Some(function)
        {
            return Some(format!(
                "the trigger {name} is not that of {on_table} with the function {function}"
            ));
        }
        if !there.enabled {
            return Some(format!("the {kind} {name} is disabled"));
        }
        if there.definer != object.definer || !there.pinned {
            return Some(format!("the {kind} {name} runs with other rights, or another search path"));
        }
        if object.kind != "TRIGGER" && there.comment.as_deref() != Some(comment.as_str()) {
            let version = there.comment.as_deref().unwrap_or("no version");
            return Some(format!("the {kind} {name} is of {version} and not of {comment}"));
        }
        // A person who ran the SQL by hand may have left out quotes that are not needed.
        let plain = |body: &str| Adapter::filled(body, schema, "").replace(&quote(schema), schema);
        let differs = object.body.as_deref().map(plain) != there.body.as_deref().map(plain);
        (object.kind == "FUNCTION" && differs).then(|| format!("the {kind} {name} has another text"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(adapter: &Adapter) -> Vec<Found> {
        adapter
            .created
            .iter()
            .map(|object| Found {
                kind: object.kind.to_owned(),
                name: object.name.clone(),
                body: object.body.as_deref().map(|body| Adapter::filled(body, "public", "")),
                comment: Some(adapter.comment()),
                enabled: true,
                definer: object.definer,
                pinned: true,
                owner: "app".to_owned(),
                on_table: object.trigger.as_ref().map(|(on_table, _)| on_table.clone()),
                function: object.trigger.as_ref().map(|(_, function)| function.clone()),
            })
            .collect()
    }

    #[test]
    fn what_is_missing_or_changed_is_named() {
        for adapter in adapters::all() {
            let found = installed(adapter);
            assert_eq!(incomplete(adapter, &found, "public"), None);
            for place in 0..found.len() {
                let told = |change: &dyn Fn(&mut Vec<Found>)| {
                    let mut found = found.clone();
                    change(&mut found);
                    incomplete(adapter, &found, "public").unwrap()
                };
                let name = &found[place].name;
                assert!(told(&|found| drop(found.remove(place))).contains(name));
                assert!(told(&|found| found[place].enabled = false).contains("is disabled"));
                if found[place].kind == "TRIGGER" {
                    assert!(
                        told(&|found| found[place].function = Some("evil".to_owned()))
                            .contains("is not that of")
                    );
                    assert!(
                        told(&|found| found[place].on_table = Some("old".to_owned())).contains("there is no")
                    );
                } else {
                    assert!(told(&|found| found[place].pinned = false).contains("search path"));
                }
                assert_eq!(foreign(&found, Some("app")), None);
                assert!(foreign(&found, Some("other")).unwrap().contains("belongs to app"));
                if found[place].kind == "FUNCTION" {
                    let changed =
                        told(&|found| found[place].body = Some("BEGIN RETURN NULL; END".to_owned()));
                    assert!(changed.contains("has another text"));
                }
                if found[place].kind != "TRIGGER" {
                    assert!(told(&|found| found[place].comment = None).contains("no version"));
                }
            }
        }
    }

    #[test]
    fn a_table_of_another_version_of_the_system_is_told() {
        let adapter = adapters::find("river").unwrap();
        let mut found = BTreeMap::new();
        for (relation, columns) in &adapter.manifest.requires {
            for (column, type_) in columns {
                found.insert((relation.clone(), column.clone()), without_length(type_));
            }
        }
        assert_eq!(difference(adapter, &found, "public"), None);
        let state = ("river_job".to_owned(), "state".to_owned());
        found.insert(state.clone(), "text".to_owned());
        assert_eq!(
            difference(adapter, &found, "public").unwrap(),
            "river_job.state is of type text and not river_job_state"
        );
        found.remove(&state);
        assert_eq!(difference(adapter, &found, "public").unwrap(), "river_job has no column state");
        assert_eq!(
            difference(adapter, &BTreeMap::new(), "jobs").unwrap(),
            "there is no river_job in the schema jobs"
        );
        assert_eq!(without_length("timestamp(3) with time zone"), "timestamp with time zone");
    }
}
