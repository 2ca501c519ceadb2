import t from 'tap'
import { allowAll, backends, buildHost, connect, pluginNames, rest, store, tokenOf, user, type PluginName } from './helper.js'

/** One route of each plugin, and one frame where it has any. */
const routes: Record<PluginName, ['GET' | 'POST', string, object?]> = {
  connections: ['POST', '/connect', { connection_id: 'by-rest' }],
  presence: ['GET', '/presence/1'],
  typing: ['GET', '/typing/c'],
  channels: ['GET', '/events?channel=group.x'],
  conversations: ['GET', '/conversations'],
  stats: ['GET', '/stats']
}
const frames: Partial<Record<PluginName, [string, object]>> = {
  presence: ['user:presence', { status: 'busy' }],
  typing: ['user:typing', { conversationId: 'c', isTyping: false }],
  channels: ['subscribe', { channel: 'group.x' }],
  conversations: ['history', { channel: 'group.x' }]
}
const automatic: Partial<Record<PluginName, string>> = { presence: 'presence', channels: 'broadcast' }

const subsets = Array.from({ length: 2 ** pluginNames.length }, (_, mask) =>
  shuffle(pluginNames.filter((_, i) => mask & 1 << i), mask))

/** Another order for each seed, the same in each run. */
function shuffle<T> (list: T[], seed: number): T[] {
  const weigh = (i: number): number => Math.sin((seed + 1) * (i + 1) * 12.9898)
  return list.map((value, i) => ({ value, weight: weigh(i) })).sort((a, b) => a.weight - b.weight).map(({ value }) => value)
}

t.jobs = backends.length
for (const backend of backends) {
  void t.test(backend, { buffered: true }, async (t) => {
    const shared = await store(t, backend)
    for (const [i, plugins] of subsets.entries()) {
      // What is there does not depend on the servers: a sample shows that they make no difference.
      if (backend !== 'embedded' && plugins.length > 1 && plugins.length < pluginNames.length) continue
      await t.test(`the core with ${plugins.join(', ') || 'nothing'} boots, answers and closes`, async (t) => {
        // One database for all subsets, each with a tenant of its own.
        const host = await buildHost(t, { backend: 'embedded', plugins, options: { ...allowAll, ...shared } })
        const me = user(1, { tenantId: i + 1 })
        t.match(await host.app.realtime.health(), { ok: true })
        for (const name of pluginNames) {
          const isThere = plugins.includes(name)
          const { status } = await rest(host, me, ...routes[name])
          t.equal(status, !isThere ? 404 : name === 'connections' ? 201 : 200, `the route of ${name}`)
          if (isThere) t.ok(host.app.realtime[name], `the decorator of ${name}`)
          else t.throws(() => host.app.realtime[name], { message: new RegExp(`register the ${name} plugin`) })
        }
        if (!plugins.includes('connections')) {
          t.equal((await rest(host, me, 'GET', '/ws')).status, 404)
          await host.app.close()
          return
        }
        const client = await connect(host, me, { connectionId: 'by-socket' })
        const { channels } = await client.request('auth', { token: tokenOf(me) })
        t.same(new Set(channels), new Set(['private-user.1', ...plugins.flatMap((name) => automatic[name] ?? [])]))
        for (const name of pluginNames) {
          const [event, data] = frames[name] ?? []
          if (event === undefined) continue
          if (plugins.includes(name)) t.ok(await client.request(event, data), event)
          else await t.rejects(client.request(event, data), { code: 'RT_INVALID_FRAME' }, event)
        }
        await host.app.close()
        t.equal(await client.closed, 1012)
      })
    }
  })
}
