"""Proves the adapter of River with River's own client. Needs DATABASE_URL of a superuser, psql and Go."""

import json
import sys
from datetime import datetime
from pathlib import Path

sys.dont_write_bytecode = True
from play import Operator, Place, Session, check, end  # noqa: E402

place = Place(Path(__file__).resolve().parent, "river")
operator = Operator(
    "public.river_job", "running", "discarded", "cancelled",
    {"id": "id", "status": "state", "start": "attempted_at", "end": "finalized_at"},
)


REMOTELY = "JobCancelError: job cancelled remotely"


def one(id):
    return f"id = {id}"


def sweep(ending, where="true"):
    """Runs the operator's statement under the narrow role."""
    return place.psql(place.narrow, operator.sweep(ending, where) + "; COMMIT")


def enqueue(*arguments):
    return [line["id"] for line in place.client("enqueue", *arguments)]


def shown(id):
    return place.client("show", id)[0]


def started(worker, *arguments):
    """Inserts a job and waits until the worker works it."""
    [id] = enqueue(*arguments)
    worker.wait("started", id)
    return id


def time_of(text):
    return datetime.fromisoformat(text[:19])


def again_within(id, errors, least, most):
    """Reports whether a job is due again so long after its error with this number."""
    return place.sql(f"""
        SELECT scheduled_at - (errors[{errors}] ->> 'at')::timestamptz BETWEEN '{least}' AND '{most}'
        FROM river_job WHERE id = {id}""") == [["t"]]


def ends(worker):
    """A live worker is ended and told to stop; its finish changes nothing."""
    id = started(worker)
    check("Fail: the operator reads discarded", sweep("Fail", one(id)) == [[id, "discarded"]])
    check("Fail: the live worker is asked to stop", worker.wait("stopped", id)["cause"] == REMOTELY)
    finish = worker.wait("finished", id)
    check("Fail: its finish is not accepted", not finish["accepted"] and finish["state"] == "discarded", finish)
    job = shown(id)
    error = job["errors"][0]
    check("Fail: state, end, one error, one rescue, as the rescuer leaves it", (
        job["state"] == "discarded" and job["finalized_at"] and len(job["errors"]) == 1
        and error["attempt"] == 1 and error["trace"] == "" and "jobexec" in error["error"] and time_of(error["at"])
        and job["metadata"] == {"river:rescue_count": 1}
    ), job)

    id = started(worker, "--stubborn")
    sweep("Fail", one(id))
    worker.wait("stopped", id)
    worker.say(f"release {id}")
    finish = worker.wait("finished", id)
    check("Fail: the finish of a worker that does not stop is not accepted", (
        not finish["accepted"] and shown(id)["state"] == "discarded"
    ), finish)


def retries(worker):
    id = started(worker)
    check("Retry: the operator reads retryable", sweep("Retry", one(id)) == [[id, "retryable"]])
    worker.wait("stopped", id)
    job = shown(id)
    delay = again_within(id, 1, "0.89 s", "1.11 s")
    check("Retry: no end, one error, one rescue, again in one second, 10% more or less", (
        job["state"] in ("retryable", "available", "running") and job["finalized_at"] is None and len(job["errors"]) == 1
        and job["metadata"] == {"river:rescue_count": 1, "jobexec:retried": 1} and delay
    ), job)
    check("Retry: the second attempt starts", worker.wait("started", id)["attempt"] == 2)
    worker.say(f"release {id}")
    check("Retry: and completes", worker.wait("finished", id)["accepted"] and shown(id)["state"] == "completed")

    id = started(worker, "--max-attempts", 1)
    check("Retry: at River's limit the job is discarded", sweep("Retry", one(id)) == [[id, "discarded"]])
    check("Retry: with its end", shown(id)["finalized_at"] is not None)

    id = started(worker)
    place.sql(f"UPDATE river_job SET errors = array_fill('{{}}'::jsonb, ARRAY[3]) WHERE id = {id}")
    sweep("Retry", one(id))
    check("Retry: after three errors in 256 seconds, 10% more or less", again_within(id, 4, "230 s", "282 s"))


def fences():
    """An old attempt that does not stop finishes while the second runs."""
    old, new = place.start("work", "--queue", "fence"), place.start("work", "--queue", "elsewhere")
    for word, arguments in (("fail", "errors"), ("snooze", "attempt")):
        id = started(old, "--stubborn", "--queue", "fence")
        sweep("Retry", one(id))
        old.wait("stopped", id)
        place.sql(f"UPDATE river_job SET queue = 'elsewhere' WHERE id = {id}")
        new.wait("started", id)
        old.say(f"{word} {id}")
        old.wait("returned", id)
        # The completer works in order: when a later job has finished, the earlier finish has been tried.
        later = started(old, "--queue", "fence")
        old.say(f"release {later}")
        old.wait("finished", later)
        check(f"fence: {word} of the old attempt leaves the second running", shown(id)["state"] == "running", shown(id))
        new.say(f"release {id}")
        check("fence: the second completes", new.wait("finished", id)["accepted"])

    id = started(old, "--stubborn", "--queue", "fence")
    sweep("Retry", one(id))
    old.wait("stopped", id)
    place.sql(f"UPDATE river_job SET queue = 'elsewhere' WHERE id = {id}")
    new.wait("started", id)
    old.say(f"release {id}")
    check("limit: River accepts that a stubborn old attempt completes the job", old.wait("finished", id)["accepted"])
    new.say(f"release {id}")
    new.wait("returned", id)
    finish = new.wait("finished", id)
    check("limit: the job then stays completed, with one error", (
        finish["state"] == "completed" and len(shown(id)["errors"]) == 1
    ), finish)
    old.close()
    new.close()


def cancels(worker):
    id = started(worker)
    check("Cancel: the request leaves it running", sweep("Cancel", one(id)) == [[id, "running"]])
    check("Cancel: the live worker is asked to stop", worker.wait("stopped", id)["cause"] == REMOTELY)
    finish = worker.wait("finished", id)
    job = shown(id)
    check("Cancel: River itself makes it cancelled", finish["state"] == "cancelled" and job["state"] == "cancelled", job)
    [other] = enqueue("--queue", "nobody")
    asked = place.client("cancel", other)[0]["metadata"]
    check("Cancel: the request is as JobCancel's", set(job["metadata"]) == set(asked) == {"cancel_attempted_at"}, (job, asked))

    id = started(worker, "--stubborn")
    sweep("Cancel", one(id))
    asked = shown(id)["metadata"]
    worker.wait("stopped", id)
    check("Cancel: a second one within two minutes waits", sweep("Cancel", one(id)) == [[id, "running"]])
    check("Cancel: and does not move the request", shown(id)["metadata"] == asked)
    place.sql(f"""UPDATE river_job SET metadata = metadata || jsonb_build_object('cancel_attempted_at', now() - interval '3 min')
                  WHERE id = {id}""")
    check("Cancel: after two minutes it ends as cancelled", sweep("Cancel", one(id)) == [[id, "cancelled"]])
    worker.say(f"release {id}")
    finish = worker.wait("finished", id)
    job = shown(id)
    check("Cancel: the finish of the worker that did not stop is not accepted", (
        not finish["accepted"] and job["state"] == "cancelled"
        and len(job["errors"]) == 1 and job["metadata"]["river:rescue_count"] == 1
    ), job)

    id = started(worker, "--stubborn")
    place.sql(f"UPDATE river_job SET metadata = '{{\"cancel_attempted_at\": \"nonsense\"}}' WHERE id = {id}")
    check("Cancel: a request that is no time does not keep a job", sweep("Cancel", one(id)) == [[id, "cancelled"]])
    worker.say(f"release {id}")

    id = started(worker, "--stubborn")
    place.client("cancel", id)
    worker.wait("stopped", id)
    rows = sweep("Retry", one(id))
    check("Retry of a job that a person cancelled: cancelled, as by the rescuer", rows == [[id, "cancelled"]], rows)
    worker.say(f"release {id}")


def killed():
    worker = place.start("work", "--queue", "killed")
    id = started(worker, "--queue", "killed")
    worker.kill()
    check("SIGKILL: the job stays running", shown(id)["state"] == "running")
    check("SIGKILL: the operator retries it", sweep("Retry", one(id)) == [[id, "retryable"]])
    worker = place.start("work", "--queue", "killed")
    check("SIGKILL: another worker takes the second attempt", worker.wait("started", id)["attempt"] == 2)
    worker.say(f"release {id}")
    check("SIGKILL: and completes it", worker.wait("finished", id)["accepted"])
    worker.close()


WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%{}%'"""


def beside():
    """River's rescuer, which only a leader runs, and the operator at the same moment: one wins."""
    worker = place.start("work", "--follow", "--queue", "beside")
    id = started(worker, "--queue", "beside")
    other = started(worker, "--queue", "beside")
    worker.kill()

    session = Session(place.narrow)
    check("both at once: the operator is first", session.run(operator.sweep("Retry", one(id))) == [[id, "retryable"]])
    rescuer = place.start("rescue")
    place.until(WAITING.format("river:rescue_count"), [["1"]])
    session.run("COMMIT")
    rescuer.wait("rescued")
    job = shown(id)
    check("both at once: exactly one retry", len(job["errors"]) == 1 and job["metadata"]["river:rescue_count"] == 1, job)
    check("both at once: it is the operator's", "jobexec" in job["errors"][0]["error"])
    rescuer.close()
    job = shown(other)
    check("the other is retried by River: the same fields", (
        set(job["errors"][0]) == {"at", "attempt", "error", "trace"} and job["metadata"] == {"river:rescue_count": 1}
        and job["state"] in ("retryable", "available")
    ), job)

    worker = place.start("work", "--follow", "--queue", "beside2")
    id = started(worker, "--queue", "beside2")
    worker.kill()
    holder = Session(place.url)
    holder.run(f"BEGIN; SELECT FROM river_job WHERE id = {id} FOR UPDATE")
    rescuer = place.start("rescue")
    place.until(WAITING.format("river:rescue_count"), [["1"]])
    check("both at once: the rescuer is first, the operator skips the locked row", sweep("Retry", one(id)) == [])
    holder.run("COMMIT")
    rescuer.wait("rescued")
    check("both at once: then the job no longer runs", sweep("Retry", one(id)) == [])
    job = shown(id)
    check("both at once: exactly one retry, River's", len(job["errors"]) == 1 and job["metadata"]["river:rescue_count"] == 1, job)
    rescuer.close()
    holder.close()
    session.close()


def finishing(worker):
    id = started(worker)
    holder = Session(place.url)
    holder.run(f"BEGIN; UPDATE river_job SET state = 'completed', finalized_at = now() WHERE id = {id}")
    check("a job whose finish is not committed is left", sweep("Fail", one(id)) == [])
    holder.run("COMMIT")
    check("and stays completed", sweep("Fail", one(id)) == [] and shown(id)["state"] == "completed")
    holder.close()
    worker.say(f"release {id}")


def narrow():
    ended = operator.sweep("Fail") + "; ROLLBACK"
    check("the narrow role runs the statement", place.refused(ended) == "")
    for sql in (
        "UPDATE river_job SET errors = NULL", "UPDATE river_job SET max_attempts = 9",
        "SELECT args FROM river_job", "DELETE FROM river_job", "INSERT INTO river_job (kind) VALUES ('x')",
        "SELECT FROM river_leader", "UPDATE river_queue SET name = 'x'",
        "SELECT jobexec_river()", "DROP TRIGGER jobexec_river ON river_job",
    ):
        check(f"refused: {sql}", "permission denied" in place.refused(sql) or "must be owner" in place.refused(sql))


def own(worker, what):
    """The application's own updates, without the operator."""
    id = started(worker)
    worker.say(f"release {id}")
    check(f"{what}: a job completes", worker.wait("finished", id)["accepted"] and shown(id)["metadata"] == {})
    id = started(worker, "--max-attempts", 1)
    worker.say(f"fail {id}")
    worker.wait("finished", id)
    job = shown(id)
    check(f"{what}: a job fails", (
        job["state"] == "discarded" and job["errors"][0]["error"] == "told to fail" and job["metadata"] == {}
    ), job)


def objects():
    return place.sql("""
        SELECT 't', oid, tgname, tgrelid FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT 'p', oid, proname, 0 FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT 'c', oid, relname, 0 FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 3""")


def plan():
    """A statement over many rows uses the partial index."""
    place.sql("""
        INSERT INTO river_job (kind, max_attempts, state, attempt, attempted_at, finalized_at, args)
        SELECT 'bulk', 25, CASE WHEN i % 100 = 0 THEN 'running' ELSE 'completed' END::river_job_state,
               1, now() - make_interval(secs => i), CASE WHEN i % 100 <> 0 THEN now() END, '{}'
        FROM generate_series(1, 200000) AS i;
        ANALYZE river_job""")
    text = json.dumps(place.sql("EXPLAIN SELECT id FROM river_job AS execution WHERE state IN ('running') AND attempted_at < now() "
                                "ORDER BY attempted_at LIMIT 5000 FOR NO KEY UPDATE OF execution SKIP LOCKED"))
    served = "jobexec_river_running on" in text and "Seq Scan" not in text
    check("200,000 rows: running ones are found by the partial index", served, text)
    rows = sweep("Retry", "kind = 'bulk'")
    check("2,000 rows in one statement", len(rows) == 2000 and all(status == "retryable" for _, status in rows), len(rows))
    place.sql("DELETE FROM river_job WHERE kind = 'bulk'")


def main():
    place.client("setup")
    before = objects()
    place.install("public", "install.sql", "grants.sql", "indexes.sql")
    once = objects()
    place.install("public", "install.sql", "grants.sql", "indexes.sql")
    check("applied twice, nothing changes", objects() == once and once != before)

    worker = place.start("work")
    own(worker, "installed")
    ends(worker)
    retries(worker)
    cancels(worker)
    finishing(worker)
    narrow()
    killed()
    fences()
    check("the worker stops in peace", worker.close() == 0)
    beside()
    plan()
    place.install("public", "remove.sql")
    check("removed: everything is as before", objects() == before)
    place.install("public", "remove.sql")
    worker = place.start("work")
    own(worker, "removed")
    worker.close()


try:
    main()
finally:
    place.drop()
end()
