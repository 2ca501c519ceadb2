import type { IdKind } from '../../ids.js'
import type { Script } from '../../redis/script.js'

/**
 * How `present` and `visible` order users. Integers have their value as the score. Strings have one score, for which Redis
 * orders them byte by byte.
 */
const order: Record<IdKind, string> = {
  integer: `
local function scoreOf(user) return user end
local function usersAfter(name, after, limit)
  return redis.call('ZRANGEBYSCORE', base .. name, '(' .. after, '+inf', 'LIMIT', 0, limit)
end
`,
  string: `
local function scoreOf() return '0' end
local function usersAfter(name, after, limit)
  return redis.call('ZRANGEBYLEX', base .. name, after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, limit)
end
`
}

/** These scripts for users with ids of this kind. */
export function forIds<Scripts extends Record<string, Script>> (scripts: Scripts, kind: IdKind): Scripts {
  if (kind === 'integer') return scripts
  return Object.fromEntries(Object.entries(scripts).map(([name, script]) =>
    [name, { ...script, lua: script.lua.replace(order.integer, () => order[kind]) }])) as Scripts
}

/**
 * The beginning of every script of the roster: the tenant's base, the time, and the functions that several scripts use.
 * `ARGV[1]` is the difference between the node's clock and the system clock, which tests use to move time; `ARGV[2]` is the
 * number of users online up to which everyone is sent every change: -1 without a limit, '' if presence is not used.
 */
export const prelude = `
local base = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[1])
${order.integer}local function toText(ms) return string.format('%.0f', ms) end
local function findConnection(id)
  local text = redis.call('HGET', base .. 'connections', id)
  if not text then return nil end
  return cjson.decode(text)
end
local function encodeConnection(id, entry)
  entry.id = id
  return cjson.encode(entry)
end
local function contains(text, part) return string.find(text, part, 1, true) ~= nil end
local function inList(list, name) return contains(',' .. list .. ',', ',' .. name .. ',') end
-- The status of a presence; its text begins with it.
local function statusOf(presence) return string.match(presence, '^{"status":"(%a+)"') or 'online' end
-- Whether this presence shows the user in lists of online users.
local function isVisible(presence)
  local status = statusOf(presence)
  return status ~= 'offline' and status ~= 'invisible'
end
-- This presence, for a user who is invisible.
local function asInvisible(presence, since)
  local text = string.gsub(presence, '^{"status":"%a+"', '{"status":"invisible"', 1)
  return (string.gsub(text, '"hiddenSince":%w+', '"hiddenSince":' .. since, 1))
end
local everyoneLimit = tonumber(ARGV[2])
-- Whether Redis has all invisible users of the tenant: marked by the field '', which is evicted together with them.
local function isInvisibleKnown() return not everyoneLimit or redis.call('HEXISTS', base .. 'invisible', '') == 1 end
-- No event of this user may be sent before they are read again.
local function isUnknown(user)
  return redis.call('HEXISTS', base .. 'presence', user) == 0 and not isInvisibleKnown()
end
-- Whether every change is sent to everyone, '1' or '0'; '' if that was never decided, or is lost.
local function decidedMode() return redis.call('HGET', base .. 'mode', 'everyone') or '' end
local function modeOf()
  local decided = decidedMode()
  return decided ~= '' and decided or (everyoneLimit == 0 and '0' or '1')
end
-- The number of visible users changed. Decides the mode, and schedules the message to everyone about mode or number.
local function noteCount()
  if not everyoneLimit then return end
  local key, before, everyone = base .. 'mode', modeOf(), '0'
  if everyoneLimit < 0 then everyone = '1'
  elseif everyoneLimit > 0 then
    local online = redis.call('ZCARD', base .. 'visible')
    if online <= (before == '1' and everyoneLimit or math.floor(everyoneLimit * 0.9)) then everyone = '1' end
  end
  if everyone ~= before then
    redis.call('HSET', key, 'everyone', everyone, 'tell', 'mode', 'tellAt', toText(now))
  elseif everyone == '0' and redis.call('HEXISTS', key, 'tellAt') == 0 then
    local toldAt = tonumber(redis.call('HGET', key, 'toldAt')) or 0
    redis.call('HSET', key, 'tell', 'count', 'tellAt', toText(math.max(now, toldAt + 1000)))
  end
end
-- A user became a member of a channel, or left it. Schedules the message about it, see collectRoomChange in room-prelude.ts.
local function setMember(channel, user, isMember)
  local key = base .. 'room:' .. channel
  if not isMember then redis.call('ZREM', base .. 'leaving', user .. '/' .. channel) end
  local changed
  if isMember then changed = redis.call('ZADD', key, scoreOf(user), user) else changed = redis.call('ZREM', key, user) end
  if changed == 0 then return end
  local deltaKey, sign = base .. 'delta:' .. channel, isMember and '+' or '-'
  local before = redis.call('HGET', deltaKey, user)
  if before and before ~= sign then redis.call('HDEL', deltaKey, user) else redis.call('HSET', deltaKey, user, sign) end
  if not redis.call('ZSCORE', base .. 'tells', channel) then
    local toldAt = tonumber(string.match(redis.call('HGET', base .. 'rooms', channel) or '', ',(%d+)$')) or 0
    redis.call('ZADD', base .. 'tells', toText(math.max(now, toldAt + 1000)), channel)
  end
end
local function show(user)
  redis.call('SREM', base .. 'hidden', user)
  if redis.call('ZADD', base .. 'visible', scoreOf(user), user) == 0 then return end
  noteCount()
  for _, channel in ipairs(redis.call('SMEMBERS', base .. 'in:' .. user)) do
    if redis.call('HEXISTS', base .. 'holders:' .. channel, user) == 1 then setMember(channel, user, true) end
  end
end
local function hide(user)
  if redis.call('ZREM', base .. 'visible', user) == 0 then return end
  noteCount()
  for _, channel in ipairs(redis.call('SMEMBERS', base .. 'in:' .. user)) do setMember(channel, user, false) end
end
local function isConnected(user)
  return redis.call('SCARD', base .. 'of:' .. user) > 0 or redis.call('ZSCORE', base .. 'signs', user)
end
-- Counts the user's connections. Removes ids from the user's set that do not exist or belong to another user.
local function countConnections(user)
  local valid = 0
  for _, id in ipairs(redis.call('SMEMBERS', base .. 'of:' .. user)) do
    local text = redis.call('HGET', base .. 'connections', id)
    if text and contains(text, '"u":"' .. user .. '"') then valid = valid + 1 else redis.call('SREM', base .. 'of:' .. user, id) end
  end
  return valid
end
local function updateVisible(user)
  local text = redis.call('HGET', base .. 'presence', user)
  if text and isVisible(text) then show(user)
  else
    hide(user)
    if text then redis.call('SADD', base .. 'hidden', user) end
  end
end
-- The standing of a user: mode, number of visible users, and the user's own status.
local function standingOf(user)
  local text = redis.call('HGET', base .. 'presence', user)
  return decidedMode() .. ',' .. redis.call('ZCARD', base .. 'visible') .. ',' .. (text and statusOf(text) or redis.call('HEXISTS', base .. 'invisible', user) == 1 and 'invisible' or 'online')
end
-- Marks the user as online, with the given presence if none is stored. Returns true if the user was offline before. Any key
-- may have been evicted: the user counts as known if any of them still names the user, so that no user is reported twice.
local function markOnline(user, presence, seenAt)
  local isFirst = not redis.call('ZSCORE', base .. 'present', user)
  local isInGrace = redis.call('ZREM', base .. 'grace', user) == 1
  redis.call('HSET', base .. 'seen', user, seenAt or toText(now))
  if isFirst then
    redis.call('ZADD', base .. 'present', scoreOf(user), user)
    if isInGrace or isConnected(user) then isFirst = false end
  end
  local since = redis.call('HGET', base .. 'invisible', user)
  if since then presence = asInvisible(presence, since) end
  if redis.call('HSETNX', base .. 'presence', user, presence) == 1 then
    if since then redis.call('HSET', base .. 'said', user, since) else redis.call('HDEL', base .. 'said', user) end
    updateVisible(user)
  elseif isFirst then
    updateVisible(user)
  end
  return isFirst
end
-- Removes a connection. isRepair: the user did nothing at this time, so it does not count as activity.
local function removeConnection(id, entry, offlineAt, isRepair)
  redis.call('HDEL', base .. 'connections', id)
  redis.call('SREM', base .. 'of:' .. entry.u, id)
  redis.call('ZREM', base .. 'rest', id)
  redis.call('DEL', base .. 'channels:' .. id, base .. 'watches:' .. id)
  if entry.n ~= '' then redis.call('SREM', base .. 'node:' .. entry.n, id) end
  if not isRepair then
    redis.call('HSET', base .. 'seen', entry.u, toText(now))
    -- A user with a connection has no status lease. If there is one, it was written while the connection was evicted.
    if redis.call('SCARD', base .. 'of:' .. entry.u) == 0 then redis.call('ZREM', base .. 'signs', entry.u) end
  end
  if not isConnected(entry.u) then redis.call('ZADD', base .. 'grace', 'NX', offlineAt, entry.u) end
end
local function removeUser(user)
  redis.call('ZREM', base .. 'grace', user)
  redis.call('ZREM', base .. 'present', user)
  hide(user)
  redis.call('SREM', base .. 'hidden', user)
  redis.call('HDEL', base .. 'presence', user)
  redis.call('HDEL', base .. 'seen', user)
  redis.call('HDEL', base .. 'said', user)
end
-- The time at which typing was stopped, if the stored text is a stop ('-' and a time).
local function stoppedAt(text) return text and string.match(text, '^-(%d+)$') end
local function conversationOf(key) return string.match(key, ':(.*)$') end
-- Stops typing. Returns its entry, '-' if it was stopped before, or '' if nothing is known of it. If nodes other than \`node\`
-- know of this typing, the stop stays recorded until the typing would have expired: a missing record means that Redis evicted
-- it, and those nodes would write it again.
local function stop(key, node)
  local text = redis.call('HGET', base .. 'types', key)
  redis.call('SREM', base .. 'typers:' .. conversationOf(key), key)
  if stoppedAt(text) and node then return '-' end
  local nodes, entry = string.match(text or '', '^(%S+) (.*)$')
  if nodes and node and nodes ~= node and redis.call('ZSCORE', base .. 'typing', key) then
    -- One second later, because the clocks of nodes differ a little.
    redis.call('HSET', base .. 'types', key, '-' .. toText(now + 1000))
  else
    redis.call('ZREM', base .. 'typing', key)
    redis.call('HDEL', base .. 'types', key)
  end
  return entry or ''
end
-- Schedules the check of a new deadline, see \`scheduleIn\`. On a cluster \`KEYS[3]\` is absent and the caller does it.
local function scheduleCheck(tenant, inMs)
  if not KEYS[3] then return end
  redis.call('ZADD', KEYS[3], 'LT', toText(now + tonumber(inMs)), tenant)
  redis.call('HINCRBY', KEYS[3] .. ':marks', tenant, 1)
end
-- Schedules the message to everyone about mode or number.
local function scheduleAnnouncement(tenant)
  local at = tonumber(redis.call('HGET', base .. 'mode', 'tellAt') or nil)
  local room = redis.call('ZRANGE', base .. 'tells', 0, 0, 'WITHSCORES')
  if room[2] and (not at or tonumber(room[2]) < at) then at = tonumber(room[2]) end
  if at then scheduleCheck(tenant, math.max(0, at - now)) end
end
-- The time of the tenant's next deadline, or ''.
local function nextDeadline()
  local soonest = tonumber(redis.call('HGET', base .. 'mode', 'tellAt') or nil)
  for _, name in ipairs({ 'rest', 'signs', 'typing', 'grace', 'leaving', 'tells' }) do
    local head = redis.call('ZRANGE', base .. name, 0, 0, 'WITHSCORES')
    if head[2] and (not soonest or tonumber(head[2]) < soonest) then soonest = tonumber(head[2]) end
  end
  return soonest and toText(soonest) or ''
end
`
