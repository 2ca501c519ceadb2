import type { Register } from './register.js'

/** What identifies tenants and users: positive integers, or strings such as UUIDs. One choice per database. */
export type IdKind = 'integer' | 'string'

/** The id of a tenant or a user, as the host declared it in {@link Register}. */
export type Id = Register extends { ids: 'string' } ? string : number

/** Neither `/` nor `:`, which separate ids in keys; nor a comma, which separates them in queries. */
const CHARACTER = '[A-Za-z0-9._\\-@+=|]'
const CHANNEL_CHARACTERS = { integer: '._:-', string: '._:|@+=-' } as const

const patterns = {
  integer: { id: '[1-9]\\d{0,15}', name: 'a positive integer' },
  string: { id: `${CHARACTER}{1,64}`, name: 'a string of 1 to 64 letters, digits and ._-@+=|' }
} as const

/** Everything that depends on the kind of ids of this database. */
export class Ids {
  readonly kind: IdKind
  /** The sender of what host code publishes without a user. */
  readonly system: Id
  /** What an id is, in words. */
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

  /** True for what a host or a client may call a tenant or a user. */
  isId (value: unknown): value is Id {
    return this.kind === 'string' ? typeof value === 'string' && this.#pattern.test(value) : Number.isSafeInteger(value) && Number(value) > 0
  }

  /** The id in a text that somebody else wrote; null where it is none. */
  read (text: string): Id | null {
    if (!this.#pattern.test(text)) return null
    const id = this.parse(text)
    return this.isId(id) ? id : null
  }

  /** The id in what the suite wrote itself, as a driver or Redis hands it out. */
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
