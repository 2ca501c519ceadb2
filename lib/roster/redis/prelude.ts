/**
 * What every script of the roster begins with: the tenant's base, the time, and the functions that several share.
 * A script over several tenants sets `base` anew for each.
 */
export const prelude = `
local base = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[1])
local function stamp(ms) return string.format('%.0f', ms) end
local function find(id)
  local text = redis.call('HGET', base .. 'connections', id)
  if not text then return nil end
  return cjson.decode(text)
end
local function export(id, entry)
  entry.id = id
  return cjson.encode(entry)
end
local function contains(text, part) return string.find(text, part, 1, true) ~= nil end
local function listed(list, name) return contains(',' .. list .. ',', ',' .. name .. ',') end
-- Whether others see a user who shows this presence.
local function shown(presence) return not contains(presence, '"status":"offline"') end
local function connected(user)
  return redis.call('SCARD', base .. 'of:' .. user) > 0 or redis.call('ZSCORE', base .. 'signs', user)
end
-- How many connections the user has, less those that are not there or another user's.
local function count(user)
  local valid = 0
  for _, id in ipairs(redis.call('SMEMBERS', base .. 'of:' .. user)) do
    local text = redis.call('HGET', base .. 'connections', id)
    if text and contains(text, '"u":"' .. user .. '"') then valid = valid + 1 else redis.call('SREM', base .. 'of:' .. user, id) end
  end
  return valid
end
local function show(user)
  local text = redis.call('HGET', base .. 'presence', user)
  if text and shown(text) then redis.call('ZADD', base .. 'visible', user, user) else redis.call('ZREM', base .. 'visible', user) end
end
-- Counts the user as online, with this presence where none is kept. True: nobody knew that before. A key that was evicted
-- is no reason to tell anybody, so each trace of the user counts.
local function arrive(user, presence, heard)
  local first = not redis.call('ZSCORE', base .. 'present', user)
  local waiting = redis.call('ZREM', base .. 'grace', user) == 1
  redis.call('HSET', base .. 'seen', user, heard or stamp(now))
  if first then
    redis.call('ZADD', base .. 'present', user, user)
    if waiting or connected(user) then first = false end
  end
  if redis.call('HSETNX', base .. 'presence', user, presence) == 1 then
    redis.call('HDEL', base .. 'said', user)
    redis.call('ZADD', base .. 'visible', user, user)
  elseif first then
    show(user)
  end
  return first
end
-- Quietly: the user was not heard of for that.
local function remove(id, entry, deadline, quietly)
  redis.call('HDEL', base .. 'connections', id)
  redis.call('SREM', base .. 'of:' .. entry.u, id)
  redis.call('ZREM', base .. 'rest', id)
  redis.call('DEL', base .. 'channels:' .. id)
  if entry.n ~= '' then redis.call('SREM', base .. 'node:' .. entry.n, id) end
  if not quietly then
    redis.call('HSET', base .. 'seen', entry.u, stamp(now))
    -- A sign beside a connection was made while that was evicted.
    if redis.call('SCARD', base .. 'of:' .. entry.u) == 0 then redis.call('ZREM', base .. 'signs', entry.u) end
  end
  if not connected(entry.u) then redis.call('ZADD', base .. 'grace', 'NX', deadline, entry.u) end
end
local function forget(user)
  redis.call('ZREM', base .. 'grace', user)
  redis.call('ZREM', base .. 'present', user)
  redis.call('ZREM', base .. 'visible', user)
  redis.call('HDEL', base .. 'presence', user)
  redis.call('HDEL', base .. 'seen', user)
  redis.call('HDEL', base .. 'said', user)
end
-- Typing that was stopped: a dash, and when.
local function ended(text) return text and string.match(text, '^-(%d+)$') end
-- Ends typing and returns its entry, or '-' where it was stopped already, or '' where nothing is known. Where other nodes than
-- \`node\` were told of it that stays known until it would have run out: what is missing altogether was evicted, and those
-- nodes write it back.
local function stop(key, node)
  local text = redis.call('HGET', base .. 'types', key)
  redis.call('SREM', base .. 'typers:' .. string.match(key, ':(.*)$'), key)
  if ended(text) and node then return '-' end
  local nodes, entry = string.match(text or '', '^(%S+) (.*)$')
  if nodes and node and nodes ~= node and redis.call('ZSCORE', base .. 'typing', key) then
    -- Clocks of nodes differ a little.
    redis.call('HSET', base .. 'types', key, '-' .. stamp(now + 1000))
  else
    redis.call('ZREM', base .. 'typing', key)
    redis.call('HDEL', base .. 'types', key)
  end
  return entry or ''
end
`
