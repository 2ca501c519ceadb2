import { tableScript } from '../../redis/script.js'
import { roomPrelude } from './room-prelude.js'

/** The scripts with which a node makes the members of channels in Redis agree with the node's own connections. */

/** Writes the node's entries. Returns for each tenant the number of entries that Redis assigns to the node. */
export const restoreRooms = tableScript({
  prelude: roomPrelude, parameters: ['node'], columns: ['channel', 'user', 'count'], setup: 'local results = {}', result: 'results'
}, `
  for n = 1, rows do
    local COLUMNS = row(n)
    local holders = redis.call('HGET', base .. 'holders:' .. channel, user)
    if not holders or countOf(holders, node) ~= tonumber(count)
      or redis.call('SISMEMBER', base .. 'crowd:' .. node, user .. '/' .. channel) == 0
      or redis.call('SISMEMBER', base .. 'in:' .. user, channel) == 0
      or (redis.call('ZSCORE', base .. 'room:' .. channel, user) == false) ~= (redis.call('SISMEMBER', base .. 'hidden', user) == 1) then
      setHolder(channel, user, node, tonumber(count), now)
    end
  end
  results[i] = redis.call('SCARD', base .. 'crowd:' .. node)`)

/** Removes entries that Redis assigns to the node and that the node does not have. Their users leave after `delay`. */
export const disownRooms = tableScript({ prelude: roomPrelude, parameters: ['node', 'delay'], columns: ['member'], result: '1' }, `
  for n = 1, rows do
    local COLUMNS = row(n)
    local user, channel = string.match(member, '^([^/]*)/(.*)$')
    if user then setHolder(channel, user, node, 0, now + tonumber(delay)) else redis.call('SREM', base .. 'crowd:' .. node, member) end
  end`)
