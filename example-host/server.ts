import { buildApp } from './app.js'
import { readSettings } from './settings.js'

try {
  const settings = readSettings(process.env)
  const app = await buildApp(settings)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      app.close().then(() => { process.exit(0) }, (err: unknown) => {
        app.log.error({ err }, 'Closing failed')
        process.exit(1)
      })
    })
  }
  const address = await app.listen({ port: settings.port, host: settings.host })
  console.log(`listening on ${address}`)
} catch (err) {
  console.error(err instanceof Error ? err.message : err)
  process.exit(1)
}
