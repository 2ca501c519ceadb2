import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { startChild } from '../test/child-process.js'
import { bundle } from '../test/bundle.js'
import { temporaryFolder } from '../test/exit-hooks.js'
import { startMariadb, type Server } from '../test/servers.js'

export const JWT_SECRET = 'bench-secret-bench-secret-bench-secret'
const BENCH = import.meta.dirname

/** A server under measurement, in a process of its own. */
export interface Target {
  port: number
  pid: number
  /** Processor time it used so far, user and system, in microseconds. */
  cpu (): number
  /** Resident memory, in bytes. */
  memory (): number
  stop (): Promise<void>
  /** Asks it to end, as a deploy does. */
  close (): Promise<void>
}

async function start (command: string, args: string[], env: Record<string, string>): Promise<Target> {
  const { PATH, HOME } = process.env
  const child = await startChild(command, args, {
    cwd: join(BENCH, '..'), env: { PATH, HOME, NODE_ENV: 'production', ...env }
  })
  const [, port] = await child.waitFor(/listening on (?:http:\/\/[^:]+:)?(\d+)/, 120_000)
  return {
    port: Number(port),
    pid: child.pid,
    cpu: () => cpuOf(child.pid),
    memory: () => {
      const match = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))
      return Number(match?.[1] ?? 0) * 1024
    },
    // A profile is written by a process that ends by itself.
    stop: async () => { await (process.env.BENCH_NODE_FLAGS === undefined ? child.kill() : child.stop(6000)) },
    close: async () => { await child.stop(20_000) }
  }
}

/**
 * Processor time of any process, user and system, in microseconds: what its threads ran, as the scheduler counts it in
 * nanoseconds. The clock ticks of /proc/…/stat, 10 ms each, are too coarse for short rows.
 */
export const cpuOf = (pid: number): number => readdirSync(`/proc/${pid}/task`)
  .reduce((sum, thread) => sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]), 0) / 1000

/** MariaDB with room for what all rounds store: in the small pool of the tests the tables of the last rounds would be slower than those of the first. */
export const startDatabase = async (): Promise<Server> => await startMariadb({ args: ['--innodb-buffer-pool-size=1G', '--innodb-log-file-size=512M'] })

/** A peer of bench/peers, with Node or with Bun. */
export async function startPeer (name: string, env: Record<string, string> = {}): Promise<Target> {
  const command = name === 'bun' ? join(BENCH, 'node_modules/.bin/bun') : process.execPath
  return await start(command, [join(BENCH, 'peers', `${name}.mjs`)], env)
}

/** A script of this kit, in TypeScript. */
export async function startScript (script: string, env: Record<string, string>): Promise<Target> {
  return await start(process.execPath, ['--import', 'tsx', script], env)
}

let bundled: ReturnType<typeof bundle> | null = null

/** The example host with everything on; SQLite unless `env` has a `DATABASE_URL`. */
export async function startRealtime (env: Record<string, string> = {}): Promise<Target> {
  bundled ??= bundle()
  return await startHost((await bundled).host, env)
}

/** An example host that was made one file. */
export async function startHost (host: string, env: Record<string, string>): Promise<Target> {
  const own = env.DATABASE_URL === undefined ? { DATABASE_URL: `sqlite:${join(temporaryFolder('bench'), 'realtime.db')}` } : {}
  return await start(process.execPath, [...process.env.BENCH_NODE_FLAGS?.split(' ') ?? [], host], {
    SOCKET_PORT: '0', LOG_LEVEL: 'warn', JWT_SECRET, FRAMES_PER_SECOND: '0', MESSAGES_PER_MINUTE: '0', RECIPIENTS_PER_MINUTE: '0', ...own, ...env
  })
}
