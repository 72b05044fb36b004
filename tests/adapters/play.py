"""Parts of a proof: psql sessions, the system's client, and the operator's statement, each seen through its lines."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

PATIENCE = 90  # Seconds until a line that does not come counts as a failure; nothing waits for as long if all is well.
failures = 0


def check(what, true, seen=""):
    """Prints whether a promise holds."""
    global failures
    if not true:
        failures += 1
    print(("ok " if true else "FAILED ") + what + ("" if true else f": {seen}"), flush=True)


def end():
    """Says how it went and ends the program."""
    print("all is well" if failures == 0 else f"{failures} failed", flush=True)
    sys.exit(failures != 0)


class Lines:
    """A program whose lines are waited for."""

    def __init__(self, command, url):
        environment = {**os.environ, "DATABASE_URL": url}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def line(self):
        return self.lines.get(timeout=PATIENCE)

    def close(self):
        """Ends its input and waits until it has stopped."""
        self.process.stdin.close()
        return self.process.wait(timeout=PATIENCE)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Client(Lines):
    """A running client."""

    def wait(self, event, id=None):
        """Returns the next line with this event, of this job."""
        while (line := self.line()) is not None:
            seen = json.loads(line)
            if seen.get("event") == event and id in (None, seen.get("id")):
                return seen
        raise RuntimeError(f"the client ended before it said {event}")


class Session(Lines):
    """An open session of psql."""

    def __init__(self, url):
        super().__init__(["psql", "-X", "-q", "-A", "-t", "-F|", "-v", "VERBOSITY=terse", url], url)
        self.marks = 0

    def send(self, sql):
        """Sends statements without waiting for them."""
        self.marks += 1
        self.say(f"{sql};\n\\echo =={self.marks}")

    def answer(self):
        """Returns the rows of what was sent last, each a list of texts."""
        rows = []
        while (line := self.line()) not in (f"=={self.marks}", None):
            if line:
                rows.append(line.split("|"))
        return rows

    def run(self, sql):
        self.send(sql)
        return self.answer()


class Place:
    """A database of its own with a narrow role, both dropped at the end."""

    def __init__(self, here, name):
        self.here, self.name = here, name
        self.server = os.environ["DATABASE_URL"]
        self.database = f"jobexec_prove_{name.replace('-', '_')}_{os.getpid()}"
        self.role = f"{self.database}_role"
        self.psql(self.server, f'CREATE DATABASE "{self.database}"')
        self.psql(self.server, f"CREATE ROLE \"{self.role}\" LOGIN PASSWORD 'narrow'")
        self.clients = []
        self.url = self.at(None)
        self.narrow = self.at(f"{self.role}:narrow")

    def at(self, login):
        url = urllib.parse.urlsplit(self.server)
        host = url.netloc.rpartition("@")[2]
        return url._replace(netloc=f"{login}@{host}" if login else url.netloc, path=f"/{self.database}").geturl()

    def psql(self, url, sql, fails=False):
        done = subprocess.run(
            ["psql", "-X", "-q", "-A", "-t", "-F|", "-v", "ON_ERROR_STOP=1", url],
            input=sql, capture_output=True, text=True, check=False,
        )
        if fails:
            return done.stderr.strip() if done.returncode else ""
        if done.returncode:
            raise RuntimeError(done.stderr)
        return [line.split("|") for line in done.stdout.splitlines() if line]

    def sql(self, sql):
        return self.psql(self.url, sql)

    def refused(self, sql):
        """Returns the error of a statement of the narrow role, empty if there was none."""
        return self.psql(self.narrow, sql, fails=True)

    def install(self, schema, *files):
        for file in files:
            text = (self.here.parents[2] / "adapters" / self.name / file).read_text()
            self.psql(self.url, text.replace("@schema@", f'"{schema}"').replace("@role@", f'"{self.role}"'))

    def client(self, *arguments):
        """Runs a command of the client to its end and returns its lines."""
        done = subprocess.run(
            [self.here / "run", *map(str, arguments)],
            env={**os.environ, "DATABASE_URL": self.url}, stdout=subprocess.PIPE, text=True, check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def start(self, *arguments):
        self.clients.append(Client([self.here / "run", *map(str, arguments)], self.url))
        return self.clients[-1]

    def drop(self):
        for client in self.clients:
            client.kill()
        self.psql(self.server, f'DROP DATABASE "{self.database}" WITH (FORCE)')
        self.psql(self.server, f'DROP ROLE "{self.role}"')

    def until(self, sql, expected):
        """Waits until a query has a result that only another process can bring about."""
        deadline = time.monotonic() + PATIENCE
        while (rows := self.sql(sql)) != expected:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{sql} has {rows}")
            time.sleep(0.05)


class Operator:
    """What the operator runs: the statement of its contract."""

    def __init__(self, relation, running, failed, cancelled, columns):
        self.relation, self.running, self.failed, self.cancelled = relation, running, failed, cancelled
        self.columns = columns

    def sweep(self, ending, where="true", reason="DeadlineExceeded"):
        """Returns the statements, which print id and status of what was returned, without COMMIT."""
        c = self.columns
        text = self.cancelled if ending == "Cancel" else self.failed
        error = f", \"{c['error']}\" = '{reason}: it ran past its deadline, failed by the jobexec operator'" if "error" in c else ""
        return f"""
            BEGIN; SET LOCAL jobexec.ending = '{ending}';
            WITH stale AS MATERIALIZED (
                SELECT "{c['id']}" AS id FROM {self.relation} AS execution
                WHERE "{c['status']}" IN ('{self.running}') AND ({where}) ORDER BY "{c['start']}" LIMIT 5000
                FOR NO KEY UPDATE OF execution SKIP LOCKED)
            UPDATE {self.relation} AS execution
            SET "{c['status']}" = '{text}', "{c['end']}" = statement_timestamp(){error}
            WHERE "{c['id']}" = ANY (ARRAY (SELECT id FROM stale)) AND "{c['status']}" IN ('{self.running}')
            RETURNING "{c['id']}", "{c['status']}\""""
