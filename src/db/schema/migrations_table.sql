-- Records which migrations were applied, in the format of sqlx.
CREATE TABLE IF NOT EXISTS jobexec._sqlx_migrations (
    version bigint PRIMARY KEY, description text NOT NULL, installed_on timestamptz NOT NULL,
    success boolean NOT NULL, checksum bytea NOT NULL, execution_time bigint NOT NULL
);
