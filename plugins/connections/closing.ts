import { Type, type Static } from '@sinclair/typebox'
import type { FastifyBaseLogger } from 'fastify'
import { callNodes } from '../../lib/backplane/call-nodes.js'
import { checkedData } from '../../lib/backplane/rpc-data.js'
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
  /** Only the socket of this generation; absent: any socket with the id. */
  generation: Type.Optional(Type.String()),
  ...why
})
type CloseConnection = Static<typeof CloseConnection>
const CloseUser = Type.Object({ tenantId: Id, userId: Id, ...why })
type CloseUser = Static<typeof CloseUser>

/** Time for another node to close its sockets. */
const RESPONSE_TIMEOUT_MS = 2000

/**
 * Closes sockets on any node. A node closes its own sockets without the roster. If the roster does not name the node of a socket,
 * all living nodes are called.
 */
export class Closing {
  readonly #internals: Internals
  readonly #log: FastifyBaseLogger

  constructor (internals: Internals, log: FastifyBaseLogger) {
    this.#internals = internals
    this.#log = log
    const [connection, user] = withIds([CloseConnection, CloseUser] as const, internals.ids.kind)
    internals.rpc.handle('connections.close', async (data) => this.#closeHere(checkedData(connection, data)))
    internals.rpc.handle('connections.closeUser', async (data) => this.#closeUserHere(checkedData(user, data)))
  }

  /** Closes the socket of an entry of the roster, but no newer one with the same id. */
  async socket ({ tenantId, connectionId, nodeId, generation }: RosterConnection, code: number, reason: string): Promise<void> {
    if (nodeId !== null) await this.#call([nodeId], 'connections.close', { tenantId, connectionId, generation, code, reason })
  }

  /** Closes the socket with an id that the roster does not have. False if no node has it either. */
  async unlisted (tenantId: IdType, connectionId: string, code: number, reason: string): Promise<boolean> {
    const request: CloseConnection = { tenantId, connectionId, code, reason }
    return this.#closeHere(request) || (await this.#callOthers('connections.close', request)).includes(true)
  }

  /** Closes all sockets of a user. Returns the ids of their connections. */
  async user (tenantId: IdType, userId: IdType, code: number, reason: string): Promise<string[]> {
    const request: CloseUser = { tenantId, userId, code, reason }
    const here = this.#closeUserHere(request)
    const others = await this.#callOthers('connections.closeUser', request)
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

  async #callOthers (op: string, data: CloseConnection | CloseUser): Promise<unknown[]> {
    const { nodeId, roster } = this.#internals
    // While Redis is unavailable no other node can be reached.
    const nodes = await roster.aliveNodes().catch(() => [])
    return await this.#call(nodes.filter((node) => node !== nodeId), op, data)
  }

  async #call (nodes: readonly string[], op: string, data: CloseConnection | CloseUser): Promise<unknown[]> {
    const results = await callNodes(this.#internals.rpc, nodes, {
      op,
      data,
      timeout: RESPONSE_TIMEOUT_MS,
      // The node is probably dead: its connections end with its lease.
      failed: (node, err) => { this.#log.warn({ err, node }, 'A node did not respond to a request to close connections') }
    })
    return [...results.values()]
  }
}
