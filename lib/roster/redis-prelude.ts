/** What every script of the roster begins with: the tenant's base, the time, and the functions that several share. */
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
local function arrive(user, presence)
  local first = not redis.call('ZSCORE', base .. 'present', user)
  redis.call('ZREM', base .. 'grace', user)
  redis.call('HSET', base .. 'seen', user, stamp(now))
  if first then
    redis.call('ZADD', base .. 'present', user, user)
    redis.call('ZADD', base .. 'visible', user, user)
    redis.call('HSET', base .. 'presence', user, presence)
  end
  return first
end
local function remove(id, entry, deadline)
  redis.call('HDEL', base .. 'connections', id)
  redis.call('SREM', base .. 'of:' .. entry.u, id)
  redis.call('ZREM', base .. 'rest', id)
  redis.call('DEL', base .. 'channels:' .. id)
  if entry.n ~= '' then redis.call('SREM', base .. 'node:' .. entry.n, id) end
  redis.call('HSET', base .. 'seen', entry.u, stamp(now))
  if redis.call('SCARD', base .. 'of:' .. entry.u) == 0 and not redis.call('ZSCORE', base .. 'signs', entry.u) then
    redis.call('ZADD', base .. 'grace', 'NX', deadline, entry.u)
  end
end
local function stop(key)
  local text = redis.call('HGET', base .. 'types', key)
  redis.call('ZREM', base .. 'typing', key)
  if not text then return nil end
  redis.call('HDEL', base .. 'types', key)
  redis.call('SREM', base .. 'typers:' .. string.match(key, ':(.*)$'), key)
  return text
end
`
