"""Runs psql as the operator and the real client of Spring Batch, for prove.py."""

import json
import os
import pathlib
import subprocess
import sys
from urllib.parse import urlsplit, urlunsplit

HERE = pathlib.Path(__file__).resolve().parent
ADAPTER = HERE.parents[2] / "adapters" / "spring-batch"
ADMIN = os.environ["DATABASE_URL"]
DATABASE, ROLE = "adapter_spring_batch", "adapter_spring_batch_role"
URL = urlunsplit(urlsplit(ADMIN)._replace(path=f"/{DATABASE}"))
ZONE = "America/New_York"
ENV = {**os.environ, "DATABASE_URL": URL, "CLIENT_TIME_ZONE": ZONE}


def psql(sql, url=URL, may_fail=False):
    run = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url], input=sql, text=True, capture_output=True)
    if run.returncode and not may_fail:
        sys.exit(f"{sql}\n{run.stderr}")
    return run.stderr.strip() if run.returncode else run.stdout.strip()


def apply(name):
    return psql((ADAPTER / name).read_text().replace("@schema@", '"public"').replace("@role@", f'"{ROLE}"'))


def sweep_sql(action, ids="true"):
    """Returns the statement of the operator, under its role."""
    text, done = ("STOPPED", "cancelled") if action == "Cancel" else ("FAILED", "failed")
    running = "\"status\" IN ('STARTED', 'STARTING', 'STOPPING')"
    return f"""
        SET LOCAL ROLE {ROLE};
        SET LOCAL jobexec.ending = '{action}';
        WITH stale AS MATERIALIZED (
            SELECT "job_execution_id" AS id FROM "public"."batch_job_execution" AS execution
            WHERE {running} AND {ids} ORDER BY "start_time" LIMIT 5000 FOR NO KEY UPDATE OF execution SKIP LOCKED)
        UPDATE "public"."batch_job_execution" AS execution
        SET "status" = '{text}', "end_time" = statement_timestamp() AT TIME ZONE '{ZONE}',
            "exit_message" = 'HeartbeatLost: its worker sent no heartbeat, {done} by the jobexec operator'
        WHERE "job_execution_id" = ANY (ARRAY (SELECT id FROM stale)) AND {running}
        RETURNING "job_execution_id", "status";"""


def sweep(action, *ids):
    which = f"\"job_execution_id\" IN ({', '.join(map(str, ids))})" if ids else "true"
    return psql(f"BEGIN; {sweep_sql(action, which)} COMMIT;")


class Session:
    """A session of psql that keeps its transaction open."""

    def __init__(self, url=URL):
        self.process = subprocess.Popen(["psql", "-X", "-q", "-A", "-t", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)

    def send(self, sql):
        self.process.stdin.write(f"{sql}\n\\echo done\n")

    def answer(self):
        return "".join(iter(self.process.stdout.readline, "done\n")).strip()

    def run(self, sql):
        self.send(sql)
        return self.answer()


class Client:
    """A process of the client."""

    def __init__(self, *arguments):
        log = None if "VERBOSE" in ENV else subprocess.DEVNULL
        self.process = subprocess.Popen([HERE / "run", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                        text=True, bufsize=1, env=ENV)

    def send(self, line):
        self.process.stdin.write(line + "\n")

    def line(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"event": "gone"}

    def until(self, *events):
        while (line := self.line())["event"] not in (*events, "gone"):
            pass
        return line

    def ask(self, line):
        self.send(line)
        return self.line()

    def go(self):
        self.send("go")
        return self.until("paused", "finished", "refused")

    def release(self):
        self.send("release")
        return self.until("finished", "refused")

    def kill(self):
        self.process.kill()
        self.process.wait()
