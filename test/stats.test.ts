import { allowAll, buildHost, connect, overBackends, rest, user } from './helper.js'

overBackends((test, backend) => {
  test('the figures are the caller’s tenant’s: connections, users, and events that wait', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const stats = async () => (await rest(host, user(1), 'GET', '/stats')).body.data
    t.strictSame(await stats(), { total_connections: 0, active_connections: 0, unique_users: 0, pending_events: 0, failed_events: 0 })
    await connect(host, user(1))
  })
})
