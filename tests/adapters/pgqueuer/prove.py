#!/usr/bin/env python3
"""Proves the adapter with the real PGQueuer, in a database of its own in the Postgres at DATABASE_URL, as a superuser."""

from harness import ERROR, Proof, literal, until

proof = Proof("pgqueuer")
admin = proof.admin
JOBS, LOG = "public.pgqueuer", "public.pgqueuer_log"


def job(id):
    return admin.row(f"SELECT status, attempts, queue_manager_id, updated, heartbeat, execute_after FROM {JOBS} WHERE id = {id}")


def log(id):
    return admin.run(f"SELECT status FROM {LOG} WHERE job_id = {id} ORDER BY id")


def run(*arguments):
    """Returns a job that runs in a worker of its own."""
    worker, id = proof.worker(*arguments), proof.enqueue()
    worker.wait("started", id=id)
    return id, worker


def clear():
    admin.run(f"DELETE FROM {JOBS}")


# Before it is installed, and while it is: jobs complete as ever.
id, worker = run()
worker.tell("release")
proof.check("before: a job succeeds", worker.wait("finished", id=id)["accepted"])
proof.install()
proof.check_manifest()
proof.check_reapply("pgqueuer", "priority = priority")
id = proof.enqueue()
worker.wait("started", id=id, attempt=1)
worker.tell("release")
proof.check("installed: a job succeeds", worker.wait("finished", id=id)["accepted"])
proof.equal("installed: the client shows it", proof.show(id)["status"], "successful")
id = proof.enqueue()
worker.wait("started", id=id)
worker.tell(f"fail {id}")
worker.wait("finished", id=id, status="exception")
own = proof.show(id)
proof.equal("installed: a job fails by itself", (own["row"], own["log"]), (None, ["queued", "picked", "exception"]))
keys = f"SELECT jsonb_object_keys(traceback) FROM {LOG} WHERE job_id = {{}} AND traceback IS NOT NULL ORDER BY 1"
own_keys = admin.run(keys.format(id))
id = proof.enqueue()
worker.wait("started", id=id)
worker.tell(f"retry {id}")
worker.wait("finished", id=id, status="retry")
worker.wait("started", id=id, attempt=2)
own_retry = proof.show(id)
proof.equal("installed: a job retries by itself", own_retry["log"], ["queued", "picked", "queued", "picked"])
worker.tell("release")
worker.wait("finished", id=id)

# A right end.
id = proof.enqueue()
worker.wait("started", id=id)
view = proof.view(id)
proof.equal(
    "view: the running job has its attempt and no end", (view["status"], view["attempt"], view["completed_at"]), ("picked", 1, None)
)
worker.kill()
ended = proof.sweep("Fail", id, error=ERROR)[id]
proof.equal("Fail: the operator reads exception", ended["status"], "exception")
proof.check("Fail: the operator reads an end", ended["completed_at"] is not None, ended)
shown = proof.show(id)
proof.equal("Fail: the client shows what an exception leaves", {**shown, "id": 0, "errors": 0}, {**own, "id": 0, "errors": 0})
proof.equal("Fail: the client reads the reason from the log", shown["errors"], [ERROR])
proof.equal("Fail: the log has the keys of PGQueuer's own record", admin.run(keys.format(id)), own_keys)
id, worker = run("--hold")
worker.tell(f"fail {id}")
worker.wait("finished", id=id, status="failed")
own_held = proof.show(id)
id = proof.enqueue()
worker.wait("started", id=id)
worker.kill()
proof.equal("Fail, held: the operator reads failed", proof.became("Fail", id, status="failed"), "failed")
shown = proof.show(id)
proof.equal(
    "Fail, held: the client shows what a held failure is", {**shown, "id": 0, "errors": 0}, {**own_held, "id": 0, "errors": 0}
)
view = proof.view(id)
proof.equal("Fail, held: the view has an end and no start", (view["started_at"], view["completed_at"] is not None), (None, True))
proof.client("requeue", id)
worker = proof.worker()
worker.wait("started", id=id, attempt=1)
worker.tell("release")
proof.check("Fail, held: the client requeues it, and it succeeds", worker.wait("finished", id=id)["accepted"])

# A right retry.
id = proof.enqueue()
worker.wait("started", id=id)
worker.kill()
proof.equal("Retry: the operator reads queued", proof.became("Retry", id, error=ERROR), "queued")
row = job(id)
proof.equal("Retry: the job waits for attempt 2", (row["status"], row["attempts"], row["queue_manager_id"]), ("queued", 1, None))
proof.equal("Retry: the client reads the reason from the log", proof.show(id)["errors"], [ERROR])
worker = proof.worker()
proof.equal("Retry: the second attempt starts", worker.wait("started", id=id)["attempt"], 2)
proof.equal("Retry: the log is that of PGQueuer's own retry", log(id), own_retry["log"])
proof.equal("Retry: the view shows attempt 2", proof.view(id)["attempt"], 2)
worker.tell("release")
proof.check("Retry: the second attempt succeeds", worker.wait("finished", id=id)["accepted"])
id = proof.enqueue()
worker.wait("started", id=id)
worker.kill()
proof.sweep("Retry", id, scheduled_at="statement_timestamp() + interval '1 hour'")
later = f"SELECT execute_after BETWEEN now() + interval '59 minutes' AND now() + interval '1 hour' FROM {JOBS} WHERE id = {id}"
proof.equal("Retry: the delay of the policy is kept", admin.one(later), "t")
clear()

# The limit is the policy's: the operator chooses Fail after the last attempt.
id, worker = run()
worker.kill()
proof.sweep("Retry", id)
worker = proof.worker()
worker.wait("started", id=id, attempt=2)
worker.kill()
proof.equal("limit: Fail of the second attempt is failed", proof.became("Fail", id), "exception")
proof.equal("limit: the client shows two attempts", proof.show(id)["log"], ["queued", "picked", "queued", "picked", "exception"])

# A live worker. It is fenced after Fail. After Retry it is not, as the limits say.
for how in ("release", "fail", "retry"):
    id, worker = run()
    proof.became("Fail", id)
    worker.tell(f"{how} {id}")
    proof.check(f"live worker: its late {how} of a failed job is ignored", not worker.wait("finished", id=id)["accepted"])
    proof.equal(f"live worker: after its late {how} the log says exception", log(id)[-1], "exception")
    worker.stop()
id, worker = run()
proof.sweep("Retry", id, scheduled_at="statement_timestamp() + interval '1 hour'")
worker.tell("release")
proof.check("live worker: its late success ends the waiting job, as the limits say", worker.wait("finished", id=id)["accepted"])
proof.equal("live worker: the job has succeeded once", log(id), ["queued", "picked", "queued", "successful"])
worker.stop()
id, worker = run()
worker.freeze()
proof.became("Retry", id)
second = proof.worker()
second.wait("started", id=id, attempt=2)
worker.thaw()
worker.tell("release")
proof.check(
    "live worker: its late success ends the job that runs again, as the limits say", worker.wait("finished", id=id)["accepted"]
)
second.tell("release")
proof.check("live worker: then the second worker's result is ignored", not second.wait("finished", id=id)["accepted"])
proof.equal("live worker: the log has one success", log(id).count("successful"), 1)
second.stop()
worker.stop()
id, worker = run()
proof.became("Retry", id)
until("the worker to pick the job again", lambda: job(id)["status"] == "picked")
other = proof.enqueue()
worker.wait("started", id=other)
worker.tell("release")
proof.check(
    "live worker: it does not start a job that it still runs", worker.wait("finished", id=id)["accepted"] and job(id) is None
)
again = [event for event in worker.seen if event["event"] == "started" and event["id"] == id]
proof.equal("live worker: it has started the job once", again, [])
worker.stop()

# Cancel ends the job at once, and a live worker hears of it.
id, worker = run()
proof.client("cancel", id)
own_cancel = worker.wait("finished", id=id)
own_shown = proof.show(id)
id = proof.enqueue()
worker.wait("started", id=id)
proof.equal("Cancel: the operator reads canceled", proof.became("Cancel", id), "canceled")
proof.equal("Cancel: the live worker cancels the job", {**worker.wait("finished", id=id), "id": 0}, {**own_cancel, "id": 0})
proof.equal("Cancel: the client shows what its own cancellation leaves", {**proof.show(id), "id": 0}, {**own_shown, "id": 0})
worker.stop()

# Heartbeats.
stale = "heartbeat_at < statement_timestamp() - interval '2 seconds'"
dead, worker = run("--once")
worker.kill()
alive = proof.worker("--heartbeat-timeout", "2")
alive.wait("started", id=dead)
proof.equal("heartbeat: a worker picks the job of a dead one by itself, and counts no attempt", job(dead)["attempts"], 0)
living = proof.enqueue()
alive.wait("started", id=living)
long_ago = f"SELECT 1 FROM {proof.relation} WHERE id = {living} AND started_at < now() - interval '3 seconds'"
until("jobs that run for longer than a heartbeat may be missing", lambda: admin.one(long_ago))
proof.equal("heartbeat: no job of the live worker is stale", proof.sweep("Fail", condition=stale), {})
alive.kill()
until("lost heartbeats", lambda: admin.one(f"SELECT count(*) FROM {proof.relation} WHERE {stale}") == "2")
proof.equal(
    "heartbeat: without a worker, the operator fails both", sorted(proof.sweep("Fail", condition=stale)), sorted([dead, living])
)
clear()

# PGQueuer's own rescuer: every worker picks stale jobs.
id, worker = run("--once")
worker.kill()
admin.run(f"UPDATE {JOBS} SET heartbeat = now() - interval '1 day'")
operator = proof.operator()
proof.equal("own rescuer: the operator is first", proof.sweep("Retry", id, session=operator, commit=False)[id]["status"], "queued")
worker = proof.worker()
other = proof.enqueue()
worker.wait("started", id=other)
proof.equal("own rescuer: a worker that looks for stale jobs leaves it alone", job(id)["status"], "picked")
operator.run("COMMIT")
proof.equal("own rescuer: then it starts attempt 2", worker.wait("started", id=id)["attempt"], 2)
proof.equal("own rescuer: both at once retry once", log(id), ["queued", "picked", "queued", "picked"])
worker.tell("release")
worker.wait("finished", id=id)
worker.stop()
id, worker = run("--once")
worker.kill()
admin.run(f"UPDATE {JOBS} SET heartbeat = now() - interval '1 day'")
worker = proof.worker()
worker.wait("started", id=id, attempt=1)
old = "heartbeat_at < statement_timestamp() - interval '1 hour'"
proof.equal("own rescuer: if it is first, the job is not stale any more", proof.sweep("Retry", id, condition=old), {})
worker.tell("release")
worker.wait("finished", id=id)
worker.stop()

# The moment of the sweep.
id, worker = run()
finishing = proof.session()
finishing.run("BEGIN")
finishing.run(f"DELETE FROM {JOBS} WHERE id = {id}")
finishing.run(f"INSERT INTO {LOG} (job_id, status, entrypoint, priority) VALUES ({id}, 'successful', 'job', 0)")
proof.equal("moment: the operator leaves out a job that its worker finishes", proof.sweep("Fail", id), {})
finishing.run("COMMIT")
proof.equal("moment: the job stays successful", proof.show(id)["status"], "successful")
worker.kill()
id, worker = run()
worker.kill()
for action in ("Fail", "Retry"):
    operator = proof.operator()
    operator.run("BEGIN")
    operator.run(f"SET LOCAL jobexec.ending = {literal(action)}")
    holder = proof.session()
    holder.run("BEGIN")
    holder.run(f"UPDATE {JOBS} SET updated = clock_timestamp(), queue_manager_id = gen_random_uuid() WHERE id = {id}")
    operator.send(f"""
        WITH held AS MATERIALIZED (SELECT id FROM {proof.relation} WHERE id = {id} FOR NO KEY UPDATE)
        UPDATE {proof.relation} SET status = 'exception'
        WHERE id = ANY (ARRAY (SELECT id FROM held)) AND status = 'picked'
        RETURNING id""")
    proof.blocked()
    holder.run("COMMIT")
    proof.equal(
        f"moment: {action} leaves a job alone that was picked again since", (operator.receive(), job(id)["status"]), ([], "picked")
    )
    operator.run("ROLLBACK")
clear()

# Nobody else writes to the view.
id, worker = run()
operator = proof.operator()
for ending in ("", "Other"):
    operator.run(f"SET jobexec.ending = '{ending}'")
    refused = operator.refused(f"UPDATE {proof.relation} SET status = 'failed' WHERE id = {id}", "only the jobexec operator")
    proof.check(f"ending '{ending}': the view refuses it", *refused)
proof.check_nobody_else(
    [
        ("reading the jobs", f"SELECT FROM {JOBS}"),
        ("updating the jobs", f"UPDATE {JOBS} SET status = 'failed'"),
        ("writing to the log", f"INSERT INTO {LOG} (job_id, status, entrypoint, priority) VALUES (1, 'failed', 'job', 0)"),
        ("deleting from the view", f"DELETE FROM {proof.relation}"),
        ("inserting into the view", f"INSERT INTO {proof.relation} (status) VALUES ('queued')"),
        ("another column of the view", f"UPDATE {proof.relation} SET attempt = 0"),
    ]
)
worker.kill()
clear()

# The plan.
admin.run(f"""
    INSERT INTO {JOBS} (priority, entrypoint, status, updated)
    SELECT 0, 'job', (CASE WHEN n % 40 = 0 THEN 'picked' ELSE 'queued' END)::public.pgqueuer_status, now() - n * interval '1 second'
    FROM generate_series(7200, 207199) AS n""")
admin.run(f"VACUUM ANALYZE {JOBS}")
proof.check_plan("jobexec_pgqueuer_running")
proof.equal("many: 5,000 rows are ended by one statement", len(proof.sweep("Fail")), 5000)
clear()

# Removed.
proof.apply("remove.sql")
proof.equal("removed: nothing is left", proof.objects(), [])
id, worker = run()
worker.tell("release")
proof.check("removed: a job succeeds", worker.wait("finished", id=id)["accepted"])
worker.stop()
proof.close()
