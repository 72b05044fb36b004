#!/usr/bin/env python3
"""Proves the adapter with the real Graphile Worker, in a database of its own in the Postgres at DATABASE_URL, as a superuser."""

from harness import ERROR, Proof, until

NAME = "jobexec_graphile_worker"

proof = Proof("graphile-worker")
admin, S = proof.admin, "graphile_worker"


def queue(name):
    return admin.row(f"SELECT locked_at, locked_by FROM {S}._private_job_queues WHERE queue_name = '{name}'")


def job(id):
    return admin.row(f"SELECT * FROM {S}._private_jobs WHERE id = {id}")


UNLOCKED = {"locked_at": None, "locked_by": None}

# Before it is installed, and while it is: jobs complete as ever.
id, worker, _ = proof.started()
worker.tell("release")
proof.check("before: a job completes", worker.wait("finished", id=id)["accepted"])
worker.stop()
proof.install()
proof.check_manifest()
proof.check_reapply("_private_jobs", "priority = priority")
before = admin.one(f"SELECT count(*) FROM {S}._private_jobs")
id, worker, _ = proof.started("--queue", "normal")
worker.tell("release")
proof.check("installed: a job in a queue completes", worker.wait("finished", id=id)["accepted"])
proof.equal("installed: its queue is free again", queue("normal"), UNLOCKED)
id = proof.enqueue("--max-attempts", "3")
worker.wait("started", id=id)
worker.tell(f"fail {id}")
worker.wait("finished", id=id, failed=True)
own = job(id)
proof.check(
    "installed: a failing job is tried again by Graphile Worker itself",
    own["last_error"] == "told to fail" and own["is_available"],
    own,
)
worker.stop()
admin.run(f"DELETE FROM {S}._private_jobs")

# A right end.
id, worker, started = proof.started("--queue", "fails", "--max-attempts", "5")
proof.equal("view: the running job has its attempt", (proof.view(id)["status"], proof.view(id)["attempt"]), ("running", 1))
worker.kill()
ended = proof.sweep("Fail", id, error=ERROR)[id]
proof.equal("Fail: the operator reads failed", ended["status"], "failed")
shown = proof.show(id)
proof.equal(
    "Fail: the client shows a job that failed for good",
    (shown["attempts"], shown["max_attempts"], shown["last_error"], shown["locked_at"], shown["locked_by"]),
    (5, 5, ERROR, None, None),
)
proof.equal("Fail: the queue is unlocked", queue("fails"), UNLOCKED)
view = proof.view(id)
proof.equal(
    "Fail: the view has the end that the operator read", (view["status"], view["completed_at"]), ("failed", ended["completed_at"])
)
worker = proof.worker()
other = proof.enqueue("--queue", "fails")
worker.wait("started", id=other)
proof.check("Fail: the queue starts its next job, and the failed one stays", job(id)["attempts"] == 5, job(id))
worker.tell("release")
worker.wait("finished", id=other)

# A right retry.
id = proof.enqueue("--queue", "retries", "--max-attempts", "3")
worker.wait("started", id=id, attempt=1)
worker.kill()
proof.equal("Retry: the operator reads scheduled", proof.became("Retry", id, error=ERROR), "scheduled")
row = job(id)
proof.equal(
    "Retry: the job waits for attempt 2",
    (row["attempts"], row["last_error"], row["locked_by"], row["is_available"]),
    (1, ERROR, None, True),
)
proof.equal("Retry: the queue is unlocked", queue("retries"), UNLOCKED)
proof.equal(
    "Retry: it waits as long as after a failure",
    admin.one(
        f"SELECT run_at - now() BETWEEN interval '1 second' AND exp(1) * interval '1 second' FROM {S}._private_jobs WHERE id = {id}"
    ),
    "t",
)
worker = proof.worker()
proof.equal("Retry: the second attempt starts", worker.wait("started", id=id)["attempt"], 2)
worker.tell("release")
proof.check("Retry: the second attempt completes", worker.wait("finished", id=id)["accepted"])
proof.equal("Retry: the completed job is gone, its queue free", (proof.show(id).get("state"), queue("retries")), ("gone", UNLOCKED))

# The system's limit.
id = proof.enqueue("--max-attempts", "1")
worker.wait("started", id=id)
# The attempt before ended for the same reason, word for word.
admin.run(f"UPDATE {S}._private_jobs SET last_error = '{ERROR}' WHERE id = {id}")
proof.equal("limit: Retry of the last attempt is failed", proof.became("Retry", id, error=ERROR), "failed")
proof.equal("limit: the client shows the reason of this attempt", proof.show(id)["last_error"], ERROR)
proof.equal("limit: the client shows no attempt left", (proof.show(id)["attempts"], proof.show(id)["max_attempts"]), (1, 1))
ended = proof.view(id)
proof.check("limit: the view has an end", ended["completed_at"] is not None, ended)

# A live worker. Its failure is fenced, its success is not.
worker.tell("fail " + id)
proof.equal("live worker: its late failure of an ended job is ignored", worker.wait("finished", id=id)["accepted"], False)
proof.check("live worker: the reason of the operator stays", job(id)["last_error"].startswith("DeadlineExceeded"), job(id))
id = proof.enqueue("--max-attempts", "3")
worker.wait("started", id=id)
proof.equal("live worker: its job is retried", proof.became("Retry", id), "scheduled")
second = proof.worker()
worker.tell("fail " + id)
proof.equal("live worker: its late failure of a retried job is ignored", worker.wait("finished", id=id)["accepted"], False)
winner = until("attempt 2", lambda: (row := job(id))["attempts"] == 2 and row["locked_by"])
proof.check("live worker: attempt 2 runs undisturbed", winner is not None)
worker.tell("release")
second.tell("release")
until("attempt 2 to complete", lambda: job(id) is None)
worker.stop()
second.stop()
id, worker, _ = proof.started()
proof.became("Fail", id)
worker.tell("release")
proof.check("live worker: its late success is not fenced, as the limits say", worker.wait("finished", id=id)["accepted"])
proof.equal("live worker: the job counts as completed", proof.show(id).get("state"), "gone")
worker.stop()

id, worker = proof.enqueue("--queue", "twice"), proof.worker("--once")
worker.wait("started", id=id)
proof.became("Retry", id)
second = proof.worker()
until("attempt 2", lambda: job(id)["attempts"] == 2 and job(id)["locked_by"])
worker.tell("release")
until("the late success", lambda: job(id) is None)
second.tell("release")
worker.stop()
second.stop()
proof.check("live worker: a late success of a retried job leaves its queue locked, as the limits say", queue("twice")["locked_by"])

# The system's own rescuer, which unlocks after 4 hours.
id, worker, _ = proof.started("--queue", "stuck")
worker.kill()
admin.run(f"UPDATE {S}._private_jobs SET locked_at = locked_at - interval '5 hours'")
admin.run(f"UPDATE {S}._private_job_queues SET locked_at = locked_at - interval '5 hours' WHERE locked_at IS NOT NULL")
operator = proof.operator()
proof.equal(
    "own rescuer: the operator is first", proof.sweep("Retry", id, session=operator, commit=False)[id]["status"], "scheduled"
)
rescuer = proof.client("rescue", wait=False)
proof.blocked()
operator.run("COMMIT")
row = job(id)
proof.answer(rescuer)
proof.equal("own rescuer: it leaves the retry as it is", job(id), row)
proof.equal(
    "own rescuer: both at once retry once", (row["attempts"], row["locked_at"], row["last_error"][:8]), (1, None, "Deadline")
)
worker = proof.worker()
worker.wait("started", id=id, attempt=2)
worker.kill()
admin.run(f"UPDATE {S}._private_jobs SET locked_at = locked_at - interval '5 hours'")
admin.run(f"UPDATE {S}._private_job_queues SET locked_at = locked_at - interval '5 hours' WHERE locked_at IS NOT NULL")
held = proof.session()
held.run("BEGIN")
held.run(f"SELECT FROM {S}._private_job_queues WHERE queue_name = 'stuck' FOR UPDATE")
proof.equal("own rescuer: the operator does not wait for a queue that it holds", proof.became("Retry", id), "scheduled")
held.run("ROLLBACK")
proof.client("rescue")
proof.equal("own rescuer: it then releases the queue", queue("stuck"), UNLOCKED)
admin.run(f"DELETE FROM {S}._private_jobs")
id, worker, _ = proof.started()
worker.kill()
admin.run(f"UPDATE {S}._private_jobs SET locked_at = locked_at - interval '5 hours'")
proof.client("rescue")
proof.equal("own rescuer: if it is first, the operator does nothing", proof.sweep("Retry", id), {})
admin.run(f"DELETE FROM {S}._private_jobs")

# The moment of the sweep.
id, worker, _ = proof.started()
finishing = proof.session()
finishing.run("BEGIN")
finishing.run(f"DELETE FROM {S}._private_jobs WHERE id = {id}")
proof.equal("moment: the operator leaves out a job that its worker finishes", proof.sweep("Fail", id), {})
finishing.run("COMMIT")
proof.equal("moment: the job stays completed", proof.show(id).get("state"), "gone")
worker.kill()
# A start after the operator's snapshot: the statement has read attempt 1 and finds attempt 2.
id, worker, _ = proof.started()
view = proof.view(id)
worker.kill()
operator = proof.operator()
operator.run("BEGIN ISOLATION LEVEL READ COMMITTED")
operator.run("SET LOCAL jobexec.ending = 'Fail'")
holder = proof.session()
holder.run("BEGIN")
holder.run(f"UPDATE {S}._private_jobs SET attempts = 2, locked_at = clock_timestamp(), locked_by = 'another' WHERE id = {id}")
operator.send(f"""
    WITH held AS MATERIALIZED (SELECT id FROM {proof.relation} WHERE id = {id} FOR NO KEY UPDATE)
    UPDATE {proof.relation} SET status = 'failed'
    WHERE id = ANY (ARRAY (SELECT id FROM held)) AND status = 'running'
    RETURNING id""")
proof.blocked()
holder.run("COMMIT")
proof.equal("moment: an attempt that started since is left alone", (operator.receive(), job(id)["locked_by"]), ([], "another"))
operator.run("ROLLBACK")
admin.run(f"DELETE FROM {S}._private_jobs")

# There is no Cancel, and nobody else writes to the view.
id, worker, _ = proof.started()
proof.equal("Cancel: the job keeps running", (proof.became("Cancel", id), proof.view(id)["status"]), ("running", "running"))
operator = proof.operator()
for ending in ("", "Other"):
    operator.run(f"SET jobexec.ending = '{ending}'")
    refused = operator.refused(f"UPDATE {proof.relation} SET status = 'failed' WHERE id = {id}", "only the jobexec operator")
    proof.check(f"ending '{ending}': the view refuses it", *refused)
proof.check_nobody_else(
    [
        ("reading the jobs", f"SELECT FROM {S}._private_jobs"),
        ("updating the jobs", f"UPDATE {S}._private_jobs SET locked_at = NULL"),
        ("updating the queues", f"UPDATE {S}._private_job_queues SET locked_at = NULL"),
        ("deleting from the view", f"DELETE FROM {proof.relation}"),
        ("inserting into the view", f"INSERT INTO {proof.relation} (error) VALUES (NULL)"),
        ("another column of the view", f"UPDATE {proof.relation} SET attempt = 0"),
        ("adding a job", f"SELECT {S}.add_job('job')"),
    ]
)
worker.tell("release")
worker.wait("finished", id=id)
worker.stop()

# The plan.
admin.run(f"""
    INSERT INTO {S}._private_jobs (task_id, locked_at, locked_by, attempts, max_attempts)
    SELECT (SELECT min(id) FROM {S}._private_tasks), CASE WHEN n % 40 = 0 THEN now() - n * interval '1 second' END, 'gone', n % 2, 1
    FROM generate_series(1, 200000) AS n""")
admin.run(f"VACUUM ANALYZE {S}._private_jobs")
proof.check_plan(NAME + "_running")
proof.equal("many: 5,000 rows are ended by one statement", len(proof.sweep("Fail")), 5000)
admin.run(f"DELETE FROM {S}._private_jobs")

# Removed.
proof.apply("remove.sql")
proof.equal("removed: nothing is left", proof.objects(), [])
id, worker, _ = proof.started("--queue", "after")
worker.tell("release")
proof.check("removed: a job completes", worker.wait("finished", id=id)["accepted"])
worker.stop()
proof.close()
