import { randomBytes } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createConnection } from 'mysql2/promise'
import { startChild, type Child } from './child-process.js'
import { dataFolder } from './exit-hooks.js'
import { freePort } from './free-port.js'
import { locateCommands } from './install-packages.js'
import { serverOf, type Server } from './server-process.js'

export { startRedis, type RedisServer } from './redis-servers.js'
export type { Server } from './server-process.js'

/** Small, for tests; `args` are further mariadbd arguments, which win. */
export async function startMariadb (options: { args?: string[] } = {}): Promise<Server> {
  const commands = await locateCommands('mariadbd', 'mariadb-install-db')
  const folder = dataFolder('mariadb')
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
