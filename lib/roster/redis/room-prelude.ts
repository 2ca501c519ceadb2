import { prelude } from './prelude.js'

/** Functions shared by the scripts of channels' members. */
export const roomPrelude = prelude + `
local function countOf(holders, node) return tonumber(string.match(',' .. holders .. ',', ',' .. string.gsub(node, '%p', '%%%0') .. '=(%d+),')) or 0 end
-- Sets the node's number of connections of the user in the channel. Without any, the user leaves at the given time, or now if that has passed.
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
-- Returns the change to send now, '' without one: version, number of members, 1 if it is listed, users who joined,
-- users who left; and the milliseconds until the next is due, or ''.
local function collectRoomChange(channel)
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
local function collectRoomChanges(limit)
  local changes = {}
  for _, channel in ipairs(redis.call('ZRANGEBYSCORE', base .. 'tells', '-inf', now, 'LIMIT', 0, limit)) do
    local change = collectRoomChange(channel)[1]
    if change ~= '' then table.insert(changes, { channel, change }) end
  end
  return changes
end
`
