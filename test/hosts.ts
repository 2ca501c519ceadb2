import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startChild } from './child-process.js'
import { dataFolder } from './exit-hooks.js'

/** The example host in a process of its own. */
export interface Host {
  readonly url: string
  readonly wsUrl: string
  readonly port: number
  readonly pid: number
  /** What it wrote to stdout and stderr so far. */
  output (): string
  /** SIGTERM; gives the exit code, null when a signal had to end it. */
  stop (): Promise<number | null>
  kill (signal?: NodeJS.Signals): Promise<void>
  /** Freezes it: its sockets stay open and nothing answers. */
  pause (): void
  resume (): void
}

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const START_TIMEOUT = 30_000
const STOP_TIMEOUT = 20_000

export async function startHost (options: { env?: Record<string, string> } = {}): Promise<Host> {
  const { BUNDLED_HOST } = process.env
  const script = BUNDLED_HOST === undefined ? ['--import', 'tsx', 'example-host/server.ts'] : [BUNDLED_HOST]
  const child = await startChild(process.execPath, script, {
    cwd: ROOT,
    env: { ...systemEnv(), ...defaults(options.env), ...options.env }
  })
  const [, url = ''] = await child.waitFor(/listening on (http:\/\/[^\s"]+)/, START_TIMEOUT)
  return {
    url,
    wsUrl: `${url.replace(/^http/, 'ws')}/api/websocket/ws`,
    port: Number(new URL(url).port),
    pid: child.pid,
    output: () => child.output(),
    stop: async () => (await child.stop(STOP_TIMEOUT)).code,
    async kill (signal) {
      await child.kill(signal)
    },
    pause: () => child.pause(),
    resume: () => child.resume()
  }
}

// The rest of the environment, the test servers' own URLs above all, would change what the host under test is.
function systemEnv (): NodeJS.ProcessEnv {
  const { PATH, HOME, TMPDIR } = process.env
  return { PATH, HOME, TMPDIR }
}

function defaults (given: Record<string, string> = {}): Record<string, string> {
  return {
    SOCKET_PORT: '0',
    LOG_LEVEL: 'warn',
    JWT_SECRET: 'test-secret-test-secret-test-secret',
    ...(given.DATABASE_URL ? {} : { DATABASE_URL: `sqlite:${join(dataFolder('host'), 'realtime.db')}` })
  }
}
