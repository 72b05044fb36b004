"""Proves the adapter of pg-boss with pg-boss's own client. Needs DATABASE_URL of a superuser, psql and npm."""

import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True
from play import Operator, Place, Session, check, end  # noqa: E402

place = Place(Path(__file__).resolve().parent, "pg-boss")
operator = Operator(
    "pgboss.jobexec_pg_boss", "active", "failed", "cancelled",
    {"id": "id", "status": "status", "start": "started_at", "end": "completed_at", "error": "error"},
)
SENTENCE = "DeadlineExceeded: it ran past its deadline, failed by the jobexec operator"


def one(id):
    return f"id = '{id}'"


def sweep(ending, where="true"):
    """Runs the operator's statement under the narrow role."""
    return place.psql(place.narrow, operator.sweep(ending, where) + "; COMMIT")


def enqueue(queue, *arguments):
    return [line["id"] for line in place.client("enqueue", "--queue", queue, *arguments)]


def queue(name, **options):
    place.client("queue", name, json.dumps(options))


def shown(id):
    return place.client("show", id)[0]


def started(worker, name, *arguments):
    """Sends a job and waits until the worker works it."""
    [id] = enqueue(name, *arguments)
    worker.wait("started", id)
    return id


def base(id, columns):
    """Returns columns of a job, read from the table."""
    name, _, uuid = id.partition("/")
    return place.sql(f"SELECT {columns} FROM pgboss.job AS job WHERE name = '{name}' AND id = '{uuid}'")[0]


def change(id, assignments):
    name, _, uuid = id.partition("/")
    place.sql(f"UPDATE pgboss.job SET {assignments} WHERE name = '{name}' AND id = '{uuid}'")


def ends(worker):
    id = started(worker, "wait")
    check("Fail: the operator reads failed", sweep("Fail", one(id)) == [[id, "failed"]])
    job = shown(id)
    check("Fail: state, end and output, with two retries left", (
        job["state"] == "failed" and job["completedOn"] and job["output"] == {"value": {"message": SENTENCE}}
        and job["heartbeatOn"] is None and job["retryCount"] == 0 and job["retryLimit"] == 2
    ), job)
    worker.say(f"release {id}")
    finish = worker.wait("finished", id)
    check("Fail: the finish of the live worker is not accepted", not finish["accepted"] and shown(id)["state"] == "failed", finish)
    check("Fail: pg-boss's retry() takes it up again", place.client("retry", id)[0]["affected"] == 1)
    check("Fail: and it runs as the second attempt", worker.wait("started", id)["attempt"] == 2)
    worker.say(f"release {id}")
    check("Fail: and completes", worker.wait("finished", id)["accepted"] and shown(id)["state"] == "completed")


def retries(worker):
    id = started(worker, "wait")
    check("Retry: the operator reads retry", sweep("Retry", one(id)) == [[id, "retry"]])
    check("Retry: the second attempt starts", worker.wait("started", id)["attempt"] == 2)
    job = shown(id)
    check("Retry: no end, the error as output", (
        job["completedOn"] is None and job["output"] == {"value": {"message": SENTENCE}}
    ), job)
    worker.say(f"release {id}")
    finishes = [worker.wait("finished", id), worker.wait("finished", id)]
    once = sorted(finish["accepted"] for finish in finishes) == [False, True]
    check("Retry: of two workers exactly one finishes it", once, finishes)
    check("Retry: it is completed", shown(id)["state"] == "completed")

    id = started(worker, "wait", "--max-attempts", 1)
    check("Retry: at pg-boss's limit the job fails", sweep("Retry", one(id)) == [[id, "failed"]])
    check("Retry: with its end", shown(id)["completedOn"] is not None)
    worker.say(f"release {id}")
    worker.wait("finished", id)

    id = started(worker, "wait", "--options", '{"retryDelay": 100}')
    sweep("Retry", one(id))
    due = "start_after - now() BETWEEN '95 s' AND '100 s'"
    row = base(id, f"state, started_on IS NOT NULL, heartbeat_on IS NULL, retry_count, {due}")
    check("Retry: after retryDelay, the other columns as pg-boss's own", row == ["retry", "t", "t", "0", "t"], row)
    worker.say(f"release {id}")
    worker.wait("finished", id)

    id = started(worker, "wait", "--options", '{"retryDelay": 100, "retryBackoff": true, "retryLimit": 9}')
    change(id, "retry_count = 2")
    sweep("Retry", one(id))
    row = base(id, "start_after - now() BETWEEN '395 s' AND '800 s'")
    check("Retry: with backoff after 4 to 8 times retryDelay in the third attempt", row == ["t"], row)
    worker.say(f"release {id}")
    worker.wait("finished", id)

    id = started(worker, "wait", "--options", '{"retryDelay": 100, "retryBackoff": true, "retryDelayMax": 7}')
    sweep("Retry", one(id))
    row = base(id, "start_after - now() BETWEEN '2 s' AND '7 s'")
    check("Retry: with backoff at most after retryDelayMax", row == ["t"], row)
    worker.say(f"release {id}")
    worker.wait("finished", id)


def fences(worker):
    """The attempt that was retried ends in every way while the second one runs."""
    for word in ("release", "fail"):
        id = started(worker, "wait")
        sweep("Retry", one(id))
        worker.wait("started", id)
        worker.say(f"{word} {id} 1")
        finish = worker.wait("finished", id)
        check(f"fence: {word} of the first attempt is not accepted", finish["attempt"] == 1 and not finish["accepted"], finish)
        check("fence: the second attempt still runs", base(id, "state, retry_count") == ["active", "1"])
        worker.say(f"release {id} 2")
        check("fence: and completes", worker.wait("finished", id)["accepted"] and shown(id)["state"] == "completed")


def cancels(worker):
    id, own = started(worker, "wait"), started(worker, "wait")
    check("Cancel: the operator reads cancelled", sweep("Cancel", one(id)) == [[id, "cancelled"]])
    place.client("cancel", own)
    columns = "state, completed_on IS NOT NULL, output IS NULL, heartbeat_on IS NULL, retry_count"
    check("Cancel: as by pg-boss's cancel()", base(id, columns) == base(own, columns), base(id, columns))
    worker.say(f"release {id}")
    check("Cancel: the finish of the live worker is not accepted", not worker.wait("finished", id)["accepted"])
    worker.say(f"release {own}")
    worker.wait("finished", own)


def letters(worker):
    """Each dead letter is as pg-boss's own."""
    queue("dead", retryLimit=7, retryDelay=3, retryBackoff=True, expireInSeconds=77)
    queue("lettered", deadLetter="dead")
    place.sql("UPDATE pgboss.queue SET retention_seconds = 1000 WHERE name = 'dead'")
    worker = place.start("work", "--queue", "lettered")
    options = '{"priority": 5, "singletonKey": "%s", "group": {"id": "g"}}'
    mine = started(worker, "lettered", "--max-attempts", 1, "--options", options % "mine")
    own = started(worker, "lettered", "--max-attempts", 1, "--options", options % "own")
    worker.say(f"fail {own}")
    worker.wait("finished", own)
    check("dead letter: the job fails at its limit", sweep("Retry", one(mine)) == [[mine, "failed"]])
    letters = {job["singletonKey"]: job for job in place.client("list", "dead")}
    check("dead letter: one each", set(letters) == {"mine", "own"}, letters)
    same = [key for key in letters["own"] if key not in (
        "id", "singletonKey", "sourceId", "sourceRootId", "sourceOutput", "sourceCreatedOn", "createdOn", "startAfter", "keepUntil"
    )]
    differing = [key for key in same if letters["own"][key] != letters["mine"][key]]
    check(f"dead letter: {len(same)} fields as in pg-boss's own", not differing, differing)
    letter = letters["mine"]
    check("dead letter: it names its job, and why", (
        mine.endswith(letter["sourceId"]) and letter["sourceRootId"] == letter["sourceId"] and letter["sourceName"] == "lettered"
        and letter["sourceOutput"] == {"value": {"message": SENTENCE}}
    ), letter)
    row = place.sql("SELECT DISTINCT keep_until - created_on, start_after = created_on FROM pgboss.job WHERE name = 'dead'")
    check("dead letter: times as in pg-boss's own", len(row) == 1, row)

    id = started(worker, "lettered")
    sweep("Retry", one(id))
    check("dead letter: none for a retry", len(place.client("list", "dead")) == 2)
    worker.say("release")
    worker.wait("finished", id)
    id = started(worker, "lettered")
    sweep("Fail", one(id))
    letters = place.client("list", "dead")
    check("dead letter: one for a Fail with retries left, as by the disposition deadletter", len(letters) == 3, letters)
    worker.say("release")
    worker.close()


def heartbeats():
    queue("beat", heartbeatSeconds=10)
    worker, plain = place.start("work", "--queue", "beat"), place.start("work", "--queue", "wait")
    beating, id = started(worker, "beat"), started(plain, "wait")
    rows = place.psql(place.narrow, f"""
        SELECT job_type, heartbeat_at IS NULL, heartbeat_timeout, timeout FROM pgboss.jobexec_pg_boss
        WHERE id IN ('{beating}', '{id}') ORDER BY id""")
    check("a heartbeat counts only where one is asked for", rows == [
        ["beat", "f", "00:00:10", "00:15:00"], ["wait", "t", "", "00:15:00"]
    ], rows)
    sweep("Fail", one(beating))
    stopped = worker.wait("stopped", beating)
    check("the heartbeat tells a live worker to stop", "no longer active" in stopped["cause"], stopped)
    worker.say("release")
    check("and its finish is not accepted", not worker.wait("finished", beating)["accepted"])
    plain.say("release")
    check("the other completes", plain.wait("finished", id)["accepted"])
    worker.close()
    plain.close()


def policies():
    """A retry whose place is taken ends as pg-boss's own does."""
    queue("stately", policy="stately", retryLimit=3, retryDelay=1000)
    outcomes = {}
    for key in ("mine", "own"):
        worker = place.start("work", "--queue", "stately")
        options = json.dumps({"singletonKey": key})
        first = started(worker, "stately", "--options", options)
        worker.say(f"fail {first}")
        worker.wait("finished", first)
        second = started(worker, "stately", "--options", options)
        if key == "own":
            worker.say(f"fail {second}")
            worker.wait("finished", second)
        else:
            rows = sweep("Retry", "job_type = 'stately'")
            check("stately: the place of the key is taken, the job fails", rows == [[second, "failed"]], rows)
        columns = "state, completed_on IS NOT NULL, retry_count, output IS NOT NULL, heartbeat_on IS NULL"
        outcomes[key] = base(second, columns)
        worker.kill()
    check("stately: as pg-boss's own", outcomes["mine"] == outcomes["own"], outcomes)
    for policy in ("short", "singleton", "stately", "exclusive", "key_strict_fifo"):
        name = f"policy_{policy}"
        queue(name, policy=policy)
        worker = place.start("work", "--queue", name)
        id = started(worker, name, "--options", '{"singletonKey": "k"}')
        check(f"{policy}: a retry", sweep("Retry", one(id)) == [[id, "retry"]])
        check(f"{policy}: starts", worker.wait("started", id)["attempt"] == 2)
        worker.say(f"release {id}")
        finishes = [worker.wait("finished", id), worker.wait("finished", id)]
        check(f"{policy}: and completes once", sorted(finish["accepted"] for finish in finishes) == [False, True], finishes)
        worker.kill()


def same_ids():
    """Jobs of two queues with one id are two executions."""
    queue("twin1")
    queue("twin2", partition=True)
    uuid = "11111111-1111-1111-1111-111111111111"
    workers = []
    for name in ("twin1", "twin2"):
        workers.append(place.start("work", "--queue", name))
        started(workers[-1], name, "--options", json.dumps({"id": uuid}))
    rows = sweep("Fail", one(f"twin1/{uuid}"))
    check("jobs of two queues with the same id: one ends", rows == [[f"twin1/{uuid}", "failed"]], rows)
    workers[1].say("release")
    check("and the other completes", workers[1].wait("finished", f"twin2/{uuid}")["accepted"])
    id = started(workers[1], "twin2")
    check("a queue with a table of its own", sweep("Retry", one(id)) == [[id, "retry"]])
    workers[1].wait("started", id)
    workers[1].say(f"release {id}")
    for worker in workers:
        worker.kill()
    worker = place.start("work", "--queue", "early")
    id = started(worker, "early")
    check("and one that was there before the adapter", sweep("Fail", one(id)) == [[id, "failed"]])
    worker.kill()


def killed():
    worker = place.start("work", "--queue", "killed")
    id = started(worker, "killed")
    worker.kill()
    check("SIGKILL: the job stays active", shown(id)["state"] == "active")
    check("SIGKILL: the operator retries it", sweep("Retry", one(id)) == [[id, "retry"]])
    worker = place.start("work", "--queue", "killed")
    check("SIGKILL: another worker takes the second attempt", worker.wait("started", id)["attempt"] == 2)
    worker.say(f"release {id}")
    check("SIGKILL: and completes it", worker.wait("finished", id)["accepted"])
    worker.close()


# Of pg-boss's statement that expires jobs, of which the view shows the first 1,024 bytes.
EXPIRY_WAITS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%picked AS%'"""


def beside():
    """pg-boss's supervisor and the operator at the same moment: one wins."""
    for name, options, lapse, sentence in (
        ("expiring", {}, "started_on = now() - interval '1 day'", "job timed out"),
        ("silent", {"heartbeatSeconds": 10}, "heartbeat_on = now() - interval '1 day'", "job heartbeat timeout"),
    ):
        queue(name, retryDelay=1000, **options)
        worker = place.start("work", "--queue", name)
        id, other = started(worker, name), started(worker, name)
        worker.kill()

        change(id, lapse)
        session = Session(place.narrow)
        check(f"{sentence}: the operator is first", session.run(operator.sweep("Retry", one(id))) == [[id, "retry"]])
        supervisor = place.start("rescue", name)
        place.until(EXPIRY_WAITS, [["1"]])
        session.run("COMMIT")
        supervisor.wait("rescued")
        job = shown(id)
        check(f"{sentence}: exactly one retry, the operator's", (
            job["state"] == "retry" and job["retryCount"] == 0 and job["output"] == {"value": {"message": SENTENCE}}
        ), job)

        change(other, lapse)
        place.sql(f"UPDATE pgboss.queue SET monitor_claim_on = NULL, monitor_on = NULL WHERE name = '{name}'")
        holder = Session(place.url)
        holder.run(f"BEGIN; SELECT FROM pgboss.job WHERE name = '{name}' AND state = 'active' FOR UPDATE")
        supervisor = place.start("rescue", name)
        place.until(EXPIRY_WAITS, [["1"]])
        check(f"{sentence}: the supervisor is first, the operator skips the locked row", sweep("Retry", one(other)) == [])
        holder.run("COMMIT")
        supervisor.wait("rescued")
        check(f"{sentence}: then the job no longer runs", sweep("Retry", one(other)) == [])
        theirs = shown(other)
        check(f"{sentence}: exactly one retry, pg-boss's", theirs["output"] == {"value": {"message": sentence}}, theirs)
        differing = [key for key in job if job[key] != theirs[key] and key not in (
            "id", "output", "startAfter", "createdOn", "startedOn", "keepUntil"
        )]
        check(f"{sentence}: {len(job) - 6} fields are the same in both", not differing, differing)
        session.close()
        holder.close()


def finishing(worker):
    id = started(worker, "wait")
    name, _, uuid = id.partition("/")
    holder = Session(place.url)
    holder.run(f"BEGIN; UPDATE pgboss.job SET state = 'completed', completed_on = now() WHERE name = '{name}' AND id = '{uuid}'")
    check("a job whose finish is not committed is left", sweep("Fail", one(id)) == [])
    holder.run("COMMIT")
    check("and stays completed", sweep("Fail", one(id)) == [] and shown(id)["state"] == "completed")
    holder.close()
    worker.say(f"release {id}")
    worker.wait("finished", id)


def narrow(worker):
    id = started(worker, "wait")
    check("the narrow role runs the statement", place.refused(operator.sweep("Fail") + "; ROLLBACK") == "")
    for sql in (
        "UPDATE pgboss.job SET state = 'failed'", "SELECT FROM pgboss.job", "INSERT INTO pgboss.queue (name) VALUES ('x')",
        "UPDATE pgboss.jobexec_pg_boss SET job_type = 'x'", "SELECT data FROM pgboss.job",
        "DELETE FROM pgboss.jobexec_pg_boss", "SELECT pgboss.jobexec_pg_boss()", "SELECT FROM pgboss.queue",
    ):
        refusal = place.refused(sql)
        check(f"refused: {sql}", "permission denied" in refusal, refusal)
    for setting, status in (
        ("", "failed"), ("Fail", "completed"), ("Cancel", "failed"), ("Retry", "retry"), ("Other", "failed"),
    ):
        rows = place.psql(place.narrow, f"""
            BEGIN; SET LOCAL jobexec.ending = '{setting}';
            UPDATE pgboss.jobexec_pg_boss SET status = '{status}' WHERE id = '{id}' RETURNING id; COMMIT""")
        check(f"with the ending '{setting}', {status} does nothing", rows == [] and shown(id)["state"] == "active", rows)
    rows = place.psql(place.narrow, f"UPDATE pgboss.jobexec_pg_boss SET status = 'failed' WHERE id = '{id}' RETURNING id")
    check("without an ending, failed does nothing", rows == [] and shown(id)["state"] == "active", rows)
    worker.say(f"release {id}")
    check("and the job completes", worker.wait("finished", id)["accepted"])


def own(worker, what):
    """The application's own updates, without the operator."""
    id = started(worker, "wait")
    worker.say(f"release {id}")
    check(f"{what}: a job completes", worker.wait("finished", id)["accepted"] and shown(id)["state"] == "completed")
    id = started(worker, "wait", "--max-attempts", 1)
    worker.say(f"fail {id}")
    worker.wait("finished", id)
    check(f"{what}: a job fails", shown(id)["state"] == "failed" and shown(id)["output"]["message"] == "told to fail")


def objects():
    return place.sql("""
        SELECT 't', tgname, tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT 'p', proname, NULL FROM pg_proc WHERE pronamespace = 'pgboss'::regnamespace
        UNION ALL SELECT 'c', relname, NULL FROM pg_class WHERE relnamespace = 'pgboss'::regnamespace ORDER BY 1, 2, 3""")


def plan():
    """A statement over many rows uses the partial indexes."""
    place.sql("""
        INSERT INTO pgboss.job (name, state, started_on, completed_on, policy)
        SELECT 'wait', CASE WHEN i % 100 = 0 THEN 'active' ELSE 'completed' END::pgboss.job_state,
               now() - make_interval(secs => i), CASE WHEN i % 100 <> 0 THEN now() END, 'standard'
        FROM generate_series(1, 200000) AS i;
        ANALYZE pgboss.job_common""")
    text = json.dumps(place.sql("""
        EXPLAIN SELECT id FROM pgboss.jobexec_pg_boss AS execution WHERE status IN ('active') AND started_at < now()
        ORDER BY started_at LIMIT 5000 FOR NO KEY UPDATE OF execution SKIP LOCKED"""))
    served = "jobexec_pg_boss_common_running on job_common" in text
    check("200,000 rows: running ones are found by the partial index", served, text)
    text = json.dumps(place.sql("""
        EXPLAIN SELECT id FROM pgboss.jobexec_pg_boss WHERE status IN ('active') AND id = ANY (ARRAY['wait/x', 'y'])"""))
    check("200,000 rows: and by their id", "jobexec_pg_boss_common_running_id" in text, text)
    rows = sweep("Retry", "job_type = 'wait'")
    check("2,000 rows in one statement", len(rows) == 2000 and all(status == "retry" for _, status in rows), len(rows))
    place.sql("DELETE FROM pgboss.job WHERE name = 'wait'")


def main():
    place.client("setup")
    queue("wait")
    queue("early", partition=True)
    before = objects()
    place.install("pgboss", "install.sql", "grants.sql", "indexes.sql")
    once = objects()
    place.install("pgboss", "install.sql", "grants.sql", "indexes.sql")
    check("applied twice, nothing changes", objects() == once and once != before)
    drift = place.client("drift")[0]
    check("pg-boss's own check of its schema is content", drift["ok"] and drift["invalid"] == [], drift)

    worker = place.start("work")
    own(worker, "installed")
    ends(worker)
    retries(worker)
    fences(worker)
    cancels(worker)
    finishing(worker)
    narrow(worker)
    check("the worker stops in peace", worker.close() == 0)
    letters(worker)
    heartbeats()
    policies()
    same_ids()
    killed()
    beside()
    plan()
    drift = place.client("drift")[0]
    check("pg-boss's own check of its schema is content with a later queue too", drift["ok"] and drift["invalid"] == [], drift)
    place.sql("SELECT pgboss.delete_queue('twin2')")
    place.install("pgboss", "remove.sql")
    check("removed: everything is as before", objects() == before)
    place.install("pgboss", "remove.sql")
    worker = place.start("work")
    own(worker, "removed")
    worker.close()


try:
    main()
finally:
    place.drop()
end()
