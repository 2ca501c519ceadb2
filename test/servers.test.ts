import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { createConnection, type RowDataPacket } from 'mysql2/promise'
import t from 'tap'
import { dataFolder } from './exit-hooks.js'
import { createDatabase, startMariadb, startRedis } from './servers.js'

const first = async (url: string, statement: string) => {
  const connection = await createConnection(url)
  const [rows] = await connection.query<RowDataPacket[]>(statement).finally(() => connection.end())
  return rows[0]
}

t.test('MariaDB', async (t) => {
  const server = await startMariadb()
  t.after(() => server.stop())

  await t.test('answers a query', async (t) => {
    t.strictSame({ ...(await first(server.url, 'SELECT 1 AS one')) }, { one: 1 })
  })

  await t.test('gives each caller of createDatabase a database of its own', async (t) => {
    const [a, b] = await Promise.all([createDatabase(server.url), createDatabase(server.url)])
    await first(a.url, 'CREATE TABLE only_here (id INT)')
    await t.rejects(first(b.url, 'SELECT * FROM only_here'), { code: 'ER_NO_SUCH_TABLE' })
    await Promise.all([a.drop(), b.drop()])
    await t.rejects(first(a.url, 'SELECT 1'), { code: 'ER_BAD_DB_ERROR' })
  })

  await t.test('keeps committed data when it is killed and started again', async (t) => {
    const { pid, port } = server
    await first(server.url, 'CREATE TABLE kept AS SELECT 7 AS seven')
    await server.kill()
    await t.rejects(first(server.url, 'SELECT 1'), { code: 'ECONNREFUSED' })
    await server.restart()
    t.equal(server.port, port)
    t.not(server.pid, pid)
    t.strictSame({ ...(await first(server.url, 'SELECT * FROM kept')) }, { seven: 7 })
  })

  await t.test('drops its data when it is restarted empty', async (t) => {
    await server.restart({ empty: true })
    await t.rejects(first(server.url, 'SELECT * FROM kept'), { code: 'ER_NO_SUCH_TABLE' })
  })
})

t.test('Redis', async (t) => {
  const server = await startRedis()
  const redis = new Redis(server.url, { lazyConnect: true, retryStrategy: () => 20 })
  redis.on('error', () => {})
  t.after(async () => {
    redis.disconnect()
    await server.stop()
  })

  await t.test('answers a ping', async (t) => {
    t.equal(await redis.ping(), 'PONG')
  })

  await t.test('answers nothing while it is paused, and everything after', async (t) => {
    server.pause()
    const answer = redis.ping()
    t.equal(await Promise.race([answer, sleep(200, 'silence')]), 'silence')
    server.resume()
    t.equal(await answer, 'PONG')
  })

  await t.test('comes back empty on the same port after a restart', async (t) => {
    await redis.set('key', 'value')
    await server.restart()
    t.equal(await redis.get('key'), null)
  })
})

t.test('a server ends with the process that started it, even when that is killed', async (t) => {
  const script = `
    import { startRedis } from './test/servers.ts'
    console.log((await startRedis()).port)
  `
  const parent = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', script], {
    env: { ...process.env, TEST_DATA_FOLDER: dataFolder('parent') },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const [line] = (await once(parent.stdout, 'data')) as [Buffer]
  const port = Number(line.toString())
  t.ok(await isListening(port))
  parent.kill('SIGKILL')
  while (await isListening(port)) await sleep(20)
  t.notOk(await isListening(port))
})

async function isListening (port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  const listening = await once(socket, 'connect').then(
    () => true,
    () => false
  )
  socket.destroy()
  return listening
}
