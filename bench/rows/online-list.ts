import { join } from 'node:path'
import { cpuOf, startScript } from '../servers.js'
import { calls, perSecond } from './rest.js'

/** Microseconds of the node and of Redis together for one page of 100, with this number of users online. */
export async function onlinePage ({ online, count }: { online: number, count: number }, redis: { url: string, pid: number }): Promise<number> {
  const host = await startScript(join(import.meta.dirname, '..', 'seeded-host.ts'), { SEED: String(online), REDIS_URL: redis.url })
  try {
    const both = { port: host.port, cpu: () => host.cpu() + cpuOf(redis.pid) }
    return 1e6 / await perSecond(both, calls['online list'], count)
  } finally {
    await host.stop()
  }
}
