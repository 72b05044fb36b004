"""What the proof of an adapter needs: a database of its own, the real client, and the operator's statement under its role."""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import yaml

HERE = Path(sys.argv[0]).resolve().parent
ROOT = HERE.parents[2]
PATIENCE = 90
ERROR = "DeadlineExceeded: it ran for too long, failed by the jobexec operator"
OWNER, ROLE = "jobexec_proof_owner", "jobexec_proof_operator"


def ident(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "NULL" if text is None else "'" + str(text).replace("'", "''") + "'"


def until(what, condition):
    """Waits until a condition of the database holds."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.02)
    return result


class Session:
    """One psql. `send` starts a statement, `receive` waits for its output, `run` does both."""

    def __init__(self, url, *setup):
        self.psql = subprocess.Popen(
            ["psql", "-XqAt", "-v", "VERBOSITY=verbose", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self.marks = 0
        for statement in setup:
            self.run(statement)

    def send(self, sql):
        self.marks += 1
        self.psql.stdin.write(f"{sql.rstrip().rstrip(';')};\n\\echo =={self.marks}==\n")

    def receive(self, fail=True):
        lines = []
        for line in self.psql.stdout:
            if line.rstrip("\n") == f"=={self.marks}==":
                break
            lines.append(line.rstrip("\n"))
        if fail and (errors := [line for line in lines if "ERROR:" in line]):
            raise RuntimeError(errors[0] + "".join("\n" + line for line in lines))
        return lines

    def run(self, sql, fail=True):
        self.send(sql)
        return self.receive(fail)

    def one(self, sql):
        return (self.run(sql) or [None])[0]

    def row(self, sql):
        found = self.one(f"SELECT to_jsonb(found) FROM ({sql}) AS found")
        return json.loads(found) if found else None

    def refused(self, sql, reason="permission denied"):
        lines = self.run(sql, fail=False)
        return any("ERROR:" in line and reason in line for line in lines), lines[:1]

    def close(self):
        self.psql.stdin.close()
        self.psql.wait()


class Worker:
    """A running worker of the client, whose lines are events."""

    def __init__(self, url, environment, *arguments):
        self.process = subprocess.Popen(
            [HERE / "run", "work", *arguments],
            env={**os.environ, **environment, "DATABASE_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(os.environ.get("CLIENT_LOG", os.devnull), "a"),
            text=True,
            bufsize=1,
        )
        self.events, self.seen = queue.Queue(), []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))
        self.events.put(None)

    def wait(self, event, **wanted):
        """Waits for an event, which may have come before; each is returned once."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for one in self.seen:
                if one["event"] == event and all(one.get(key) == value for key, value in wanted.items()):
                    self.seen.remove(one)
                    return one
            try:
                new = self.events.get(timeout=max(0.1, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"{event} {wanted}: {self.seen}") from None
            if new is None:
                raise RuntimeError(f"the worker ended before {event} {wanted}: {self.seen}")
            self.seen.append(new)

    def tell(self, line):
        self.process.stdin.write(line + "\n")

    def stop(self):
        self.process.stdin.close()
        return self.process.wait(PATIENCE)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)


class Proof:
    """A fresh database with the system's tables, and the checks."""

    def __init__(self, name, environment=None, schema=None, role=ROLE):
        self.name, self.environment, self.failed = name, environment or {}, 0
        self.adapter = ROOT / "adapters" / name
        self.manifest = yaml.safe_load((self.adapter / "adapter.yaml").read_text())
        self.table = self.manifest["store"]["table"]
        self.schema, self.role = schema or self.manifest["schema"], role
        self.relation = f"{ident(self.schema)}.{ident(self.table['name'])}"
        server = os.environ["DATABASE_URL"]
        database = "jobexec_proof_" + name.replace("-", "_")
        admin = Session(server)
        admin.run(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        for each in (OWNER, role):
            if not admin.one(f"SELECT 1 FROM pg_roles WHERE rolname = {literal(each)}"):
                admin.run(f"CREATE ROLE {ident(each)}")
        admin.run(f"CREATE DATABASE {database} OWNER {OWNER}")
        admin.close()
        self.admin_url = urlunsplit(urlsplit(server)._replace(path="/" + database))
        separator = "&" if urlsplit(server).query else "?"
        self.url = self.admin_url + separator + "options=" + quote(f"-c role={OWNER}")
        self.admin = Session(self.admin_url)
        self.admin.run(f"GRANT ALL ON SCHEMA public TO {OWNER}")
        self.client("setup")

    def close(self):
        print(f"{self.name}: " + (f"{self.failed} FAILED" if self.failed else "all ok"))
        sys.exit(1 if self.failed else 0)

    def check(self, what, passed, detail=""):
        print(f"ok {what}" if passed else f"FAILED {what}: {detail}", flush=True)
        self.failed += not passed

    def equal(self, what, actual, expected):
        self.check(what, actual == expected, f"{actual!r} is not {expected!r}")

    def client(self, *arguments, wait=True):
        run = subprocess.Popen(
            [HERE / "run", *arguments],
            env={**os.environ, **self.environment, "DATABASE_URL": self.url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self.answer(run) if wait else run

    def answer(self, run):
        out, err = run.communicate(timeout=600)
        if run.returncode:
            raise RuntimeError(f"{run.args} failed:\n{err}")
        return [json.loads(line) for line in out.splitlines()]

    def enqueue(self, *arguments):
        ids = [line["id"] for line in self.client("enqueue", *arguments)]
        return ids[0] if len(ids) == 1 else ids

    def show(self, id):
        return self.client("show", id)[0]

    def worker(self, *arguments):
        return Worker(self.url, self.environment, *arguments)

    def started(self, *arguments):
        """Enqueues a job and returns it with a worker that runs it."""
        id = self.enqueue(*arguments)
        worker = self.worker()
        return id, worker, worker.wait("started", id=id)

    def apply(self, file, session=None):
        """Runs a file of the adapter as the owner; returns its messages."""
        sql = (self.adapter / file).read_text()
        sql = sql.replace("@schema@", ident(self.schema)).replace("@role@", ident(self.role))
        # As `jobexec adapter` does; an index is built outside of a transaction.
        together = [] if file == "indexes.sql" else ["--single-transaction"]
        run = subprocess.run(
            ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *together, self.url],
            check=False,
            input=sql,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if run.returncode:
            raise RuntimeError(f"{file}: {run.stdout}")
        return run.stdout

    def install(self):
        for file in ("install.sql", "grants.sql", "indexes.sql"):
            self.apply(file)

    def session(self):
        return Session(self.admin_url)

    def operator(self):
        return Session(self.admin_url, f"SET SESSION AUTHORIZATION {ident(self.role)}")

    def statement(self, action, ids=None, condition="true", error=None, scheduled_at=None, status=None):
        """Returns the operator's statement."""
        columns, statuses = self.table["columns"], self.table["statuses"]
        running = ", ".join(map(literal, statuses["running"]))
        target = status or (statuses["cancelled"] or statuses["failed"] if action == "Cancel" else statuses["failed"])[0]
        name = {key: ident(column) for key, column in columns.items()}
        sets = [f"{name['status']} = {literal(target)}", f"{name['completedAt']} = statement_timestamp()"]
        if "error" in name:
            sets.append(f"{name['error']} = {literal(error or ERROR)}")
        if scheduled_at:
            sets.append(f"scheduled_at = {scheduled_at}")
        if ids is not None:
            condition += f" AND {name['id']}::text = ANY ({literal('{' + ','.join([ids] if isinstance(ids, str) else ids) + '}')})"
        return f"""
            WITH stale AS MATERIALIZED (
                SELECT {name["id"]} AS id
                FROM {self.relation} AS execution
                WHERE {name["status"]} IN ({running})
                  AND {name["startedAt"]} <= statement_timestamp()
                  AND {condition}
                ORDER BY {name["startedAt"]}
                LIMIT 5000
                FOR NO KEY UPDATE OF execution SKIP LOCKED
            ),
            ended AS (
                UPDATE {self.relation} AS execution
                SET {", ".join(sets)}
                WHERE {name["id"]} = ANY (ARRAY (SELECT id FROM stale))
                  AND {name["status"]} IN ({running})
                RETURNING {name["id"]}::text AS id, {name["status"]}::text AS status, {name["startedAt"]} AS started_at,
                          {name["completedAt"]} AS completed_at, {name["executionNumber"]} AS attempt
            )
            SELECT to_jsonb(ended) FROM ended"""

    def sweep(self, action, *arguments, session=None, commit=True, **options):
        """Plays the operator. Returns what became of the rows, by id."""
        own = session or self.operator()
        own.run("BEGIN")
        own.run(f"SET LOCAL jobexec.ending = {literal(action)}")
        rows = [json.loads(line) for line in own.run(self.statement(action, *arguments, **options))]
        if commit:
            own.run("COMMIT")
        if not session:
            own.close()
        return {row["id"]: row for row in rows}

    def became(self, action, id, **options):
        return self.sweep(action, id, **options).get(id, {}).get("status")

    def blocked(self):
        """Waits until a session of the database waits for another one."""
        until(
            "a session to be blocked",
            lambda: self.admin.one(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
            ),
        )

    def view(self, id):
        return self.admin.row(f"SELECT * FROM {self.relation} WHERE id::text = {literal(id)}")

    def check_manifest(self):
        """The narrow role sees every relation and column of the manifest, with its type."""
        operator, wrong = self.operator(), []
        for relation, columns in self.manifest["requires"].items():
            for column, type_ in columns.items():
                actual = operator.one(
                    "SELECT format_type(atttypid, atttypmod) FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
                    f"JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = {literal(self.schema)} "
                    f"AND relname = {literal(relation)} AND attname = {literal(column)} AND NOT attisdropped"
                )
                actual = actual and re.sub(r"^.*\.", "", actual)
                if actual != type_:
                    wrong.append(f"{relation}.{column}: {actual}, not {type_}")
        operator.close()
        self.equal("fingerprint: every relation, column and type of the manifest is there", wrong, [])
        mapped = set(self.table["columns"].values())
        there = set(
            self.admin.run(f"SELECT attname FROM pg_attribute WHERE attrelid = {literal(self.relation)}::regclass AND attnum > 0")
        )
        self.equal("mapping: every mapped column is there", mapped - there, set())

    def objects(self):
        """The identity of what the adapter created: same objects, same definitions."""
        return self.admin.run("""
            SELECT 'trigger', oid, tgname FROM pg_trigger WHERE tgname LIKE 'jobexec%'
            UNION ALL SELECT 'function', oid, pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE 'jobexec%'
            UNION ALL SELECT 'relation', oid, relname || relkind::text || COALESCE(relacl::text, '')
            FROM pg_class WHERE relname LIKE 'jobexec%'
            ORDER BY 1, 2""")

    def check_reapply(self, base, change):
        """Installing again changes nothing, and does not wait for a transaction that writes to the base tables."""
        before, writer = self.objects(), self.session()
        writer.run("BEGIN")
        writer.run(f"UPDATE {ident(self.schema)}.{ident(base)} SET {change}")
        self.install()
        writer.run("ROLLBACK")
        writer.close()
        self.equal("applied twice: nothing changes, and no writer delays it", self.objects(), before)

    def check_nobody_else(self, refusals):
        """The narrow role may do nothing else."""
        operator = self.operator()
        for what, sql in refusals:
            refused, said = operator.refused(sql)
            self.check(f"narrow role: {what} is refused", refused, said)
        operator.close()
        others = self.admin.run(
            "SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants "
            f"WHERE grantee IN ('PUBLIC', {literal(self.role)}) AND table_schema = {literal(self.schema)} "
            "AND privilege_type <> 'SELECT'"
        )
        self.equal("narrow role: no privilege on a whole table but SELECT", others, [])
        public = self.admin.run(
            "SELECT proname FROM pg_proc WHERE proname LIKE 'jobexec%' AND prosecdef AND (has_function_privilege("
            f"{literal(self.role)}, oid, 'EXECUTE') OR has_function_privilege('public', oid, 'EXECUTE'))"
        )
        self.equal("narrow role: nobody may execute the definer functions", public, [])

    def check_plan(self, index, condition="true"):
        """The operator's search uses the partial index through the view."""
        columns, statuses = self.table["columns"], self.table["statuses"]
        operator = self.operator()
        operator.run("BEGIN")
        plan = operator.run(f"""
            EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF)
            SELECT {ident(columns["id"])} FROM {self.relation} AS execution
            WHERE {ident(columns["status"])} IN ({", ".join(map(literal, statuses["running"]))})
              AND {ident(columns["startedAt"])} < statement_timestamp() - interval '1 hour' AND {condition}
            ORDER BY {ident(columns["startedAt"])} LIMIT 5000 FOR NO KEY UPDATE OF execution SKIP LOCKED""")
        operator.run("ROLLBACK")
        operator.close()
        text = "\n".join(plan)
        self.check(f"plan: 200,000 rows, the search uses {index}", index in text and "Seq Scan" not in text, text)
        return text
