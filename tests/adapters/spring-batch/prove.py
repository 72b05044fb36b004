#!/usr/bin/env python3
"""Proves the adapter spring-batch against real workers of Spring Batch, in a database of its own on the server of DATABASE_URL."""

import sys
from datetime import datetime

sys.dont_write_bytecode = True
from harness import ADAPTER, ADMIN, DATABASE, ROLE, Client, Session, apply, psql, sweep, sweep_sql

failures = 0


def check(what, good, seen=""):
    global failures
    failures += not good
    print(f"ok {what}" if good else f"FAILED {what}: {seen}", flush=True)


def work(*arguments, pause=""):
    """Starts a worker, and waits for its first pause or its end."""
    worker = Client("work", *arguments, "--pause", pause)
    return worker, worker.until("paused", "finished", "refused")


def complete(*arguments):
    return work(*arguments)[1]


def rows(sql):
    return [line.split("|") for line in psql(sql).splitlines()]


def written_once(run):
    """Reports whether each item of both steps was written exactly once, however many executions it took."""
    return psql(f"SELECT count(*), count(DISTINCT (step, item)) FROM written WHERE run = '{run}'") == "60|60"


def prepare():
    psql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE);", ADMIN)
    psql(f"DROP ROLE IF EXISTS {ROLE};", ADMIN)
    psql(f"CREATE DATABASE {DATABASE};", ADMIN)
    psql(f"CREATE ROLE {ROLE};", ADMIN)
    Client("setup").until("ready")


def applied_twice():
    state = """SELECT 'trigger', oid, xmin FROM pg_trigger WHERE tgname LIKE 'jobexec%'
        UNION ALL SELECT 'index', oid, xmin FROM pg_class WHERE relname LIKE 'jobexec%' AND relkind = 'i' ORDER BY 1, 2"""
    for name in ("install.sql", "grants.sql", "indexes.sql"):
        apply(name)
    first = psql(state)
    for name in ("install.sql", "grants.sql", "indexes.sql"):
        apply(name)
    check("applied twice: the second time replaces no trigger and no index",
          first == psql(state) and first.count("trigger") == 3, first)
    keys = "mode IN ('ShareRowExclusiveLock', 'AccessExclusiveLock') AND relation::regclass::text LIKE 'batch%'"
    again = (ADAPTER / "install.sql").read_text().replace("@schema@", "public")
    held = psql(f"BEGIN; {again} SELECT count(*) FROM pg_locks WHERE {keys}; ROLLBACK;")
    check("the second time takes no lock that makes writers wait", held == "0", held)


def unaffected():
    for run, options in (("plain", ()), ("legacy", ("--kind", "tasklet")), ("flow", ("--flow",))):
        end = complete("--run", run, *options)
        check(f"a normal job completes while the adapter is installed ({run})",
              end["status"] == "COMPLETED" and end["accepted"] and written_once(run), end)


def killed(shell, action):
    """A worker is killed in mid-job, after its first chunk is saved."""
    run = f"killed-{action}"
    worker, at = work("--run", run, pause="chunk")
    id = at["id"]
    at = worker.go()
    saved = psql(f"SELECT max(last_updated) FROM jobexec_spring_batch_heartbeats WHERE job_execution_id = {id}")
    newest = psql(f"SELECT last_updated FROM batch_step_execution WHERE job_execution_id = {id}")
    check("the sign of life is that of the step, which moves with each chunk", saved == newest != "", (saved, newest))
    worker.kill()
    refused = complete("--run", run)
    check("before: the killed execution cannot be restarted",
          refused.get("error") == "JobExecutionAlreadyRunningException", refused)
    versions = rows(f"SELECT version FROM batch_job_execution WHERE job_execution_id = {id} UNION ALL "
                    f"SELECT version FROM batch_step_execution WHERE job_execution_id = {id}")
    ended = sweep(action, id)
    want = "STOPPED" if action == "Cancel" else "FAILED"
    check(f"{action}: RETURNING says {want}", ended == f"{id}|{want}", ended)
    now = rows(f"SELECT version FROM batch_job_execution WHERE job_execution_id = {id} UNION ALL "
               f"SELECT version FROM batch_step_execution WHERE job_execution_id = {id}")
    check(f"{action}: one version more on both rows", [[str(int(v[0]) + 1)] for v in versions] == now, (versions, now))
    shown = shell.ask(f"show {id}")
    steps = shown["steps"]
    check(f"{action}: the JobRepository shows the execution and its step {want}, with exit code and reason, and not running",
          (shown["status"], shown["exitCode"], shown["running"], shown["findsRunning"]) == (want, want, False, False)
          and shown["message"].startswith("HeartbeatLost: ") and len(steps) == 1
          and (steps[0]["status"], steps[0]["exitCode"], steps[0]["ended"]) == (want, want, shown["ended"]), shown)
    apart = abs((datetime.fromisoformat(shown["now"][:26]) - datetime.fromisoformat(shown["ended"])).total_seconds())
    check(f"{action}: the end is in the time zone of the JVM", apart < 600, shown)
    worker = Client("work", "--run", run)
    opened = worker.until("opened", "refused")
    end = worker.until("finished", "refused")
    check(f"{action}: the restarted job resumes at the saved position 10 and completes",
          opened.get("position") == 10 and end["status"] == "COMPLETED" and written_once(run), (opened, end))
    check(f"{action}: a completed job does not run again",
          complete("--run", run).get("error") == "JobInstanceAlreadyCompleteException")


def fenced(run, *options, restart_beside=False):
    """The worker lives: its next chunk is refused, and it does not overwrite the end."""
    worker, at = work("--run", run, *options, pause="chunk")
    id = at["id"]
    worker.go()
    sweep("Fail", id)
    before = rows(f"SELECT status, exit_code, exit_message, end_time FROM batch_job_execution WHERE job_execution_id = {id}")
    steps = rows(f"SELECT * FROM batch_step_execution WHERE job_execution_id = {id}")
    if restart_beside:
        beside = complete("--run", run, *options)
        check(f"the job restarts and completes while the old worker is in mid-chunk ({run})",
              beside.get("status") == "COMPLETED", beside)
    end = worker.release()
    check(f"a live worker is refused at its next chunk ({run})",
          not end["accepted"] and "OptimisticLockingFailureException" in end["errors"], end)
    after = rows(f"SELECT status, exit_code, exit_message, end_time FROM batch_job_execution WHERE job_execution_id = {id}")
    check(f"it overwrites neither the execution nor its steps ({run})",
          before == after and steps == rows(f"SELECT * FROM batch_step_execution WHERE job_execution_id = {id}"), after)
    end = beside if restart_beside else complete("--run", run, *options)
    check(f"the job restarts and writes each item once ({run})", end.get("status") == "COMPLETED" and written_once(run), end)


def between_steps(shell):
    worker, at = work("--run", "between", pause="afterStep")
    sweep("Fail", at["id"])
    end = worker.release()
    shown = shell.ask(f"show {at['id']}")
    check("a worker between two steps gets no second step, and the execution stays failed",
          not end["accepted"] and (shown["status"], len(shown["steps"])) == ("FAILED", 1), (end, shown))
    check("the job restarts with its second step",
          complete("--run", "between")["status"] == "COMPLETED" and written_once("between"))
    worker, at = work("--run", "last", pause="afterStep")
    worker.go()
    sweep("Fail", at["id"])
    end = worker.release()
    shown = shell.ask(f"show {at['id']}")
    check("a worker after its last chunk does not overwrite FAILED with COMPLETED",
          (shown["status"], shown["exitCode"]) == ("FAILED", "FAILED") and shown["message"].startswith("HeartbeatLost: "), shown)
    check("the restarted job has nothing left to do and completes",
          complete("--run", "last")["status"] == "COMPLETED" and written_once("last"))
    worker, at = work("--run", "before", pause="beforeJob")
    sweep("Fail", at["id"])
    end = worker.release()
    shown = shell.ask(f"show {at['id']}")
    check("a worker before its first step gets none",
          not end["accepted"] and (shown["status"], shown["steps"]) == ("FAILED", []), shown)
    check("the job restarts from its beginning", complete("--run", "before")["status"] == "COMPLETED" and written_once("before"))


def starting(shell):
    """The process died, or an executor is still busy, before the execution began."""
    id = shell.ask("enqueue queued")["id"]
    row = psql(f"SELECT * FROM jobexec_spring_batch_heartbeats WHERE job_execution_id = {id}")
    check("an execution that has not begun is among the heartbeats, without one", row == f"{id}|", row)
    sweep("Fail", id)
    end = complete("--id", id)
    shown = shell.ask(f"show {id}")
    check("an execution that was ended before it began runs no step", not end["accepted"] and shown["status"] == "FAILED"
          and shown["steps"] == [] and psql("SELECT count(*) FROM written WHERE run = 'queued'") == "0", (end, shown))
    check("and can be restarted", complete("--run", "queued")["status"] == "COMPLETED")


def cancel(shell, *options):
    run = " ".join(("cancelled", *options)).replace(" --", "-")
    worker, at = work("--run", run, *options, pause="chunk")
    id = at["id"]
    worker.go()
    check(f"Cancel: RETURNING says STOPPED ({run})", sweep("Cancel", id) == f"{id}|STOPPED")
    end = worker.release()
    shown = shell.ask(f"show {id}")
    check(f"Cancel: a live worker stops in order at its next chunk, which counts ({run})",
          end["status"] == shown["status"] == "STOPPED" and shown["steps"][0]["status"] == "STOPPED"
          and shown["steps"][0]["position"] == 20, (end, shown))
    end = complete("--run", run, *options)
    check(f"Cancel: the restarted job goes on from there ({run})", end.get("status") == "COMPLETED" and written_once(run), end)


def own_remedy(shell):
    """JobOperator.recover and the operator at the same moment."""
    for first in ("operator", "recover"):
        worker, at = work("--run", f"both-{first}", pause="chunk")
        id = at["id"]
        worker.kill()
        session = Session()
        version = int(psql(f"SELECT version FROM batch_job_execution WHERE job_execution_id = {id}"))
        if first == "operator":
            session.run(f"BEGIN; {sweep_sql('Fail', f'job_execution_id = {id}')}")
            shell.send(f"rescue {id}")
            while psql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE%'") == "0":
                pass
            session.run("COMMIT;")
            answer = shell.line()
            good = answer.get("error") == "OptimisticLockingFailureException"
        else:
            session.run(f"BEGIN; SELECT FROM batch_step_execution WHERE job_execution_id = {id} FOR UPDATE;")
            shell.send(f"rescue {id}")
            while psql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE%'") == "0":
                pass
            swept = sweep("Fail", id)
            session.run("COMMIT;")
            answer = shell.line()
            good = swept == "" and answer["status"] == "FAILED" and sweep("Fail", id) == ""
        now = int(psql(f"SELECT version FROM batch_job_execution WHERE job_execution_id = {id}"))
        shown = shell.ask(f"show {id}")
        check(f"JobOperator.recover beside the operator: exactly one ends it ({first} first)",
              good and now == version + 1 and shown["status"] == "FAILED" and not shown["running"], (answer, version, now))
        check(f"the job restarts once ({first} first)", complete("--run", f"both-{first}")["status"] == "COMPLETED")
    worker, at = work("--run", "abandoned", pause="chunk")
    worker.kill()
    sweep("Fail", at["id"])
    shown = shell.ask(f"rescue {at['id']}")
    check("JobOperator.recover of an ended execution leaves it failed", shown["status"] == "FAILED", shown)
    check("JobOperator.abandon of an ended execution works", shell.ask(f"abandon {at['id']}")["status"] == "ABANDONED")
    worker, at = work("--run", "stopped", pause="chunk")
    shell.ask(f"stop {at['id']}")
    end = worker.release()
    check("JobOperator.stop works as before", end["status"] == "STOPPED", end)


def races(shell):
    worker, at = work("--run", "races", pause="chunk")
    id = at["id"]
    worker.kill()
    session = Session()
    session.run(f"BEGIN; UPDATE batch_step_execution SET version = version + 1 WHERE job_execution_id = {id};")
    before = shell.ask(f"show {id}")
    swept = sweep("Fail", id)
    after = shell.ask(f"show {id}")
    del before["now"], after["now"]
    check("a step that a worker holds leaves the whole execution to the next sweep",
          swept == "" and before == after, (swept, after))
    session.run("COMMIT;")
    session.run(f"BEGIN; UPDATE batch_job_execution SET status = 'COMPLETED', end_time = localtimestamp, version = version + 1 "
                f"WHERE job_execution_id = {id};")
    swept = sweep("Fail", id)
    session.run("COMMIT;")
    check("a row that a worker finishes in the moment of the sweep stays completed",
          swept == sweep("Fail", id) == "" and shell.ask(f"show {id}")["status"] == "COMPLETED", swept)


def narrow():
    def refused(sql):
        return "permission denied" in psql(f"BEGIN; SET LOCAL ROLE {ROLE}; SET LOCAL jobexec.ending = 'Fail'; {sql}; ROLLBACK;",
                                           may_fail=True)

    for sql in ("UPDATE batch_job_execution SET version = 1", "UPDATE batch_job_execution SET exit_code = 'x'",
                "UPDATE batch_job_execution SET start_time = NULL", "UPDATE batch_step_execution SET status = 'FAILED'",
                "DELETE FROM batch_job_execution", "SELECT FROM batch_step_execution", "SELECT * FROM batch_job_execution_params",
                "INSERT INTO batch_job_execution (job_execution_id) VALUES (0)", "UPDATE batch_job_instance SET job_name = 'x'"):
        check(f"the operator's role may not {sql}", refused(sql))
    public = psql("SELECT has_function_privilege('public', 'jobexec_spring_batch_end()', 'EXECUTE')")
    check("nobody else may use the function that runs as its owner", public == "f", public)


def own_updates(shell):
    worker, at = work("--run", "unsignalled", pause="chunk")
    worker.kill()
    id = at["id"]
    psql(f"UPDATE batch_job_execution SET status = 'FAILED', exit_message = 'mine' WHERE job_execution_id = {id};")
    shown = shell.ask(f"show {id}")
    check("an update without the operator's signal is left as it is",
          (shown["message"], shown["exitCode"], shown["steps"][0]["status"]) == ("mine", "UNKNOWN", "STARTED"), shown)
    for value in ("''", "'Nothing'"):
        got = psql(f"BEGIN; SET LOCAL jobexec.ending = {value}; UPDATE batch_job_execution SET status = 'STARTED' "
                   f"WHERE job_execution_id = {id}; UPDATE batch_job_execution SET status = 'FAILED' WHERE job_execution_id = {id} "
                   "RETURNING exit_code; ROLLBACK;")
        check(f"and so is one with the signal {value}", got == "UNKNOWN", got)


def removed():
    apply("remove.sql")
    left = psql("SELECT relname FROM pg_class WHERE relname LIKE 'jobexec%' UNION ALL SELECT tgname FROM pg_trigger "
                "WHERE tgname LIKE 'jobexec%' UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'jobexec%'")
    check("removed: nothing is left", left == "", left)
    end = complete("--run", "removed")
    check("removed: jobs complete as before", end["status"] == "COMPLETED", end)
    worker, at = work("--run", "unfenced", pause="chunk")
    psql(f"UPDATE batch_job_execution SET status = 'FAILED', version = version + 1 WHERE job_execution_id = {at['id']}; UPDATE "
         f"batch_step_execution SET status = 'FAILED', version = version + 1 WHERE job_execution_id = {at['id']};")
    worker.release()
    status = psql(f"SELECT status FROM batch_job_execution WHERE job_execution_id = {at['id']}")
    check("for comparison: versions alone let a live worker write UNKNOWN, which forbids a restart", status == "UNKNOWN", status)


def main():
    prepare()
    applied_twice()
    shell = Client("shell")
    shell.until("ready")
    unaffected()
    for action in ("Fail", "Retry", "Cancel"):
        killed(shell, action)
    fenced("fenced")
    fenced("fenced-beside", restart_beside=True)
    fenced("fenced-legacy", "--kind", "tasklet")
    fenced("fenced-flow", "--flow")
    between_steps(shell)
    starting(shell)
    cancel(shell)
    cancel(shell, "--kind", "tasklet")
    cancel(shell, "--flow")
    own_remedy(shell)
    races(shell)
    narrow()
    own_updates(shell)
    removed()
    shell.kill()
    print(f"{failures} failed" if failures else "all is well")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
