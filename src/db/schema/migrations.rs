//! The migrations of the schema `jobexec`.

/// The version, description and SQL of every migration, in order. Later migrations only add.
pub(super) const MIGRATIONS: [(i64, &str, &str); 1] =
    [(1, "jobexec", include_str!("migrations/0001_jobexec.sql"))];

/// The migration that recording needs. The operator works without the additions of later ones.
pub(super) const FIRST: i64 = 1;
