// The real client of Graphile Worker. DATABASE_URL names the database, WORKER_SCHEMA a schema other than graphile_worker. It prints
// JSON lines.
//
//   setup                                          runs its migrations
//   enqueue [--n N] [--max-attempts M] [--queue Q] prints {"id"} of each job
//   work [--once]                                  runs jobs of the task `job`. Each waits for a line on stdin: `release` (all),
//                                                  `release ID`, or `fail ID`, which throws. It stops after one job, or at the end
//                                                  of stdin.
//   show ID                                        prints the job as the public view `jobs` shows it, or {"id","state":"gone"}
//   rescue                                         runs its own rescuer once, as each run of runTaskListOnce does
import { EventEmitter } from "node:events";
import readline from "node:readline";
import { parseArgs } from "node:util";
import { Logger, makeWorkerUtils, run, runTaskListOnce } from "graphile-worker";
import pg from "pg";

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const schema = process.env.WORKER_SCHEMA ?? "graphile_worker";
const pgPool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 8 });
pgPool.on("error", () => {});
const logger = new Logger(() => (level, message) => process.stderr.write(`${level}: ${message}\n`));
const options = { pgPool, schema, logger, noHandleSignals: true };

const [command, ...rest] = process.argv.slice(2);
const { values: flags, positionals } = parseArgs({
  args: rest,
  allowPositionals: true,
  options: {
    n: { type: "string", default: "1" },
    "max-attempts": { type: "string" },
    queue: { type: "string", multiple: true },
    once: { type: "boolean" },
  },
});

async function withUtils(use) {
  const utils = await makeWorkerUtils(options);
  try {
    await use(utils);
  } finally {
    await utils.release();
  }
}

// A worker does not say when its completion or failure has reached the database, nor whether it changed a row. So this listens to
// the answers of the statements that finish jobs; in a named queue the answer counts the queues that were unlocked.
function tellFinished(client) {
  const query = client.query.bind(client);
  client.query = (...args) => {
    const result = query(...args);
    const { text, values } = typeof args[0] === "object" ? args[0] : {};
    if (text?.includes("._private_jobs") && typeof result?.then === "function") {
      const completed = /delete from/.test(text);
      const failed = /last_error = \(el/.test(text);
      if (completed || failed) {
        const ids = completed ? [values[0]].flat() : JSON.parse(values[1]).map((spec) => spec.jobId);
        result.then(
          ({ rowCount }) => ids.forEach((id) => print({ event: "finished", id: String(id), failed, accepted: rowCount > 0 })),
          () => {},
        );
      }
    }
    return result;
  };
}

async function work() {
  const waiting = new Map();
  let runner;
  const job = (_payload, helpers) =>
    new Promise((resolve, reject) => {
      const id = String(helpers.job.id);
      waiting.set(id, [...(waiting.get(id) ?? []), { resolve, reject }]);
      print({ event: "started", id, attempt: helpers.job.attempts });
    });
  const settle = (id, how) => {
    const runs = waiting.get(id) ?? [];
    waiting.delete(id);
    if (flags.once && runs.length > 0) runner.stop();
    runs.forEach((one) => (how === "fail" ? one.reject(new Error("told to fail")) : one.resolve()));
  };
  pgPool.on("connect", tellFinished);
  runner = await run({
    ...options,
    taskList: { job },
    events: new EventEmitter(),
    concurrency: flags.once ? 1 : 5,
    pollInterval: 200,
  });
  print({ event: "ready" });
  readline
    .createInterface({ input: process.stdin })
    .on("line", (line) => {
      const [how, id] = line.trim().split(" ");
      (id ? [id] : [...waiting.keys()]).forEach((each) => settle(each, how));
    })
    .on("close", () => {
      [...waiting.keys()].forEach((id) => settle(id, "release"));
      if (!flags.once) runner.stop();
    });
  await runner.promise;
}

const commands = {
  setup: () => withUtils((utils) => utils.migrate()),
  enqueue: () =>
    withUtils(async (utils) => {
      const queues = flags.queue ?? [undefined];
      for (let i = 0; i < Number(flags.n); i++) {
        const added = await utils.addJob("job", {}, {
          queueName: queues[i % queues.length],
          maxAttempts: flags["max-attempts"] && Number(flags["max-attempts"]),
        });
        print({ id: String(added.id) });
      }
    }),
  work,
  show: async () => {
    const { rows } = await pgPool.query(`SELECT * FROM ${pg.escapeIdentifier(schema)}.jobs WHERE id = $1`, [positionals[0]]);
    print(rows[0] ?? { id: positionals[0], state: "gone" });
  },
  rescue: async () => {
    const client = await pgPool.connect();
    await runTaskListOnce(options, { idle: () => {} }, client).promise;
    client.release();
  },
};
await commands[command]();
await pgPool.end();
process.exit();
