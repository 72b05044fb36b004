#!/usr/bin/env python3
"""Proves the adapter with the real Procrastinate, in a database of its own in the Postgres at DATABASE_URL, as a superuser."""

from harness import Proof, until

proof = Proof("procrastinate")
admin = proof.admin
JOBS = "public.procrastinate_jobs"


def job(id):
    return admin.row(f"SELECT status, attempts, scheduled_at, worker_id, abort_requested FROM {JOBS} WHERE id = {id}")


def events(id):
    return admin.run(f"SELECT type FROM public.procrastinate_events WHERE job_id = {id} ORDER BY id")


def clear():
    admin.run(f"DELETE FROM {JOBS}")


# Before it is installed, and while it is: jobs complete as ever.
id, worker, _ = proof.started()
worker.tell("release")
proof.check("before: a job succeeds", worker.wait("finished", id=id)["accepted"])
proof.install()
proof.check_manifest()
proof.check_reapply("procrastinate_jobs", "priority = priority")
id = proof.enqueue()
worker.wait("started", id=id, attempt=1)
worker.tell("release")
proof.check("installed: a job succeeds", worker.wait("finished", id=id)["accepted"])
proof.equal("installed: the client shows it", proof.show(id)["status"], "succeeded")
view = proof.view(id)
proof.equal("view: the job that succeeded", (view["status"], view["attempt"]), ("succeeded", 1))
proof.check("view: it has a start and an end", view["started_at"] < view["completed_at"], view)
id = proof.enqueue()
worker.wait("started", id=id)
worker.tell(f"fail {id}")
worker.wait("finished", id=id)
own, own_events = job(id), events(id)
proof.equal("installed: a job fails by itself", own["status"], "failed")

# A right end.
id = proof.enqueue()
worker.wait("started", id=id)
view = proof.view(id)
proof.equal(
    "view: the running job has its attempt and no end", (view["status"], view["attempt"], view["completed_at"]), ("doing", 1, None)
)
worker.kill()
ended = proof.sweep("Fail", id)[id]
proof.equal("Fail: the operator reads failed", ended["status"], "failed")
worker_id = job(id)["worker_id"]
proof.equal("Fail: the row is what a failure of the task writes", job(id), {**own, "worker_id": worker_id})
proof.equal("Fail: the events are those of a failure of the task", events(id), own_events)
proof.equal("Fail: the client shows failed", (proof.show(id)["status"], proof.show(id)["attempts"]), ("failed", 1))
proof.equal("Fail: the view has the end that the operator read", proof.view(id)["completed_at"], ended["completed_at"])

# A right retry.
worker = proof.worker()
id = proof.enqueue()
worker.wait("started", id=id)
worker.kill()
proof.equal("Retry: the operator reads todo", proof.became("Retry", id), "todo")
row = job(id)
proof.equal("Retry: the job waits for attempt 2", (row["status"], row["attempts"], row["abort_requested"]), ("todo", 1, False))
proof.equal("Retry: the events are those of a retry", events(id), ["deferred", "started", "scheduled", "deferred_for_retry"])
worker = proof.worker()
proof.equal("Retry: the second attempt starts", worker.wait("started", id=id)["attempt"], 2)
worker.tell("release")
proof.check("Retry: the second attempt succeeds", worker.wait("finished", id=id)["accepted"])
proof.equal("Retry: the client shows two attempts", (proof.show(id)["status"], proof.show(id)["attempts"]), ("succeeded", 2))
proof.equal("Retry: the view shows the second attempt", (proof.view(id)["attempt"], proof.view(id)["status"]), (2, "succeeded"))
id = proof.enqueue()
worker.wait("started", id=id)
proof.sweep("Retry", id, scheduled_at="statement_timestamp() + interval '1 hour'")
later = admin.one(
    f"SELECT scheduled_at BETWEEN now() + interval '59 minutes' AND now() + interval '1 hour' FROM {JOBS} WHERE id = {id}"
)
proof.equal("Retry: the delay of the policy is kept", later, "t")
proof.equal("Retry: a view's row that waits has no end", proof.view(id)["completed_at"], None)
worker.kill()
clear()

# A queueing lock, which only one waiting job can have.
worker = proof.worker("--once")
id = proof.enqueue("--queueing-lock", "one")
worker.wait("started", id=id)
worker.kill()
other = proof.enqueue("--queueing-lock", "one")
third = proof.enqueue()
admin.run(f"UPDATE {JOBS} SET status = 'doing' WHERE id = {third}")
rows = proof.sweep("Retry")
proof.equal("queueing lock: a job whose successor waits is failed", (rows[id]["status"], job(id)["status"]), ("failed", "failed"))
proof.equal(
    "queueing lock: the successor waits, and the other job of the batch is retried",
    (job(other)["status"], job(third)["status"]),
    ("todo", "todo"),
)
clear()

# The limit is the policy's: the operator chooses Fail after the last attempt.
worker = proof.worker()
id = proof.enqueue()
worker.wait("started", id=id)
proof.sweep("Retry", id)
worker.kill()
worker = proof.worker()
worker.wait("started", id=id, attempt=2)
worker.kill()
proof.equal("limit: Fail of the second attempt is failed", proof.became("Fail", id), "failed")
proof.equal("limit: the client shows two attempts", proof.show(id)["attempts"], 2)
clear()

# A live worker. It is fenced after Fail. After Retry it is not, as the limits say.
worker = proof.worker()
id = proof.enqueue()
worker.wait("started", id=id)
proof.became("Fail", id)
worker.tell("release")
late = worker.wait("finished", id=id)
proof.check(
    "live worker: Procrastinate refuses its late success after Fail", not late["accepted"] and "not found" in late["error"], late
)
proof.equal("live worker: the job stays failed", (job(id)["status"], job(id)["attempts"]), ("failed", 1))
id = proof.enqueue()
worker.wait("started", id=id)
worker.tell("release")
proof.check("live worker: it goes on with its next job", worker.wait("finished", id=id)["accepted"])
id = proof.enqueue()
worker.wait("started", id=id)
proof.sweep("Retry", id, scheduled_at="statement_timestamp() + interval '1 hour'")
worker.tell("release")
proof.check(
    "live worker: its late success after Retry ends the waiting job, as the limits say", worker.wait("finished", id=id)["accepted"]
)
proof.equal("live worker: the job has succeeded once", (job(id)["status"], job(id)["attempts"]), ("succeeded", 1))
worker.stop()
worker = proof.worker("--once")
id = proof.enqueue()
worker.wait("started", id=id)
proof.became("Retry", id)
second = proof.worker()
second.wait("started", id=id, attempt=2)
worker.tell("release")
proof.check(
    "live worker: its late success ends the job that runs again, as the limits say", worker.wait("finished", id=id)["accepted"]
)
second.tell("release")
proof.check("live worker: then the second worker's result is refused", not second.wait("finished", id=id)["accepted"])
proof.equal("live worker: only one of them finished the job", (job(id)["status"], job(id)["attempts"]), ("succeeded", 2))
second.stop()
clear()

# Cancel is a request.
worker = proof.worker()
id = proof.enqueue()
worker.wait("started", id=id)
proof.equal("Cancel: the job runs on", proof.became("Cancel", id), "doing")
proof.equal(
    "Cancel: the worker aborts it",
    (done := worker.wait("finished", id=id)) and (done["status"], done["accepted"]),
    ("aborted", True),
)
proof.equal("Cancel: the client shows aborted", proof.show(id)["status"], "aborted")
proof.equal(
    "Cancel: the view has an end", (proof.view(id)["status"], proof.view(id)["completed_at"] is not None), ("aborted", True)
)
for action in ("Fail", "Retry"):
    worker = proof.worker() if action == "Retry" else worker
    id = proof.enqueue()
    worker.wait("started", id=id)
    worker.kill()
    proof.sweep("Cancel", id)
    proof.equal(f"Cancel, then {action}: a second request changes nothing", proof.became("Cancel", id), "doing")
    proof.equal(f"Cancel, then {action}: one request is recorded", events(id).count("abort_requested"), 1)
    proof.equal(f"Cancel, then {action}: a job whose worker is dead is aborted", proof.became(action, id), "aborted")
    proof.equal(
        f"Cancel, then {action}: the client shows aborted",
        (proof.show(id)["status"], proof.show(id)["abort_requested"]),
        ("aborted", False),
    )
clear()

# Heartbeats: a worker that is alive, one that is silent, one that was deleted.
operator = proof.operator()
LOST = (
    "NOT EXISTS (SELECT FROM public.procrastinate_workers AS worker WHERE worker.id = execution.worker "
    "AND worker.last_heartbeat > statement_timestamp() - interval '2 seconds')"
)
alive = proof.worker("--once", "--heartbeat")
living = proof.enqueue()
alive.wait("started", id=living)
silent = proof.worker()
lost = proof.enqueue("--n", "4")
for each in lost:
    silent.wait("started", id=each)
silent.kill()
sees = f"SELECT 1 FROM {proof.relation} AS execution WHERE id = {lost[0]} AND {LOST}"
until("a silent worker", lambda: operator.one(sees))
proof.equal("heartbeat: exactly the jobs of the silent worker are lost", sorted(proof.sweep("Retry", condition=LOST)), sorted(lost))
proof.equal("heartbeat: the job of the worker that lives runs on", job(living)["status"], "doing")
alive.kill()
clear()

# A periodic task that retries stalled jobs, as the documentation suggests.
worker = proof.worker("--once")
id = proof.enqueue()
worker.wait("started", id=id)
worker.kill()
admin.run("UPDATE public.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
operator = proof.operator()
proof.equal("own rescuer: the operator is first", proof.sweep("Retry", id, session=operator, commit=False)[id]["status"], "todo")
rescuer = proof.client("rescue", wait=False)
proof.blocked()
operator.run("COMMIT")
said = proof.answer(rescuer)
proof.equal(
    "own rescuer: both at once retry once", (said[0]["event"], job(id)["attempts"], job(id)["status"]), ("refused", 1, "todo")
)
clear()
worker = proof.worker("--once")
id = proof.enqueue()
worker.wait("started", id=id)
worker.kill()
admin.run("UPDATE public.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
operator = proof.operator()
proof.sweep("Fail", id, session=operator, commit=False)
rescuer = proof.client("rescue", wait=False)
proof.blocked()
operator.run("COMMIT")
said = proof.answer(rescuer)
proof.equal(
    "own rescuer: it retries a failed job too, as the manifest says", (said[0]["event"], job(id)["status"]), ("rescued", "todo")
)
clear()
worker = proof.worker("--once")
id = proof.enqueue()
worker.wait("started", id=id)
worker.kill()
admin.run("UPDATE public.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
proof.equal("own rescuer: it is first", proof.client("rescue", "--first")[0]["event"], "rescued")
proof.equal("own rescuer: then the operator does nothing", (proof.sweep("Retry", id), job(id)["attempts"]), ({}, 1))
clear()
worker = proof.worker("--once")
id = proof.enqueue()
worker.wait("started", id=id)
worker.kill()
admin.run("DELETE FROM public.procrastinate_workers")
proof.equal("heartbeat: a job of a deleted worker names worker 0", (job(id)["worker_id"], proof.view(id)["worker"]), (None, 0))
proof.equal("heartbeat: it is lost", proof.sweep("Fail", condition=LOST)[id]["status"], "failed")
clear()

# The moment of the sweep.
worker = proof.worker()
id = proof.enqueue()
worker.wait("started", id=id)
finishing = proof.session()
finishing.run("BEGIN")
finishing.run(f"SELECT public.procrastinate_finish_job_v1({id}, 'succeeded', false)")
proof.equal("moment: the operator leaves out a job that its worker finishes", proof.sweep("Fail", id), {})
finishing.run("COMMIT")
proof.equal("moment: the job stays succeeded", proof.show(id)["status"], "succeeded")
worker.kill()
worker = proof.worker()
id = proof.enqueue()
worker.wait("started", id=id)
worker.kill()
operator = proof.operator()
operator.run("BEGIN")
operator.run("SET LOCAL jobexec.ending = 'Fail'")
holder = proof.session()
holder.run("BEGIN")
holder.run(f"SELECT public.procrastinate_retry_job_v2({id}, now(), NULL, NULL, NULL)")
holder.run("SELECT public.procrastinate_fetch_job_v2(NULL, public.procrastinate_register_worker_v1())")
operator.send(f"""
    WITH held AS MATERIALIZED (SELECT id FROM {proof.relation} WHERE id = {id} FOR NO KEY UPDATE)
    UPDATE {proof.relation} SET status = 'failed'
    WHERE id = ANY (ARRAY (SELECT id FROM held)) AND status = 'doing'
    RETURNING id""")
proof.blocked()
holder.run("COMMIT")
proof.equal("moment: an attempt that started since is left alone", (operator.receive(), job(id)["status"]), ([], "doing"))
operator.run("ROLLBACK")
clear()

# Nobody else writes to the view.
worker = proof.worker()
id = proof.enqueue()
worker.wait("started", id=id)
operator = proof.operator()
for ending in ("", "Other"):
    operator.run(f"SET jobexec.ending = '{ending}'")
    refused = operator.refused(f"UPDATE {proof.relation} SET status = 'failed' WHERE id = {id}", "only the jobexec operator")
    proof.check(f"ending '{ending}': the view refuses it", *refused)
proof.check_nobody_else(
    [
        ("reading the jobs", f"SELECT FROM {JOBS}"),
        ("updating the jobs", f"UPDATE {JOBS} SET status = 'failed'"),
        ("writing an event", f"INSERT INTO public.procrastinate_events (job_id) VALUES ({id})"),
        ("updating a worker", "UPDATE public.procrastinate_workers SET last_heartbeat = now()"),
        ("finishing a job", f"SELECT public.procrastinate_finish_job_v1({id}, 'failed', false)"),
        ("deleting from the view", f"DELETE FROM {proof.relation}"),
        ("inserting into the view", f"INSERT INTO {proof.relation} (status) VALUES ('todo')"),
        ("another column of the view", f"UPDATE {proof.relation} SET attempt = 0"),
    ]
)
worker.kill()
clear()

# The plan.
admin.run(f"ALTER TABLE {JOBS} DISABLE TRIGGER USER")
admin.run(f"""
    INSERT INTO {JOBS} (queue_name, task_name, status)
    SELECT 'default', 'job', (CASE WHEN n % 40 = 0 THEN 'doing' ELSE 'succeeded' END)::public.procrastinate_job_status
    FROM generate_series(1, 200000) AS n""")
admin.run(f"""
    INSERT INTO public.procrastinate_events (job_id, type, at)
    SELECT id, type::public.procrastinate_job_event_type, now() - interval '2 hours'
    FROM {JOBS} CROSS JOIN unnest(ARRAY['deferred', 'started', 'succeeded']) AS type
    WHERE status <> 'doing' OR type <> 'succeeded'""")
admin.run(f"ALTER TABLE {JOBS} ENABLE TRIGGER USER")
admin.run(f"VACUUM ANALYZE {JOBS}")
admin.run("VACUUM ANALYZE public.procrastinate_events")
proof.check_plan("jobexec_procrastinate_running")
proof.equal("many: 5,000 rows are ended by one statement", len(proof.sweep("Fail")), 5000)
clear()

# Removed.
proof.apply("remove.sql")
proof.equal("removed: nothing is left", proof.objects(), [])
worker = proof.worker()
id = proof.enqueue()
worker.wait("started", id=id)
worker.tell("release")
proof.check("removed: a job succeeds", worker.wait("finished", id=id)["accepted"])
worker.stop()
proof.close()
