import { createHmac } from 'node:crypto'
import type { FastifyInstance, InjectOptions } from 'fastify'
import { WebSocket } from 'ws'

/**
 * Suites call tenants and users by numbers. Where a host has string ids, what the client sends and gets is translated on
 * the way: 7 stands for one UUID, and the other way round. The order of the numbers is that of the strings, byte by byte.
 */

/** The string that stands for this number; the sender of the host itself is empty. */
export function textOf (id: number): string {
  if (id === 0) return ''
  const digits = id.toString(16).padStart(20, '0')
  return `${digits.slice(0, 8)}-0000-4000-8000-${digits.slice(8)}`
}

const UUID = /([0-9a-f]{8})-0000-4000-8000-([0-9a-f]{12})/
const ALL = new RegExp(UUID.source, 'g')
const numberOf = (high: string, low: string): number => parseInt(high + low, 16)

/** Fields that hold an id, or a list of ids. */
const FIELDS = new Set(['tenantId', 'userId', 'clubId', 'senderId', 'recipientId', 'recipientIds', 'userIds', 'offline', 'tenant_id', 'user_id', 'club_id',
  'recipient_id', 'recipient_ids', 'cursor', 'next_cursor', 'nextCursor', 'after', 'next', 'club', 'sub', 'user_ids', 'left', 'viewerId'])

type Translate = (value: unknown, isId: boolean) => unknown

/** Deeper there are no ids, but perhaps an object that holds itself. */
const DEPTH = 8

function deep (value: unknown, translate: Translate, isId = false, depth = 0, opaque?: string): unknown {
  if (depth > DEPTH) return value
  if (Array.isArray(value)) return value.map((one) => deep(one, translate, isId, depth + 1, opaque))
  if (value instanceof Map) return new Map([...value].map(([key, one]) => [translate(key, true), deep(one, translate, false, depth + 1)]))
  if (typeof value !== 'object' || value === null) return translate(value, isId)
  if (![Object.prototype, null].includes(Object.getPrototypeOf(value) as object | null)) return value
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, name === opaque ? one : deep(one, translate, FIELDS.has(name), depth + 1, opaque)]))
}

/** What a test says, as a host with string ids takes it. Ids that cannot be stay as they are. */
export const toStrings = <T>(value: T): T => deep(value, stringsOf) as T

/** What such a host says, as the test takes it. */
export const toNumbers = <T>(value: T): T => deep(value, numbersOf) as T

function stringsOf (value: unknown, isId: boolean): unknown {
  if (isId && Number.isSafeInteger(value) && Number(value) >= 0) return textOf(Number(value))
  if (typeof value !== 'string') return value
  if (isId && /^[1-9]\d{0,15}$/.test(value)) return textOf(Number(value))
  if (/^ey[\w-]+\.[\w-]+\.[\w-]+$|^ey[\w-]+$/.test(value)) return tokenOf(value)
  return value.replace(/private-user\.([1-9]\d{0,15})\b/g, (_, digits: string) => `private-user.${textOf(Number(digits))}`)
}

function numbersOf (value: unknown, isId: boolean): unknown {
  if (typeof value !== 'string') return value
  if (isId && value === '') return 0
  const [whole, high = '', low = ''] = UUID.exec(value) ?? []
  if (isId && whole === value) return numberOf(high, low)
  return value.replace(ALL, (_, high: string, low: string) => String(numberOf(high, low)))
}

/** A token whose claims are translated; one with a bad signature stays as it is. */
function tokenOf (token: string): string {
  const [header = '', body, signature] = token.split('.')
  const decode = (text: string): Record<string, unknown> => JSON.parse(Buffer.from(text, 'base64url').toString()) as Record<string, unknown>
  const encode = (claims: object): string => Buffer.from(JSON.stringify(claims)).toString('base64url')
  try {
    // A test app's token is the identity itself.
    if (body === undefined) return encode(toStrings(decode(header)))
    const sign = (text: string): string => createHmac('sha256', 'test-secret-test-secret-test-secret').update(text).digest('base64url')
    if (sign(`${header}.${body}`) !== signature) return token
    const translated = `${header}.${encode(toStrings(decode(body)))}`
    return `${translated}.${sign(translated)}`
  } catch {
    return token
  }
}

/** A path with ids in it. */
export const pathOf = (path: string): string => path
  .replace(/\/presence\/([1-9]\d*)/, (_, id: string) => `/presence/${textOf(Number(id))}`)
  .replace(/(user_ids|cursor)=([\d,]+)/g, (_, name: string, ids: string) => `${name}=${ids.split(',').map((id) => Number(id) > 0 ? textOf(Number(id)) : id).join(',')}`)
  .replace(/private-user\.([1-9]\d*)/g, (_, id: string) => `private-user.${textOf(Number(id))}`)

/** Headers with tokens in them. */
export const headersOf = <T extends Record<string, unknown>>(headers: T): T => Object.fromEntries(Object.entries(headers).map(([name, value]) =>
  [name, typeof value === 'string' ? value.split(' ').map((word) => stringsOf(word, false)).join(' ') : value])) as T

/** A roster or an API that takes strings, for a test that says numbers. Ids come first among the arguments, or in fields. */
export function translating<Target extends object> (
  target: Target, { ids = () => 1, to = stringsOf, from = numbersOf, opaque }: { ids?: (method: string) => number, to?: Translate, from?: Translate, opaque?: string } = {}
): Target {
  const back = (answer: unknown): unknown => deep(answer, from)
  return new Proxy(target, {
    get (_, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      return (...args: unknown[]): unknown => {
        const said = args.map((arg, i) => deep(arg, to, typeof arg === 'string' ? false : i < ids(String(name)), 0, opaque))
        const answer: unknown = Reflect.apply(value, target, said)
        return isPromiseLike(answer) ? answer.then(back) : back(answer)
      }
    }
  })
}

/** For suites in which keys are made of ids: 7 stands for `'7'`. */
export const digits = {
  to: (value: unknown, isId: boolean): unknown => isId && Number.isSafeInteger(value) && Number(value) >= 0 ? value === 0 ? '' : String(value) : value,
  from: (value: unknown, isId: boolean): unknown => isId && typeof value === 'string' && /^\d*$/.test(value) ? Number(value) : value
}

export const fromDigits = <T>(value: T): T => deep(value, digits.from) as T

const isPromiseLike = (value: unknown): value is Promise<unknown> => value instanceof Promise

/** Options of a host whose functions take and return numbers, as a suite with string ids asks them. */
export const optionsOf = <Options extends object>(options: Options): Options => Object.fromEntries(Object.entries(options).map(([name, option]) => {
  if (typeof option !== 'function' || !['authenticate', 'authorize', 'authorizeMany', 'beforePublish', 'resolveUsers', 'participants', 'visible'].includes(name)) return [name, option]
  return [name, (...args: unknown[]): unknown => {
    const answer: unknown = Reflect.apply(option, options, args.map((arg) => deep(arg, numbersOf, true)))
    const back = (value: unknown): unknown => deep(value, stringsOf, true)
    return isPromiseLike(answer) ? answer.then(back) : back(answer)
  }]
})) as Options

/** The same, of the plugins, by name. */
export const optionsOfPlugins = <Settings extends object>(settings: Settings): Settings => Object.fromEntries(Object.entries(settings)
  .map(([plugin, options]: [string, unknown]) => [plugin, typeof options === 'object' && options !== null && !Array.isArray(options) ? optionsOf(options) : options])) as Settings

/** How many of the first arguments of a host API are ids, or lists of ids. */
const API_IDS: Partial<Record<string, number>> = { of: 2, get: 2, closeUser: 2, join: 2, kick: 2 }

/** An app with string ids, for a test that says numbers. */
export function translatingApp (app: FastifyInstance): FastifyInstance {
  const listeners = new WeakMap<object, unknown>()
  const listenerOf = (listener: (...args: unknown[]) => unknown): unknown => {
    const known = listeners.get(listener) ?? ((...args: unknown[]) => listener(...args.map(toNumbers)))
    listeners.set(listener, known)
    return known
  }
  const events = new Proxy(app.realtime.events, {
    get: (target, name) => (event: never, listener: never) => { target[name as 'on'](event, listenerOf(listener) as never) }
  })
  const realtime = new Proxy(app.realtime, {
    get (target, name) {
      if (name === 'events') return events
      const part: unknown = Reflect.get(target, name)
      return typeof part === 'object' && part !== null ? translating(part, { ids: (method) => API_IDS[method] ?? 1 }) : part
    }
  })
  const inject = async (given: InjectOptions | string): Promise<unknown> => {
    const request = typeof given === 'string' ? { url: given } : given
    const { url, headers = {}, payload } = request
    const response = await app.inject({ ...request, ...typeof url === 'string' ? { url: pathOf(url) } : {}, headers: headersOf(headers), ...payload === undefined ? {} : { payload: toStrings(payload) } })
    return new Proxy(response, {
      get (target, name) {
        if (name === 'json') return () => toNumbers(target.json<unknown>())
        return Reflect.get(target, name, target) as unknown
      }
    })
  }
  return new Proxy(app, {
    get (target, name) {
      if (name === 'realtime') return realtime
      return name === 'inject' ? inject : Reflect.get(target, name, target) as unknown
    }
  })
}

/** The socket of a client of a host with string ids. */
export class TranslatingSocket extends WebSocket {
  constructor (...[url, protocols, options]: ConstructorParameters<typeof WebSocket>) {
    const offered = typeof protocols === 'string' ? [protocols] : protocols ?? []
    super(url, offered.map((protocol) => stringsOf(protocol, false) as string), { ...options, headers: headersOf({ ...options?.headers }) })
  }

  override send (data: never, ...rest: never[]): void {
    super.send(translated(data, toStrings) as never, ...rest as [])
  }

  override emit (event: string | symbol, ...args: unknown[]): boolean {
    return event === 'message' ? super.emit(event, translated(args[0], toNumbers), ...args.slice(1)) : super.emit(event, ...args)
  }
}

function translated (data: unknown, translate: (value: unknown) => unknown): unknown {
  const text = String(data)
  try {
    const json = JSON.stringify(translate(JSON.parse(text)))
    return typeof data === 'string' ? json : Buffer.from(json)
  } catch {
    return data
  }
}
