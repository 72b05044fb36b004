"""Works on job executions, 100 items each, until there are none left. A killed worker loses at most the item at hand."""

import os

import psycopg

CLAIM = """
    UPDATE job_executions SET status = 'running', started_at = now()
    WHERE id = (
        SELECT id FROM job_executions
        WHERE status = 'scheduled' AND (run_at IS NULL OR run_at <= now())
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, started_at, COALESCE(checkpoint, 0)"""

CHECKPOINT = """
    UPDATE job_executions SET checkpoint = %s, checkpoint_at = now()
    WHERE id = %s AND status = 'running' AND started_at = %s"""

FINISH = """
    UPDATE job_executions SET status = 'completed', completed_at = now()
    WHERE id = %s AND status = 'running' AND started_at = %s"""


class GivenUp(Exception):
    """The operator has given this attempt up: what it does no longer counts."""


def guarded(db, statement, *values):
    if db.execute(statement, values).rowcount == 0:
        raise GivenUp


def work(db, id, started_at, checkpoint):
    for item in range(checkpoint + 1, 101):
        with db.transaction():
            guarded(db, CHECKPOINT, item, id, started_at)
            db.execute("INSERT INTO done (item, execution) VALUES (%s, %s)", (item, id))
    guarded(db, FINISH, id, started_at)


with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
    while claimed := db.execute(CLAIM).fetchone():
        try:
            work(db, *claimed)
        except GivenUp:
            pass
