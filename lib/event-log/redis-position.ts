import type { Cluster, Redis } from 'ioredis'
import type { RedisConnections } from '../redis/connect.js'
import type { LogPosition, PositionNote } from './contract.js'

/** Time to live of the position: longer than a weekend without any node. */
const KEPT_SECONDS = 7 * 24 * 3600
/** Larger numbers are not ids, and would never be replaced. */
const MAX_ID = 2 ** 52

/**
 * Stores the newer of two positions and returns it. The value is `{epoch}:{id}:{createdAt}`; any other value is replaced.
 * ARGV: id, value, time to live in seconds, the largest valid id.
 */
const SCRIPT = `
local known = redis.pcall('GET', KEYS[1])
local id = type(known) == 'string' and tonumber(string.match(known, '^[%w_-]+:(%d+):%d*$')) or nil
if id and id <= tonumber(ARGV[4]) and id > tonumber(ARGV[1]) then return known end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return ARGV[2]`

type WithPosition = (Redis | Cluster) & { rtPosition (key: string, ...args: Array<string | number>): Promise<string> }

/** The newest position of all nodes, in Redis, where it outlives all nodes and a restored database. */
export class RedisPosition implements PositionNote {
  readonly #redis: WithPosition
  readonly #key: string

  constructor ({ commands, prefix }: RedisConnections) {
    commands.defineCommand('rtPosition', { lua: SCRIPT, numberOfKeys: 1 })
    this.#redis = commands as WithPosition
    this.#key = `${prefix}newest`
  }

  async keep ({ epoch, id, createdAt }: LogPosition): Promise<LogPosition | null> {
    const text = await this.#redis.rtPosition(this.#key, id, `${epoch}:${id}:${createdAt ?? ''}`, KEPT_SECONDS, MAX_ID)
    const [, ofEpoch = '', ofId, ofTime] = /^([\w-]+):(\d+):(\d*)$/.exec(text) ?? []
    return ofId === undefined ? null : { epoch: ofEpoch, id: Number(ofId), createdAt: ofTime === '' ? null : Number(ofTime) }
  }
}

/** For a single process, which has no store for it. */
export const noPosition: PositionNote = { keep: async () => null }
