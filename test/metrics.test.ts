import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import Fastify from 'fastify'
import { internalsOf } from '../lib/internals.js'
import { realtime, stats } from '../plugins/index.js'
import { allowAll, buildHost, buildNodes, connect, overBackends, rest, until, user, type Host, isEmbedded, userOn } from './helper.js'

const loaded = (): boolean => Object.keys(createRequire(import.meta.url).cache).some((file) => file.includes('prom-client'))
const loadedAtStart = loaded()

const METRICS = { stats: { metrics: '/metrics' } }

/** The samples of a scrape, by name and labels. */
async function scrape ({ url }: Pick<Host, 'url'>): Promise<Map<string, number>> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return new Map(text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).map((line) => {
    const space = line.lastIndexOf(' ')
    return [line.slice(0, space), Number(line.slice(space + 1))]
  }))
}

overBackends((test, backend) => {
  test('frames are counted by event in both directions, and unknown events as other', async (t) => {
    const host = await buildHost(t, { backend, ...METRICS, options: allowAll })
    const [one, two] = [await connect(host, user(1)), await connect(host, user(2))]
    for (const client of [one, two]) await client.request('subscribe', { channel: 'group.x' })
    for (let i = 0; i < 3; i++) await one.request('message:group', { channel: 'group.x', message: 'x', conversationId: 'c' })
    for (let i = 0; i < 3; i++) await two.next('message:group')
    for (const event of ['made up', 'and another', 'e'.repeat(50), '__proto__']) await t.rejects(one.request(event), { code: 'RT_INVALID_FRAME' })
    await t.rejects(one.request('subscribe', { channel: '' }), { code: 'RT_INVALID_DATA' })
    one.socket.send('not a frame')
    await one.next('error')
    host.app.realtime.channels.tell({ tenantId: 1, channel: 'group.x', event: 'of the host', data: {} })
    await two.next('of the host')
    const found = await scrape(host)
    const value = (sample: string) => found.get(`realtime_${sample}`)
    t.equal(value('frames_received_total{event="message:group"}'), 3)
    t.equal(value('frames_received_total{event="subscribe"}'), 3)
    t.equal(value('frames_received_total{event="other"}'), 5)
    t.equal(value('frames_received_total{event="user:typing"}'), 0)
    t.equal(value('frames_sent_total{event="message:group"}'), 3, 'the sender is spared')
    t.equal(value('frames_sent_total{event="ack"}'), 5)
    t.equal(value('frames_sent_total{event="error"}'), 6)
    t.equal(value('frames_sent_total{event="authenticated"}'), 2)
    t.equal(value('frames_sent_total{event="other"}'), 2)
    t.equal(value('frames_refused_total{code="RT_INVALID_FRAME"}'), 5)
    t.equal(value('frames_refused_total{code="RT_INVALID_DATA"}'), 1)
    t.ok((value('deliveries_total') ?? 0) >= 5)
    t.notOk([...found.keys()].some((sample) => sample.includes('made up') || sample.includes('of the host')), 'no label grows with what comes in')
  })

  test('sizes are those of now', async (t) => {
    const host = await buildHost(t, { backend, ...METRICS, options: allowAll })
    const clients = [await connect(host, user(1)), await connect(host, user(1)), await connect(host, user(2, { tenantId: 2 }))]
    await clients[0]?.request('subscribe', { channel: 'group.x' })
    const found = await scrape(host)
    t.match(Object.fromEntries(found), {
      realtime_sockets: 3, realtime_connections: 3, realtime_roster_users: 2, realtime_roster_tenants: 2, realtime_log_queued_events: 0,
      'realtime_healthy{part="database"}': 1, 'realtime_healthy{part="backplane"}': 1, 'realtime_healthy{part="roster"}': 1
    })
    t.equal(found.get('realtime_channels'), 7, 'a private one for each user, presence and broadcast for each tenant, and the group')
    for (const client of clients) await client.end()
    await until('all are gone', async () => (await scrape(host)).get('realtime_connections') === 0)
    t.equal((await scrape(host)).get('realtime_roster_users'), 0)
  })

  test('pending and failed events are those of all tenants and nodes, and are counted at most every 5 s', async (t) => {
    const [a, b] = await buildNodes(t, { backend, ...METRICS })
    const stored = async (host: Host) => {
      const found = await scrape(host)
      return ['pending', 'failed'].map((status) => found.get(`realtime_log_events{status="${status}"}`))
    }
    t.strictSame(await stored(a), [0, 0])
    const send = async (tenantId: number) => await a.app.realtime.channels.message({ tenantId, recipientId: 9, message: 'x', conversationId: 'c' })
    for (const tenantId of [1, 1, 2, 2, 2]) await send(tenantId)
    await internalsOf(a.app).database.db.updateTable('websocket_events').set({ status: 'failed' }).where('tenant_id', '=', userOn(backend, 1).tenantId).execute()
    t.strictSame(await stored(a), [0, 0], 'kept')
    if (b !== a) t.strictSame(await stored(b), [3, 2], 'another node counts for itself')
    // The count of before may have taken long.
    await until('it is counted again', async () => {
      a.clock.advance(5000)
      return (await stored(a)).join() === '3,2'
    })
  })

  test('a scrape works while the database is unavailable, without the figures of the database', async (t) => {
    const host = await buildHost(t, { backend, ...METRICS, options: { storageTimeout: 1000 } })
    t.equal((await scrape(host)).get('realtime_log_events{status="pending"}'), 0)
    internalsOf(host.app).database.slow.selectFrom = () => { throw new Error('away') }
    await until('the count is given up', async () => {
      host.clock.advance(60_000)
      return (await scrape(host)).get('realtime_log_events{status="pending"}') === undefined
    })
    t.equal((await scrape(host)).get('realtime_connections'), 0)
  })

  test('the host’s own metrics are scraped, too', async (t) => {
    const host = await buildHost(t, { backend, ...METRICS })
    const { Gauge } = await import('prom-client')
    const { registry } = host.app.realtime.stats
    t.ok(registry)
    new Gauge({ name: 'shop_open_orders', help: 'Orders', registers: registry === null ? [] : [registry] }).set(7)
    t.equal((await scrape(host)).get('shop_open_orders'), 7)
  })

  test('commits are counted with their rows and their time', async (t) => {
    const host = await buildHost(t, { backend, ...METRICS, options: allowAll })
    const send = async () => await host.app.realtime.channels.publish({ tenantId: 1, channel: 'group.x', event: 'x', data: {} })
    await Promise.all(Array.from({ length: 20 }, send))
    await send()
    const found = await scrape(host)
    t.equal(found.get('realtime_log_batch_rows_sum'), 21)
    const commits = found.get('realtime_log_batch_rows_count') ?? 0
    t.ok(commits >= 2 && commits < 21, 'those of one turn are one batch')
    t.equal(found.get('realtime_log_commit_seconds_count'), commits)
    t.ok((found.get('realtime_log_commit_seconds_sum') ?? 0) > 0)
  })

  test('the frames that a slow reader loses are counted', async (t) => {
    const host = await buildHost(t, { backend, ...METRICS, options: allowAll, connections: { maxBuffered: 4096 } })
    const client = await connect(host, user(1))
    await client.request('subscribe', { channel: 'group.x' })
    const { channels } = host.app.realtime
    client.socket.pause()
    const dropped = async (reason: string) => (await scrape(host)).get(`realtime_frames_dropped_total{reason="${reason}"}`)
    t.equal(await dropped('slow_reader'), 0)
    await until('something ephemeral is dropped', async () => {
      for (let i = 0; i < 500; i++) channels.tell({ tenantId: 1, channel: 'group.x', event: 'x', data: { text: 'x'.repeat(2000) } })
      return (await dropped('slow_reader') ?? 0) > 0
    })
    t.equal(await dropped('too_slow'), 0)
    for (let i = 0; i < 8; i++) await channels.publish({ tenantId: 1, channel: 'group.x', event: 'x', data: { text: 'x'.repeat(1500) } })
    // What is durable waits in the log, not in memory; whoever takes nothing of it is closed.
    await until('the socket is closed', () => {
      host.clock.advance(10_000)
      return host.app.realtime.connections.size === 0
    })
    client.socket.terminate()
  })

  test('the way through Redis and back, and the event loop, are timed', async (t) => {
    const host = await buildHost(t, { backend, ...METRICS })
    for (const statistic of ['mean', 'p50', 'p99', 'max']) {
      const late = (await scrape(host)).get(`realtime_event_loop_delay_seconds{statistic="${statistic}"}`)
      t.ok(late !== undefined && late >= 0 && late < 10, statistic)
    }
    if (isEmbedded(backend)) {
      t.equal((await scrape(host)).get('realtime_backplane_round_trip_seconds_count'), 0)
      return
    }
    await until('the probe is back', async () => ((await scrape(host)).get('realtime_backplane_round_trip_seconds_count') ?? 0) > 0)
    t.ok(((await scrape(host)).get('realtime_backplane_round_trip_seconds_sum') ?? 10) < 5)
  })

  test('two hosts of one process have figures of their own, in the text format', async (t) => {
    const [a, b] = [await buildHost(t, { backend, ...METRICS }), await buildHost(t, { backend, ...METRICS })]
    await connect(a, user(1))
    t.equal((await scrape(a)).get('realtime_connections'), 1)
    t.equal((await scrape(b)).get('realtime_connections'), 0)
    const answer = await fetch(`${a.url}/metrics`)
    t.match(answer.headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
    const text = await answer.text()
    for (const [, name] of text.matchAll(/^# TYPE (\S+)/gm)) {
      t.match(name, /^realtime_[a-z_]+$/)
      t.match(text, new RegExp(`^# HELP ${name} .+`, 'm'))
    }
    const documented = readFileSync(new URL('../docs/metrics.md', import.meta.url), 'utf8').matchAll(/^\| `(realtime_\w+)` \| (\w+)/gm)
    t.strictSame([...documented].map(([, name, type]) => `${name} ${type}`).sort(),
      [...text.matchAll(/^# TYPE (\S+) (\S+)/gm)].map(([, name, type]) => `${name} ${type}`).sort())
    t.equal((await rest(a, user(1), 'GET', '/stats')).status, 200)
  })

  test('without the option, there are no metrics, and their library is not loaded', async (t) => {
    t.notOk(loadedAtStart)
    const host = await buildHost(t, { backend })
    t.equal((await fetch(`${host.url}/metrics`)).status, 404)
    t.equal(internalsOf(host.app).metrics.framesIn, null)
    t.equal(host.app.realtime.stats.registry, null)
  })

  test('without the connections plugin there are still figures, and a wrong path is named', async (t) => {
    const host = await buildHost(t, { backend, ...METRICS, plugins: ['stats'] })
    t.equal((await scrape(host)).get('realtime_sockets'), 0)
    const app = Fastify()
    t.teardown(async () => { await app.close() })
    await app.register(realtime, { database: 'sqlite::memory:', authenticate: () => null })
    await t.rejects(async () => { await app.register(stats, { metrics: 'metrics' }) }, /option "metrics"/)
  })
})
