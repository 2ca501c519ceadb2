import { Type, type Static, type TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { FastifyBaseLogger } from 'fastify'
import { withTimeout } from '../../lib/async/with-timeout.js'
import { RealtimeError } from '../../lib/errors.js'
import { Id, withIds } from '../../lib/id-schemas.js'
import type { Id as IdType } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { connectionKey } from '../../lib/keys.js'
import type { RosterConnection } from '../../lib/roster/contract.js'
import { Connection } from './connection.js'

const why = { code: Type.Integer(), reason: Type.String() }
const CloseConnection = Type.Object({
  tenantId: Id,
  connectionId: Type.String(),
  /** Only the socket of this generation; absent: whichever has the id. */
  generation: Type.Optional(Type.String()),
  ...why
})
type CloseConnection = Static<typeof CloseConnection>
const CloseUser = Type.Object({ tenantId: Id, userId: Id, ...why })
type CloseUser = Static<typeof CloseUser>

/** How long another node may take to close its sockets, in milliseconds. */
const ANSWER_TIME = 2000

/**
 * Closes sockets, on whichever node they are. A node closes its own by what it holds itself, whatever the roster says; all
 * living nodes are asked where the roster does not name the one.
 */
export class Closing {
  readonly #internals: Internals
  readonly #log: FastifyBaseLogger

  constructor (internals: Internals, log: FastifyBaseLogger) {
    this.#internals = internals
    this.#log = log
    const [connection, user] = withIds([CloseConnection, CloseUser] as const, internals.ids.kind)
    internals.rpc.handle('connections.close', async (data) => this.#closeHere(checked(connection, data)))
    internals.rpc.handle('connections.closeUser', async (data) => this.#closeUserHere(checked(user, data)))
  }

  /** Closes the socket of an entry of the roster, and no newer one under the same id. */
  async socket ({ tenantId, connectionId, nodeId, generation }: RosterConnection, code: number, reason: string): Promise<void> {
    if (nodeId !== null) await this.#ask(nodeId, 'connections.close', { tenantId, connectionId, generation, code, reason } satisfies CloseConnection)
  }

  /** Closes the socket with this id where the roster does not know it. False: no node has one. */
  async unlisted (tenantId: IdType, connectionId: string, code: number, reason: string): Promise<boolean> {
    const request: CloseConnection = { tenantId, connectionId, code, reason }
    return this.#closeHere(request) || (await this.#askOthers('connections.close', request)).includes(true)
  }

  /** Closes all sockets of a user. Returns the ids of their connections. */
  async user (tenantId: IdType, userId: IdType, code: number, reason: string): Promise<string[]> {
    const request: CloseUser = { tenantId, userId, code, reason }
    const here = this.#closeUserHere(request)
    const others = await this.#askOthers('connections.closeUser', request)
    return [...here, ...others.filter((ids) => Array.isArray(ids)).flat().filter((id) => typeof id === 'string')]
  }

  #closeHere ({ tenantId, connectionId, generation, code, reason }: CloseConnection): boolean {
    const connection = this.#internals.localConnections.get(connectionKey(tenantId, connectionId))
    if (connection === undefined || connection.closed) return false
    if (generation !== undefined && connection instanceof Connection && connection.generation !== generation) return false
    connection.close(code, reason)
    return true
  }

  #closeUserHere ({ tenantId, userId, code, reason }: CloseUser): string[] {
    const open = [...this.#internals.localConnections.values()].filter(({ closed }) => !closed)
    const theirs = open.filter(({ identity }) => identity.tenantId === tenantId && identity.userId === userId)
    for (const connection of theirs) connection.close(code, reason)
    return theirs.map(({ id }) => id)
  }

  async #askOthers (op: string, data: CloseConnection | CloseUser): Promise<unknown[]> {
    const { nodeId, roster } = this.#internals
    // While Redis is away nobody else can be reached.
    const nodes = await roster.aliveNodes().catch(() => [])
    return await Promise.all(nodes.filter((node) => node !== nodeId).map(async (node) => await this.#ask(node, op, data)))
  }

  async #ask (node: string, op: string, data: CloseConnection | CloseUser): Promise<unknown> {
    const answer = this.#internals.rpc.call(node, op, data)
    return await withTimeout(answer, ANSWER_TIME, () => new Error('no answer')).catch((err: unknown) => {
      // Its lease will end its connections: the node is gone, or as good as gone.
      this.#log.warn({ err, node }, 'a node that was asked to close a connection does not answer')
      return undefined
    })
  }
}

/** What comes from another node may be of another version. */
function checked<T extends TSchema> (schema: T, data: unknown): Static<T> {
  if (!Value.Check(schema, data)) throw new RealtimeError('RT_INVALID_DATA')
  return data
}
