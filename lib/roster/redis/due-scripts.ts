import { tableScript } from '../../redis/script.js'
import { prelude } from './prelude.js'
import { roomPrelude } from './room-prelude.js'

/**
 * Collects what is due in each tenant: returns offline users, their presence and last activity (alternating), typing
 * entries, expired connections, the next deadline or '', the mode, the number of visible users,
 * 'mode' or 'count' if everyone is to be sent that, or '', and changes of
 * channels' members, see `setRoom`, and '1' if a user may be invisible, see `isUnknown`, and waits for a second. Users stay in `grace` until `confirmOffline`, due again after
 * `claim`: if the node stops before it reported them, another node does.
 */
export const collectDue = tableScript({
  prelude: roomPrelude,
  parameters: ['offlineDelay', 'claim'],
  columns: [],
  setup: `
local left = 1000
local function dueIn(name)
  local found = redis.call('ZRANGEBYSCORE', base .. name, '-inf', now, 'LIMIT', 0, math.min(left, 500))
  left = left - #found
  return found
end
local offlineAt = now + tonumber(offlineDelay)
local lostPresence = '{"status":"online","device":"web","lastMessage":null,"data":null,"awaySince":null,"hiddenSince":null}'
local results = {}`,
  result: 'results'
}, `
  local offline, presences, stopped, expired, unknown = {}, {}, {}, {}, ''
  for _, id in ipairs(dueIn('rest')) do
    local entry = findConnection(id)
    redis.call('ZREM', base .. 'rest', id)
    if entry and entry.n == '' then
      removeConnection(id, entry, offlineAt)
      table.insert(expired, encodeConnection(id, entry))
    end
  end
  for _, user in ipairs(dueIn('signs')) do
    redis.call('ZREM', base .. 'signs', user)
    if not isConnected(user) then redis.call('ZADD', base .. 'grace', 'NX', offlineAt, user) end
  end
  for _, name in ipairs(dueIn('typing')) do
    local entry = stop(name)
    if entry ~= '' then table.insert(stopped, entry) end
  end
  for _, user in ipairs(dueIn('grace')) do
    if isConnected(user) then
      redis.call('ZREM', base .. 'grace', user)
    elseif isUnknown(user) then
      unknown = '1'
      redis.call('ZADD', base .. 'grace', toText(now + 1000), user)
    else
      redis.call('ZADD', base .. 'grace', now + tonumber(claim), user)
      table.insert(offline, user)
      local presence = redis.call('HGET', base .. 'presence', user)
      local since = not presence and redis.call('HGET', base .. 'invisible', user)
      table.insert(presences, since and asInvisible(lostPresence, since) or presence or '')
      table.insert(presences, redis.call('HGET', base .. 'seen', user) or '')
    end
  end
  for _, member in ipairs(dueIn('leaving')) do
    local user, channel = string.match(member, '^([^/]*)/(.*)$')
    redis.call('ZREM', base .. 'leaving', member)
    if redis.call('HEXISTS', base .. 'holders:' .. channel, user) == 0 then setMember(channel, user, false) end
  end
  local rooms = collectRoomChanges(500)
  local toldMode, tellAt = '', tonumber(redis.call('HGET', base .. 'mode', 'tellAt') or nil)
  if tellAt and tellAt <= now then
    toldMode = redis.call('HGET', base .. 'mode', 'tell')
    redis.call('HDEL', base .. 'mode', 'tell', 'tellAt')
    redis.call('HSET', base .. 'mode', 'toldAt', toText(now))
  end
  results[i] = { offline, presences, stopped, expired, nextDeadline(), decidedMode(), redis.call('ZCARD', base .. 'visible'), toldMode, rooms, unknown }`)

/** Removes users who were reported offline. Returns for each tenant the users who came back before this call, and the next deadline or ''. */
export const confirmOffline = tableScript({ prelude, parameters: [], columns: ['user'], setup: 'local results = {}', result: 'results' }, `
  local back = {}
  for n = 1, rows do
    local COLUMNS = row(n)
    if isConnected(user) then
      redis.call('ZREM', base .. 'grace', user)
      table.insert(back, user)
    else
      removeUser(user)
    end
  end
  results[i] = { back, nextDeadline() }`)

/**
 * Removes connections of a dead node. `isRepair` '1': the users did nothing at this time. Returns for each tenant how many
 * are left: one call removes 500 at most, so that a large node does not block Redis.
 */
export const reap = tableScript({
  prelude: roomPrelude, parameters: ['node', 'offlineDelay', 'isRepair'], columns: [], setup: 'local results = {}\nlocal left = 500', result: 'results'
}, `
  local key = base .. 'node:' .. node
  if left > 0 then
    for _, id in ipairs(redis.call('SRANDMEMBER', key, left)) do
      local entry = findConnection(id)
      if entry and entry.n == node then removeConnection(id, entry, now + tonumber(offlineDelay), isRepair == '1') end
      redis.call('SREM', key, id)
      left = left - 1
    end
  end
  local crowd = base .. 'crowd:' .. node
  if left > 0 then
    for _, member in ipairs(redis.call('SRANDMEMBER', crowd, left)) do
      local user, channel = string.match(member, '^([^/]*)/(.*)$')
      setHolder(channel, user, node, 0, now + tonumber(offlineDelay))
      left = left - 1
    end
  end
  results[i] = redis.call('SCARD', key) + redis.call('SCARD', crowd)`)
