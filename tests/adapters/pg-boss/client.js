// A client of pg-boss for the tests of its adapter: it prints one JSON object a line. An ID is QUEUE/UUID.
//
//   setup                      runs pg-boss's migrations
//   queue NAME [OPTIONS]       makes a queue; OPTIONS is JSON as createQueue takes it
//   enqueue [--n N] [--queue Q] [--max-attempts M] [--options JSON]
//                              sends jobs, in a queue that it makes if needed; the options are those of send
//   work [--queue Q] [--once]  works jobs: each waits for a line "release", "release ID [ATTEMPT]" or "fail ID [ATTEMPT]" on
//                              standard input. It prints "started", "stopped" (by its signal), "returned", and "finished" when
//                              pg-boss has written the end: "accepted" tells whether that changed the job. At the end of standard
//                              input it stops.
//   show ID                    prints the job as findJobs returns it
//   list QUEUE                 prints the jobs of a queue as findJobs returns them
//   cancel ID, retry ID        calls cancel() or retry()
//   drift                      prints what detectSchemaDrift() finds
//   rescue QUEUE               runs supervise() once, which expires jobs
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { PgBoss } from 'pg-boss'

const connectionString = process.env.DATABASE_URL
const show = (object) => console.log(JSON.stringify(object))
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    n: { type: 'string', default: '1' },
    queue: { type: 'string', default: 'wait' },
    'max-attempts': { type: 'string' },
    options: { type: 'string', default: '{}' },
    once: { type: 'boolean', default: false }
  }
})
const [command, argument, options] = positionals
const [queue, id] = argument?.split('/') ?? []

// The pool of a worker, which sees what the statements that end jobs have changed.
function watched (pool) {
  return {
    async executeSql (text, parameters) {
      const result = await pool.query(text, parameters)
      if (text.includes("array_agg(id), '{}'") && !text.includes('SET heartbeat_on')) {
        for (const job of parameters[1]) {
          const claim = parameters.at(-1).find((pair) => pair.startsWith(job))
          show({
            event: 'finished',
            id: `${parameters[0]}/${job}`,
            attempt: Number(claim.split(':')[1]) + 1,
            kind: text.includes('deleted_jobs') ? 'fail' : 'complete',
            accepted: result.rows[0].ids.includes(job)
          })
        }
      }
      return result
    }
  }
}

async function work (boss) {
  const waiting = new Set()
  let finish
  const over = new Promise((resolve) => { finish = resolve })
  const tell = (word, id, attempt) => {
    for (const job of waiting) {
      if ((id === undefined || id === job.id) && (attempt === undefined || Number(attempt) === job.attempt)) job.answer(word)
    }
  }
  await boss.createQueue(values.queue)
  const one = async ([job]) => {
    const line = { id: `${values.queue}/${job.id}`, attempt: job.retryCount + 1 }
    show({ event: 'started', ...line })
    job.signal.addEventListener('abort', () => show({ event: 'stopped', ...line, cause: String(job.signal.reason?.message) }))
    const waits = { ...line }
    const word = await new Promise((resolve) => { waiting.add(Object.assign(waits, { answer: resolve })) })
    waiting.delete(waits)
    show({ event: 'returned', ...line })
    if (values.once) finish()
    if (word === 'fail') throw new Error('told to fail')
  }
  await boss.work(values.queue, { includeMetadata: true, localConcurrency: 8, pollingIntervalSeconds: 0.5 }, one)
  createInterface({ input: process.stdin }).on('line', (line) => tell(...line.split(' '))).on('close', finish)
  await over
  await boss.stop({ graceful: true, timeout: 1000 })
}

const pool = new pg.Pool({ connectionString })
const boss = new PgBoss({
  ...(command === 'work' ? { db: watched(pool) } : { connectionString, max: 2 }),
  migrate: command === 'setup',
  supervise: false,
  schedule: false,
  monitorIntervalSeconds: 1
})
boss.on('error', (error) => console.error(error))
await boss.start()
switch (command) {
  case 'setup':
    show({ event: 'migrated', version: await boss.schemaVersion() })
    break
  case 'queue':
    await boss.createQueue(argument, JSON.parse(options ?? '{}'))
    show({ event: 'made', queue: argument })
    break
  case 'enqueue':
    await boss.createQueue(values.queue)
    for (let i = 0; i < Number(values.n); i++) {
      const attempts = values['max-attempts'] && { retryLimit: Number(values['max-attempts']) - 1 }
      const sent = await boss.send(values.queue, { some: 'data' }, { ...attempts, ...JSON.parse(values.options) })
      show({ id: sent && `${values.queue}/${sent}` })
    }
    break
  case 'work':
    await work(boss)
    break
  case 'show':
    show((await boss.findJobs(queue, { id }))[0])
    break
  case 'list':
    for (const job of await boss.findJobs(argument)) show(job)
    break
  case 'cancel':
  case 'retry':
    show({ event: command, ...await boss[command](queue, id) })
    break
  case 'drift':
    show(await boss.detectSchemaDrift())
    break
  case 'rescue':
    await boss.supervise(argument)
    show({ event: 'rescued' })
    break
  default:
    throw new Error(`${command} is not a command`)
}
await boss.stop({ graceful: false })
await pool.end()
process.exit(0)
