import type { EventDescription } from '../../lib/wire/protocol.js'
import type { Chance } from './chance.js'

/** Stands in every text that the attackers send: nobody outside of their tenant may ever see it. */
export const MARK = 'h0stile'

/** A message as it is sent: fragments of one text or binary message. */
export interface HostileMessage { fragments: Buffer[], isBinary: boolean }

interface Schema {
  type?: string
  const?: unknown
  anyOf?: Schema[]
  properties?: Record<string, Schema>
  patternProperties?: Record<string, Schema>
  items?: Schema
  minimum?: number
  pattern?: string
}

/** JSON texts of values that are no field's right value, or are at its edge. */
const VALUES = [
  'null', 'true', 'false', '0', '-1', '1.5', '1e308', '1e400', '-1e400', '9007199254740993', '99999999999999999999999', '-0', '""', '" "', '[]', '{}', '[[]]', '[null]',
  `"${MARK}"`, `"${MARK}\\u0000"`, `"\\ud83d${MARK}"`, `"${MARK}\\udc00"`, '"\\u2028\\u202e"', '"1"', '"0x2"', '"1e3"', '"user:me"', '"private-user.1"', '"presence"',
  '"broadcast"', '"group.*"', '"../../etc/passwd"', '"\' or 1=1 --"', '"{{7*7}}"', '"__proto__"', '"constructor"', '"${jndi:ldap://x}"', '{"__proto__":{"isAdmin":true}}',
  '{"constructor":{"prototype":{"tenantId":2}}}', '{"toJSON":1,"then":1,"valueOf":null}', '{"length":1e9}', '[1,2,3,1]'
]
const NAMES = ['__proto__', 'constructor', 'prototype', 'toString', 'tenantId', 'tenant_id', 'clubId', 'userId', 'senderId', 'excludeConnectionId', 'then', '']

/** The JSON text of a value that fits the schema, more or less. */
function fitting (schema: Schema, chance: Chance): string {
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  if (schema.anyOf !== undefined) return fitting(chance.pick(schema.anyOf), chance)
  switch (schema.type) {
    case 'integer':
    case 'number': return String((schema.minimum ?? 0) + chance.below(5))
    case 'boolean': return String(chance.is(0.5))
    case 'array': return `[${Array.from({ length: 1 + chance.below(3) }, () => fitting(schema.items ?? {}, chance)).join(',')}]`
    case 'object': return objectOf(schema, chance, () => false)
    case 'string': return JSON.stringify(chance.pick([`group.${chance.below(5)}`, `${MARK}-${chance.below(100)}`, 'c', 'user:me', `private-user.${chance.below(5)}`]))
    default: return chance.pick(VALUES)
  }
}

/** The JSON text of an object of this schema; fields for which `isWrong` is true have values that do not fit, or are absent. */
function objectOf ({ properties = {} }: Schema, chance: Chance, isWrong: () => boolean): string {
  const fields = Object.entries(properties).flatMap(([name, schema]) => {
    if (!isWrong()) return [`${JSON.stringify(name)}:${fitting(schema, chance)}`]
    return chance.is(0.2) ? [] : [`${JSON.stringify(name)}:${hostileValue(chance)}`]
  })
  if (chance.is(0.1)) fields.push(`${JSON.stringify(chance.pick(NAMES))}:${hostileValue(chance)}`)
  return `{${fields.join(',')}}`
}

function hostileValue (chance: Chance): string {
  if (chance.is(0.05)) return nested(chance)
  if (chance.is(0.03)) return `"${MARK.repeat(1 + chance.below(1000))}"`
  return chance.pick(VALUES)
}

function nested (chance: Chance): string {
  const depth = chance.pick([15, 16, 17, 100, 5000])
  const [open, close] = chance.pick([['[', ']'], ['{"a":', '}'], ['[{"a":', '}]']] as const)
  return `${open.repeat(depth)}1${close.repeat(depth)}`
}

/** Text that follows JSON's grammar now and then. */
function babble (chance: Chance): string {
  const tokens = ['{', '}', '[', ']', ':', ',', '"event"', '"data"', '"id"', '"ping"', '"', '\\', '\\u', 'null', '1', '-', 'e', '.', ' ', '\n', MARK]
  return Array.from({ length: chance.below(30) }, () => chance.pick(tokens)).join('')
}

function frameText (events: readonly EventDescription[], chance: Chance): string {
  const kind = chance.next()
  if (kind < 0.05) return babble(chance)
  const { event, data } = chance.pick(events)
  const share = chance.pick([0, 0, 0.2, 0.5, 1])
  const name = chance.is(0.95) ? JSON.stringify(event) : hostileValue(chance)
  const text = kind < 0.1 ? hostileValue(chance) : objectOf(data as Schema, chance, () => chance.is(share))
  const id = chance.is(0.6) ? `,"id":${chance.is(0.9) ? chance.below(1000) : hostileValue(chance)}` : ''
  return `{"event":${name},"data":${text}${id}}`
}

/** A message of a client that means harm, or is broken. `events` are those that clients send. */
export function hostileMessage (events: readonly EventDescription[], chance: Chance): HostileMessage {
  const bytes = Buffer.from(frameText(events, chance))
  if (chance.is(0.08)) for (let flips = 1 + chance.below(4); flips > 0 && bytes.length > 0; flips--) bytes[chance.below(bytes.length)]! ^= 1 << chance.below(8)
  const cut = chance.is(0.04) ? bytes.subarray(0, chance.below(bytes.length + 1)) : bytes
  return { fragments: chance.is(0.05) ? fragmentsOf(cut, chance) : [cut], isBinary: chance.is(0.01) }
}

function fragmentsOf (bytes: Buffer, chance: Chance): Buffer[] {
  const size = 1 + chance.below(50)
  const fragments: Buffer[] = []
  for (let at = 0; at < bytes.length || at === 0; at += size) fragments.push(bytes.subarray(at, at + size))
  return fragments.length > 64 ? [bytes] : fragments
}

/** A route as Fastify registered it, with the schema that clients can read in the OpenAPI document. */
export interface Route { method: string, path: string, body?: object, querystring?: object, params?: object }

/** A request as `inject` takes it. */
export interface HostileRequest { method: 'GET' | 'POST' | 'PATCH' | 'DELETE', url: string, headers: Record<string, string>, payload?: string }

/** Frames within `POST /frames`, as hostile as those of a socket, and the names that its connection may have. */
const framesBody = (events: readonly EventDescription[], chance: Chance): string =>
  `{"connection_id":${JSON.stringify(chance.pick(['s0', 's1', 's2', 'none']))},"frames":[${Array.from({ length: 1 + chance.below(5) }, () => frameText(events, chance)).join(',')}]}`

/** A request of a client that means harm, or is broken: any field of any route's schema may be wrong, or absent. */
export function hostileRequest (routes: readonly Route[], events: readonly EventDescription[], token: string, chance: Chance): HostileRequest {
  const headers: Record<string, string> = { authorization: `Bearer ${chance.is(0.95) ? token : chance.pick(['', 'x', token.slice(1), `${token}x`])}` }
  if (chance.is(0.05)) headers[chance.pick(['last-event-id', 'origin', 'content-type', 'user-agent', 'x-forwarded-for'])] = asHeader(textOf(hostileValue(chance)))
  const { method, path, body, querystring = {} } = chance.pick(routes)
  const share = chance.pick([0, 0, 0.2, 0.5, 1])
  const isWrong = (): boolean => chance.is(share)
  const segment = (): string => chance.is(0.7) ? String(chance.below(200)) : textOf(hostileValue(chance)).slice(0, 300)
  const url = path.replace(/:\w+|\*/g, () => encodeURIComponent(segment().toWellFormed()))
  const query = (querystring as Schema).properties === undefined ? [] : Object.entries(JSON.parse(asObject(objectOf(querystring, chance, isWrong))) as object)
  const search = query.map(([name, value]) => `${encodeURIComponent(name.toWellFormed())}=${chance.is(0.97) ? encodeURIComponent(asText(value).slice(0, 5000).toWellFormed()) : '%zz%00%ff'}`).join('&')
  const request = { method: method as HostileRequest['method'], url: search === '' ? url : `${url}?${search}`, headers }
  if (method === 'GET' || (body === undefined && chance.is(0.9))) return request
  const payload = chance.is(0.05)
    ? babble(chance)
    : path.endsWith('/frames') && chance.is(0.8) ? framesBody(events, chance) : chance.is(0.05) ? hostileValue(chance) : objectOf(body ?? {}, chance, isWrong)
  return { ...request, headers: { ...headers, 'content-type': chance.is(0.97) ? 'application/json' : 'text/plain' }, payload }
}

/** What is sent as text where the value is no text. */
const asText = (value: unknown): string => {
  // Deep values are for bodies and frames: JavaScript itself cannot write them.
  try { return typeof value === 'string' ? value : JSON.stringify(value) ?? '' } catch { return '[[' }
}
const textOf = (json: string): string => { try { return asText(JSON.parse(json)) } catch { return json } }
const asHeader = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?')
/** Queries have fields, whatever became of their values. */
const asObject = (json: string): string => { try { JSON.parse(json); return json } catch { return '{}' } }
