"""The real client of PGQueuer. DATABASE_URL names the database. It prints JSON lines.

setup                        installs its schema
enqueue [--n N] [--queue Q]… [--max-attempts M]
                             prints {"id"} of each job; Q is its entrypoint (job), M has no effect: the limit is Python code
work [--once] [--hold] [--heartbeat-timeout S]
                             runs jobs of the entrypoint `job`. Each waits for a line on stdin: `release` (all), `release ID`,
                             `fail ID`, which raises, or `retry ID`, which raises RetryRequested. It stops after one job, or at
                             the end of stdin. It picks jobs again whose heartbeat is older than S seconds (3600), and sends one
                             each S/2.
show ID                      prints the row of the job, the statuses and exceptions in its log, and its status by the log
cancel ID                    marks the job as cancelled
requeue ID                   requeues a failed job that was held
"""

import argparse
import asyncio
import json
import os
import sys
from datetime import timedelta

import asyncpg
import pgqueuer.errors
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Context, Job
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries

waiting = {}


def say(**line):
    print(json.dumps(line, default=str), flush=True)


class TellingDriver(AsyncpgDriver):
    """Says what becomes of the statements that finish jobs: how many rows of the log each has written."""

    async def execute(self, query, *args):
        answer = await super().execute(query, *args)
        rows = int(answer.split()[-1]) if answer.startswith("INSERT") else 0
        if "WITH job_status" in query:
            for id, status in zip(args[0], args[1]):
                say(event="finished", id=str(id), status=status, accepted=rows == len(args[0]))
        elif "WITH retry" in query:
            say(event="finished", id=str(args[0]), status="retry", accepted=rows == 1)
        return answer


async def work(args, driver):
    manager = QueueManager(Queries(driver))

    @manager.entrypoint("job", concurrency_limit=1 if args.once else 0, on_failure="hold" if args.hold else "delete")
    async def job(job: Job, context: Context) -> None:
        told = asyncio.get_running_loop().create_future()
        waiting.setdefault(str(job.id), []).append(told)
        say(event="started", id=str(job.id), attempt=job.attempts + 1)
        with context.cancellation:
            how = await told
            if how == "fail":
                raise RuntimeError("told to fail")
            if how == "retry":
                raise pgqueuer.errors.RetryRequested(delay=timedelta(seconds=0), reason="told to retry")

    def settle(id, how):
        for told in waiting.pop(id, []):
            if args.once:
                manager.shutdown.set()
            if not told.done():
                told.set_result(how)

    async def listen():
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := (await reader.readline()).decode().strip():
            how, _, id = line.partition(" ")
            for each in [id] if id else list(waiting):
                settle(each, how)
        for each in list(waiting):
            settle(each, "release")
        if not args.once:
            manager.shutdown.set()

    listening = asyncio.create_task(listen())
    await manager.run(
        dequeue_timeout=timedelta(seconds=0.2),
        batch_size=1 if args.once else 5,
        heartbeat_timeout=timedelta(seconds=args.heartbeat_timeout),
    )
    listening.cancel()


async def enqueue(args, driver):
    for index in range(args.n):
        queues = args.queue or ["job"]
        [id] = await Queries(driver).enqueue(queues[index % len(queues)], b"")
        say(id=str(id))


async def show(args, driver):
    queries = Queries(driver)
    row = await queries.queue_job_by_id(int(args.id))
    log = await queries.job_log_history(int(args.id))
    say(
        id=args.id,
        row=row and {name: getattr(row, name) for name in ("status", "attempts", "queue_manager_id")},
        log=[line.status for line in log],
        errors=[line.traceback.exception_message for line in log if line.traceback],
        status=dict(await queries.job_status([int(args.id)])).get(int(args.id)),
    )


async def setup(_args, driver):
    await Queries(driver).install()


async def cancel(args, driver):
    await Queries(driver).mark_job_as_cancelled([int(args.id)])


async def requeue(args, driver):
    await Queries(driver).requeue_jobs([int(args.id)])


async def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)

    def command(run, *arguments):
        sub = commands.add_parser(run.__name__)
        sub.set_defaults(run=run)
        for name, options in arguments:
            sub.add_argument(name, **options)

    flag = {"action": "store_true"}
    command(setup)
    command(enqueue, ("--n", {"type": int, "default": 1}), ("--queue", {"action": "append"}), ("--max-attempts", {}))
    command(work, ("--once", flag), ("--hold", flag), ("--heartbeat-timeout", {"type": float, "default": 3600}))
    for run in (show, cancel, requeue):
        command(run, ("id", {}))
    args = parser.parse_args()
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    try:
        await args.run(args, TellingDriver(connection))
    finally:
        await connection.close()


asyncio.run(main())
