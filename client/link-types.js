// Lets the server's types speak for the client's: a program that declares its ids to `fastify-realtime` need not declare
// them to `fastify-realtime/client` again. The client alone, in its own package, knows nothing of the server.
import { appendFileSync } from 'node:fs'

const augmentation = (format) => `
declare module '../../client/dist/${format}/index.js' {
  interface Register extends Pick<import('../lib/register.js').Register, 'ids' & keyof import('../lib/register.js').Register> {}
}
`
appendFileSync(new URL('../dist/plugins/index.d.ts', import.meta.url), ['esm', 'cjs'].map(augmentation).join(''))
