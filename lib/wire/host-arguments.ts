import type { TSchema } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { privateOwner } from '../channel-names.js'
import { RealtimeError } from '../errors.js'
import { channelCharacters, type Ids } from '../ids.js'
import { ConnectionId, DedupeId } from '../schemas.js'
import { CloseCode } from './close-codes.js'

/**
 * Checks of arguments from host code. TypeScript catches most mistakes, but not those of JavaScript hosts, nor an id that is
 * NaN. Each check throws `RT_INVALID_DATA` with the name of the argument.
 */

type Check = (value: unknown, name: string) => void

export const wrongArgument = (name: string, problem: string): RealtimeError => new RealtimeError('RT_INVALID_DATA', `${name}: ${problem}`)

function checkBy (schema: TSchema, problem: string): Check {
  const compiled = TypeCompiler.Compile(schema)
  return (value, name) => { if (!compiled.Check(value)) throw wrong(value, name, problem) }
}

const wrong = (value: unknown, name: string, problem: string): RealtimeError => wrongArgument(name, value === undefined ? 'is missing' : problem)

/** A tenant or a user. */
export function requireId (ids: Ids, value: unknown, name: string): void {
  if (!ids.isId(value)) throw wrong(value, name, `is not an id: ${ids.description}`)
}

/** A user, or the system itself. */
export function requireSender (ids: Ids, value: unknown, name: string): void {
  if (value !== ids.system && !ids.isId(value)) throw wrong(value, name, `is not the id of a user: ${ids.description}, or ${JSON.stringify(ids.system)} for the system`)
}

export const requireConnectionId: Check = checkBy(ConnectionId, 'is not the id of a connection')

export const requireDedupeId: Check = checkBy(DedupeId, 'is not a text of 1 to 98 characters')

export function requireIds (ids: Ids, values: unknown, name: string): void {
  if (!Array.isArray(values)) throw wrongArgument(name, 'is not a list of ids')
  values.forEach((value, i) => { requireId(ids, value, `${name}.${i}`) })
}

/** A valid channel name. */
export function requireChannel (ids: Ids, channel: unknown, name = 'channel'): void {
  if (typeof channel !== 'string' || !ids.isChannel(channel)) {
    throw wrong(channel, name, `is not a channel: letters, digits and ${channelCharacters(ids.kind)}, at most 255`)
  }
  if (channel === 'user:me') throw wrongArgument(name, 'user:me is only defined for clients: use private-user.{id}')
  if (channel.startsWith('private-user.') && privateOwner(channel, ids) === null) throw wrongArgument(name, `${channel} is not the channel of a user: use private-user.{id}`)
}

/** Names the data in the error of a value that cannot be written as JSON: a BigInt, or a circular object. */
export const notJson = (err: unknown): unknown =>
  err instanceof TypeError ? wrongArgument('data', `cannot be written as JSON: ${err.message.split('\n', 1)[0]}`) : err

/** Checks the code and the reason of a close before they are sent to the node of the socket, where `ws` would throw. */
export function requireClose (code: unknown, reason: unknown): void {
  const isOwn = Number.isInteger(code) && Number(code) >= 4000 && Number(code) <= 4999
  if (!isOwn && !Object.values<unknown>(CloseCode).includes(code)) throw wrongArgument('code', 'is not a close code: 4000 to 4999, or one of CloseCode')
  if (typeof reason !== 'string' || Buffer.byteLength(reason) > 123) throw wrongArgument('reason', 'is not a text of at most 123 bytes')
}
