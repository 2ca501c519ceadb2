import type { FastifyInstance } from 'fastify'
import { internalsOf, type Internals } from './internals.js'
import type { RealtimeParts, Realtime } from './realtime.js'

type PartName = keyof RealtimeParts

/** The plugins that add a part to `fastify.realtime`. */
const PARTS = ['connections', 'presence', 'typing', 'channels', 'conversations', 'stats']

/** The prototype of `fastify.realtime`: reading the part of an unregistered plugin throws an error that names the plugin to register. */
const absent = Object.defineProperties({}, Object.fromEntries(PARTS.map((name) => [name, {
  get () {
    throw new Error(`app.realtime.${name} is not there: register the ${name} plugin first, await app.register(${name})`)
  },
  set (this: object, value: unknown) {
    Object.defineProperty(this, name, { value, enumerable: true, configurable: true, writable: true })
  }
}])))

/** The core with room for the parts that plugins add as they register. */
export const withParts = (realtime: Omit<Realtime, keyof RealtimeParts>): Realtime & RealtimeParts =>
  Object.setPrototypeOf(realtime, absent) as Realtime & RealtimeParts

/** Whether a plugin is registered. */
export const hasPart = <Name extends PartName>(realtime: Realtime, name: Name): realtime is Realtime & Pick<RealtimeParts, Name> =>
  Object.hasOwn(realtime, name)

/** The internals, for a plugin that is being registered. Throws if the core is missing, or if the plugin is registered already. */
export function internalsFor (fastify: FastifyInstance, name: PartName): Internals {
  if (!fastify.hasDecorator('realtime')) {
    throw new Error(`the ${name} plugin needs the core, 'realtime': await app.register(realtime, { … }) before it, in the same scope or one around it`)
  }
  const { realtime } = fastify
  if (hasPart(realtime, name)) throw new Error(`the ${name} plugin is registered already: register it once`)
  return internalsOf(fastify)
}
