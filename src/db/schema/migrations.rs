//! The migrations of the schema `jobexec`.

/// Version, description and SQL of every migration, in order. Later ones only add.
pub(super) const MIGRATIONS: [(i64, &str, &str); 1] =
    [(1, "jobexec", include_str!("migrations/0001_jobexec.sql"))];

/// The migration that recording needs: what later ones add, people can be without.
pub(super) const FIRST: i64 = 1;
