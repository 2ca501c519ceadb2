import type { Register } from './register.js'

/** The kind of ids of tenants and users: positive integers, or strings like UUIDs. One kind per database. */
export type IdKind = 'integer' | 'string'

/** The id of a tenant or a user, as the host declared it in {@link Register}. */
export type Id = Register extends { ids: 'string' } ? string : number

/** Excludes `/` and `:`, which separate ids in keys, and the comma, which separates them in queries. */
const CHARACTER = '[A-Za-z0-9._\\-@+=|]'
const CHANNEL_CHARACTERS = { integer: '._:-', string: '._:|@+=-' } as const

const patterns = {
  integer: { id: '[1-9]\\d{0,15}', name: 'a positive integer' },
  string: { id: `${CHARACTER}{1,64}`, name: 'a string of 1 to 64 letters, digits and ._-@+=|' }
} as const

/** Everything that depends on the kind of ids of this database. */
export class Ids {
  readonly kind: IdKind
  /** The sender of events that host code publishes without a user. */
  readonly system: Id
  /** Describes an id, for error messages. */
  readonly description: string
  readonly #pattern: RegExp
  readonly #channel: RegExp

  constructor (kind: IdKind) {
    this.kind = kind
    this.system = (kind === 'string' ? '' : 0) as Id
    this.description = patterns[kind].name
    this.#pattern = new RegExp(`^${idPattern(kind)}$`)
    this.#channel = new RegExp(channelPattern(kind))
  }

  /** Whether a value is a valid id of a tenant or a user. */
  isId (value: unknown): value is Id {
    return this.kind === 'string' ? typeof value === 'string' && this.#pattern.test(value) : Number.isSafeInteger(value) && Number(value) > 0
  }

  /** Parses text from outside; null if it is not a valid id. */
  read (text: string): Id | null {
    if (!this.#pattern.test(text)) return null
    const id = this.parse(text)
    return this.isId(id) ? id : null
  }

  /** Parses an id that fastify-realtime wrote, as returned by a driver or Redis. */
  parse (value: string | number | bigint): Id {
    return (this.kind === 'string' ? String(value) : Number(value)) as Id
  }

  /** The order of lists and cursors: numeric, or by bytes. */
  compare (a: Id, b: Id): number {
    if (a === b) return 0
    return a < b ? -1 : 1
  }

  isChannel (name: string): boolean {
    return this.#channel.test(name)
  }
}

/** The regular expression of one id, without anchors. */
export const idPattern = (kind: IdKind): string => patterns[kind].id

/** The characters of channel names beside letters and digits. */
export const channelCharacters = (kind: IdKind): string => CHANNEL_CHARACTERS[kind]

/** The regular expression of a channel's name. */
export const channelPattern = (kind: IdKind): string => `^[A-Za-z0-9][A-Za-z0-9${CHANNEL_CHARACTERS[kind]}]{0,254}$`

export const isIdKind = (value: unknown): value is IdKind => value === 'integer' || value === 'string'
