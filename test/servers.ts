import { randomBytes } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createConnection } from 'mysql2/promise'
import { startChild, type Child } from './child-process.js'
import { temporaryFolder } from './exit-hooks.js'
import { freePort } from './free-port.js'
import { locateCommands } from './install-packages.js'

const STOP_TIMEOUT = 30_000

/** A server process on a port of its own; every method that ends it waits until it has ended. */
export interface Server {
  readonly url: string
  readonly port: number
  readonly pid: number
  /** Asks it to end. It may be started again with `restart`. */
  stop (): Promise<void>
  kill (signal?: NodeJS.Signals): Promise<void>
  /** Freezes it: connections stay open and nothing answers. */
  pause (): void
  resume (): void
  /** Starts it again on the same port, after stopping it if it runs; `empty` drops its data. */
  restart (options?: { empty?: boolean }): Promise<void>
}

/** Small, for tests; `args` are further mariadbd arguments, which win. */
export async function startMariadb (options: { args?: string[] } = {}): Promise<Server> {
  const commands = await locateCommands('mariadbd', 'mariadb-install-db')
  const folder = temporaryFolder('mariadb')
  const port = await freePort()
  const asRoot = process.getuid?.() === 0 ? ['--user=root'] : []
  const files = [
    ...asRoot,
    `--datadir=${join(folder, 'data')}`,
    '--innodb-log-file-size=16M',
    '--innodb-buffer-pool-size=64M',
    '--aria-log-file-size=8M',
    // Shared, two servers made at once fall over each other's temporary tables.
    `--tmpdir=${folder}`,
    ...(options.args ?? [])
  ]

  async function create (): Promise<void> {
    const install = await startChild(commands['mariadb-install-db'], [
      '--no-defaults',
      ...files,
      '--auth-root-authentication-method=normal',
      '--skip-test-db',
      '--skip-name-resolve'
    ])
    const { code } = await install.exited
    if (code !== 0) throw new Error(`mariadb-install-db failed:\n${install.output()}`)
    writeFileSync(
      join(folder, 'init.sql'),
      [
        'CREATE DATABASE IF NOT EXISTS test;',
        "CREATE USER IF NOT EXISTS 'rt'@'%' IDENTIFIED BY 'rt';",
        "GRANT ALL ON *.* TO 'rt'@'%' WITH GRANT OPTION;",
        ''
      ].join('\n')
    )
  }

  async function start (): Promise<Child> {
    const child = await startChild(commands.mariadbd, [
      '--no-defaults',
      ...files,
      `--port=${port}`,
      '--bind-address=127.0.0.1',
      `--socket=${join(folder, 'socket')}`,
      `--pid-file=${join(folder, 'pid')}`,
      `--init-file=${join(folder, 'init.sql')}`,
      '--skip-name-resolve',
      '--skip-log-bin',
      '--max-connections=500',
      '--innodb-flush-log-at-trx-commit=1',
      '--innodb-buffer-pool-dump-at-shutdown=0',
      '--innodb-buffer-pool-load-at-startup=0',
      '--key-buffer-size=1M',
      '--performance-schema=0',
      '--character-set-server=utf8mb4',
      '--collation-server=utf8mb4_unicode_ci'
    ])
    await child.waitFor(/ready for connections/, 60_000)
    return child
  }

  await create()
  return serverOf(`mysql://rt:rt@127.0.0.1:${port}/test`, port, start, async () => {
    rmSync(join(folder, 'data'), { recursive: true })
    await create()
  })
}

/** `args` are further redis-server arguments, such as `['--requirepass', 'secret']`. */
export async function startRedis (options: { args?: string[] } = {}): Promise<Server> {
  const commands = await locateCommands('redis-server')
  const folder = temporaryFolder('redis')
  const port = await freePort()

  async function start (): Promise<Child> {
    const child = await startChild(commands['redis-server'], [
      ...['--port', String(port)],
      ...['--bind', '127.0.0.1'],
      ...['--dir', folder],
      ...['--save', ''],
      ...['--appendonly', 'no'],
      ...(options.args ?? [])
    ])
    await child.waitFor(/Ready to accept connections/, 20_000)
    return child
  }

  // Nothing is persisted, so every start is empty.
  return serverOf(`redis://127.0.0.1:${port}`, port, start, async () => {})
}

async function serverOf (
  url: string,
  port: number,
  start: () => Promise<Child>,
  clear: () => Promise<void>
): Promise<Server> {
  let child = await start()
  const stop = async () => {
    await child.stop(STOP_TIMEOUT)
  }
  return {
    url,
    port,
    get pid () {
      return child.pid
    },
    stop,
    async kill (signal = 'SIGKILL') {
      await child.kill(signal)
    },
    pause: () => child.pause(),
    resume: () => child.resume(),
    async restart ({ empty = false } = {}) {
      await stop()
      if (empty) await clear()
      child = await start()
    }
  }
}

/** A database with a name of its own on the server behind `url`. */
export async function createDatabase (url: string): Promise<{ url: string; drop (): Promise<void> }> {
  const name = `test_${process.pid}_${randomBytes(4).toString('hex')}`
  const run = async (statement: string) => {
    const connection = await createConnection(url)
    await connection.query(statement).finally(() => connection.end())
  }
  await run(`CREATE DATABASE ${name} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci`)
  const own = new URL(url)
  own.pathname = `/${name}`
  return { url: own.href, drop: () => run(`DROP DATABASE IF EXISTS ${name}`) }
}
