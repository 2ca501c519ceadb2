import { script, tableScript } from '../../redis/script.js'
import { prelude } from './prelude.js'

/**
 * The members of channels. A user is a member of a channel while a node holds a connection of the user in it, and for the time
 * of the grace afterwards. The keys are in the table in tenant-scripts.ts.
 */

export const roomPrelude = prelude + `
local function countOf(holders, node) return tonumber(string.match(',' .. holders .. ',', ',' .. string.gsub(node, '%p', '%%%0') .. '=(%d+),')) or 0 end
-- The node holds so many connections of the user in the channel; none: the user leaves at that time, or now if that is not later.
local function setHolder(channel, user, node, count, leavesAt)
  local key, held = base .. 'holders:' .. channel, {}
  for name, number in string.gmatch(redis.call('HGET', key, user) or '', '([^,=]+)=(%d+)') do
    if name ~= node then table.insert(held, name .. '=' .. number) end
  end
  if count > 0 then
    table.insert(held, node .. '=' .. toText(count))
    redis.call('SADD', base .. 'crowd:' .. node, user .. '/' .. channel)
  else
    redis.call('SREM', base .. 'crowd:' .. node, user .. '/' .. channel)
  end
  if #held > 0 then
    redis.call('HSET', key, user, table.concat(held, ','))
    redis.call('SADD', base .. 'in:' .. user, channel)
    redis.call('ZREM', base .. 'leaving', user .. '/' .. channel)
    if redis.call('SISMEMBER', base .. 'hidden', user) == 0 then setMember(channel, user, true) end
    return
  end
  redis.call('HDEL', key, user)
  redis.call('SREM', base .. 'in:' .. user, channel)
  if leavesAt > now and redis.call('ZSCORE', base .. 'room:' .. channel, user) then
    redis.call('ZADD', base .. 'leaving', toText(leavesAt), user .. '/' .. channel)
  else
    setMember(channel, user, false)
  end
end
-- The version of the change that was sent last. The first one is a time, so that none is used twice.
local function versionOf(channel) return tonumber(string.match(redis.call('HGET', base .. 'rooms', channel) or '', '^(%d+)')) or now end
-- Returns the change to be sent now, '' if there is none: version, number of members, 1 if it is listed, users who joined,
-- users who left; and the milliseconds until the next is due, or ''.
local function tell(channel)
  local at = tonumber(redis.call('ZSCORE', base .. 'tells', channel) or nil)
  if not at then return { '', '' } end
  if at > now then return { '', toText(at - now) } end
  redis.call('ZREM', base .. 'tells', channel)
  local deltaKey = base .. 'delta:' .. channel
  local changed, count = redis.call('HLEN', deltaKey), redis.call('ZCARD', base .. 'room:' .. channel)
  local change = ''
  if changed > 0 then
    local version = versionOf(channel) + 1
    local joined, left, listed = {}, {}, count <= 200 and changed <= 200
    if listed then
      local delta = redis.call('HGETALL', deltaKey)
      for n = 1, #delta, 2 do table.insert(delta[n + 1] == '+' and joined or left, delta[n]) end
    end
    redis.call('DEL', deltaKey)
    redis.call('HSET', base .. 'rooms', channel, toText(version) .. ',' .. toText(now))
    change = { toText(version), count, listed and 1 or 0, joined, left }
  end
  -- The next version is a later time.
  if count == 0 and redis.call('EXISTS', base .. 'holders:' .. channel) == 0 then redis.call('HDEL', base .. 'rooms', channel) end
  return { change, '' }
end
local function tellDue(limit)
  local changes = {}
  for _, channel in ipairs(redis.call('ZRANGEBYSCORE', base .. 'tells', '-inf', now, 'LIMIT', 0, limit)) do
    local change = tell(channel)[1]
    if change ~= '' then table.insert(changes, { channel, change }) end
  end
  return changes
end
`

/**
 * Records the connections of a user in a channel that the node holds, `count` of them. Without one, the user leaves after
 * `delay`. Returns the change to be sent and the time until the next; with `withMembers` '1', also the number of members,
 * the version, '1' if the members follow, and up to 200 of them.
 */
export const setRoom = script({ prelude: roomPrelude, parameters: ['channel', 'user', 'node', 'count', 'delay', 'withMembers', 'tenant'] }, `
setHolder(channel, user, node, tonumber(count), now + tonumber(delay))
if tonumber(count) == 0 and tonumber(delay) > 0 then scheduleCheck(tenant, delay) end
local result = tell(channel)
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

/** Returns the change to be sent, as `setRoom`. */
export const tellRoom = script({ prelude: roomPrelude, parameters: ['channel'] }, 'return tell(channel)')

/** Returns number of members, version, and up to `limit + 1` members whose id follows `after`. */
export const members = script({ prelude: roomPrelude, parameters: ['channel', 'after', 'limit'] }, `
local found = { redis.call('ZCARD', base .. 'room:' .. channel), toText(versionOf(channel)) }
for _, user in ipairs(usersAfter('room:' .. channel, after, tonumber(limit) + 1)) do table.insert(found, user) end
return found`)

/** Takes channels. Returns for each the number of members, and of their connections. */
export const roomSizes = script({ prelude: roomPrelude, parameters: [], more: 'first' }, `
local found = {}
for n = first, #ARGV do
  local connections, hidden = 0, {}
  for _, user in ipairs(redis.call('SMEMBERS', base .. 'hidden')) do hidden[user] = true end
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

/** Writes what the node holds. Returns for each tenant the number of entries that Redis assigns to the node. */
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
