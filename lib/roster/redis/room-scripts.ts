import { script, sequenceScript } from '../../redis/script.js'
import { roomPrelude } from './room-prelude.js'
import { join, leave } from './tenant-scripts.js'

/**
 * The members of channels. A user is a member of a channel while a node holds a connection of the user in it, and for the time
 * of the grace afterwards. The keys are in the table in tenant-scripts.ts.
 */

/**
 * Records the connections of a user in a channel that the node holds, `count` of them. Without one, the user leaves after
 * `delay`. Returns the change to be sent and the time until the next; with `withMembers` '1', also the number of members,
 * the version, '1' if the members follow, and up to 200 of them.
 */
export const setRoom = script({ prelude: roomPrelude, parameters: ['channel', 'user', 'node', 'count', 'delay', 'withMembers', 'tenant'] }, `
setHolder(channel, user, node, tonumber(count), now + tonumber(delay))
if tonumber(count) == 0 and tonumber(delay) > 0 then scheduleCheck(tenant, delay) end
local result = collectRoomChange(channel)
if result[2] ~= '' then scheduleCheck(tenant, result[2]) end
if withMembers == '1' then
  local members = redis.call('ZCARD', base .. 'room:' .. channel)
  table.insert(result, members)
  table.insert(result, toText(versionOf(channel)))
  table.insert(result, members <= 200 and 1 or 0)
  if members <= 200 then
    for _, one in ipairs(redis.call('ZRANGE', base .. 'room:' .. channel, 0, -1)) do table.insert(result, one) end
  end
end
return result`)

/** Calls of `join`, `leave` and `setRoom`, in this order; see `ConnectionChanges`. */
export const changeConnections = sequenceScript(roomPrelude, { join, leave, setRoom })

/** Returns the change to be sent, as `setRoom`. */
export const collectRoomChange = script({ prelude: roomPrelude, parameters: ['channel'] }, 'return collectRoomChange(channel)')

/** Returns number of members, version, and up to `limit + 1` members whose id follows `after`. */
export const members = script({ prelude: roomPrelude, parameters: ['channel', 'after', 'limit'] }, `
local found = { redis.call('ZCARD', base .. 'room:' .. channel), toText(versionOf(channel)) }
for _, user in ipairs(usersAfter('room:' .. channel, after, tonumber(limit) + 1)) do table.insert(found, user) end
return found`)

/** Takes channels. Returns for each the number of members, and of their connections. */
export const roomSizes = script({ prelude: roomPrelude, parameters: [], more: 'first' }, `
local found = {}
local hidden = {}
for _, user in ipairs(redis.call('SMEMBERS', base .. 'hidden')) do hidden[user] = true end
for n = first, #ARGV do
  local connections = 0
  local holders = redis.call('HGETALL', base .. 'holders:' .. ARGV[n])
  for i = 1, #holders, 2 do
    if not hidden[holders[i]] then
      for number in string.gmatch(holders[i + 1], '=(%d+)') do connections = connections + tonumber(number) end
    end
  end
  table.insert(found, redis.call('ZCARD', base .. 'room:' .. ARGV[n]))
  table.insert(found, connections)
end
return found`)
