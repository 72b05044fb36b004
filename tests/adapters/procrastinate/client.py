"""The real client of Procrastinate. DATABASE_URL names the database. It prints JSON lines.

setup                        applies its schema
enqueue [--n N] [--queue Q]… [--queueing-lock L] [--max-attempts M]
                             prints {"id"} of each job; M has no effect, because the limit of attempts is code of the task
work [--once] [--heartbeat]  runs jobs of the task `job`. Each waits for a line on stdin: `release` (all), `release ID`, or
                             `fail ID`, which raises. It stops after one job, or at the end of stdin. With --heartbeat it sends
                             heartbeats.
show ID                      prints the job as list_jobs returns it, or {"id", "status": "gone"}
cancel ID                    asks the worker to abort the job
rescue [--first]             retries the stalled jobs, as the documentation suggests; --first deletes the stalled workers first, as
                             every worker does at its start
"""

import argparse
import asyncio
import json
import os
import sys

import procrastinate
import procrastinate.worker

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))
manager = app.job_manager
waiting = {}
stalled = 2


def say(**line):
    print(json.dumps(line, default=str), flush=True)


@app.task(name="job", pass_context=True)
async def job(context):
    told = asyncio.get_running_loop().create_future()
    waiting.setdefault(str(context.job.id), []).append(told)
    say(event="started", id=str(context.job.id), attempt=context.job.attempts + 1)
    if await told == "fail":
        raise RuntimeError("told to fail")


def tell_finished():
    """Says what becomes of the worker's own calls that finish a job: an error is a refusal."""
    finish = manager.finish_job

    async def finish_job(job, status, delete_job):
        try:
            await finish(job=job, status=status, delete_job=delete_job)
            say(event="finished", id=str(job.id), status=status.value, accepted=True)
        except Exception as error:
            say(event="finished", id=str(job.id), status=status.value, accepted=False, error=str(error.__cause__ or error))
            raise

    manager.finish_job = finish_job


async def lines():
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        yield line


async def work(args):
    tell_finished()
    worker = procrastinate.worker.Worker(
        app,
        concurrency=1 if args.once else 5,
        fetch_job_polling_interval=0.2,
        abort_job_polling_interval=0.2,
        install_signal_handlers=False,
        update_heartbeat_interval=0.2 if args.heartbeat else 3600,
        stalled_worker_timeout=3600,
    )

    def settle(id, how):
        for told in waiting.pop(id, []):
            if args.once:
                worker.stop()
            told.done() or told.set_result(how)

    async def listen():
        async for line in lines():
            how, _, id = line.partition(" ")
            for each in [id] if id else list(waiting):
                settle(each, how)
        for each in list(waiting):
            settle(each, "release")
        if not args.once:
            worker.stop()

    listening = asyncio.create_task(listen())
    await worker.run()
    listening.cancel()


async def enqueue(args):
    queues = args.queue or ["default"]
    for index in range(args.n):
        deferrer = job.configure(queue=queues[index % len(queues)], queueing_lock=args.queueing_lock)
        say(id=str(await deferrer.defer_async()))


async def show(args):
    found = list(await manager.list_jobs_async(id=int(args.id)))
    if not found:
        return say(id=args.id, status="gone")
    fields = ("status", "attempts", "scheduled_at", "worker_id", "abort_requested", "queue", "task_name")
    say(id=args.id, **{name: getattr(found[0], name) for name in fields})


async def rescue(args):
    if args.first:
        await manager.prune_stalled_workers(stalled)
    for each in await manager.get_stalled_jobs(seconds_since_heartbeat=stalled):
        try:
            await manager.retry_job(each)
            say(event="rescued", id=str(each.id))
        except procrastinate.exceptions.ProcrastinateException as error:
            say(event="refused", id=str(each.id), error=str(error.__cause__ or error))


async def setup(_args):
    await app.schema_manager.apply_schema_async()


async def cancel(args):
    await manager.cancel_job_by_id_async(int(args.id), abort=True)


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
    command(
        enqueue,
        ("--n", {"type": int, "default": 1}),
        ("--queue", {"action": "append"}),
        ("--queueing-lock", {}),
        ("--max-attempts", {}),
    )
    command(work, ("--once", flag), ("--heartbeat", flag))
    command(show, ("id", {}))
    command(cancel, ("id", {}))
    command(rescue, ("--first", flag))
    args = parser.parse_args()
    async with app.open_async():
        await args.run(args)


asyncio.run(main())
