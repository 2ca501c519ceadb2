import { prelude } from './redis-prelude.js'

/**
 * The roster's rules, each one atomic script over the keys of one tenant. `KEYS[1]` is the tenant's base,
 * `{prefix}{tenant}:` with the tenant as hash tag, so that a script's keys share a slot on a Redis Cluster.
 * Times come from Redis, so that nodes need not agree on a clock; `ARGV[1]` is an offset for tests that move time.
 *
 *     connections   hash   id → { u user, n node or '', g generation, d device, c connected at }
 *     of:{user}     set    ids of a user's connections
 *     node:{boot}   set    ids whose socket a node holds
 *     rest          zset   ids without a socket → end of their lease
 *     channels:{id} set    asked for before the socket opened
 *     present       zset   users that count as online, by id      grace   zset   users without connections → deadline
 *     visible       zset   the same less those who say "offline"  signs   zset   users online by a REST update → end
 *     presence      hash   user → presence                        seen    hash   user → last heard of
 *     said          hash   user → when the presence was said
 *     typing        zset   user:conversation → end                types   hash   user:conversation → entry
 *     typers:{conv} set    user:conversation
 *
 * Ids stay text all through: Lua's JSON would round them.
 */

/** id, user, node, generation, device, connected at, limit, rest lease, default presence */
export const join = prelude + `
local id, user, node, generation = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local known = find(id)
if known and known.u ~= user then return {'taken'} end
local first = arrive(user, ARGV[10])
redis.call('ZREM', base .. 'signs', user)
local entry = { u = user, n = node, g = generation, d = ARGV[6], c = ARGV[7] }
local replaced = ''
if known then
  entry.c = known.c
  if node == '' then
    entry.n = known.n
    entry.g = known.g
  elseif known.n ~= '' and known.g ~= generation then
    redis.call('SREM', base .. 'node:' .. known.n, id)
    replaced = export(id, known)
  end
end
redis.call('HSET', base .. 'connections', id, cjson.encode(entry))
redis.call('SADD', base .. 'of:' .. user, id)
if entry.n == '' then
  redis.call('ZADD', base .. 'rest', now + tonumber(ARGV[9]), id)
else
  redis.call('ZREM', base .. 'rest', id)
  redis.call('SADD', base .. 'node:' .. entry.n, id)
end
local answer = { 'ok', known and 0 or 1, first and 1 or 0, replaced, entry.g }
local over = redis.call('SCARD', base .. 'of:' .. user) - tonumber(ARGV[8])
if over > 0 then
  local all = {}
  for _, other in ipairs(redis.call('SMEMBERS', base .. 'of:' .. user)) do
    local found = find(other)
    if found == nil then redis.call('SREM', base .. 'of:' .. user, other)
    elseif other ~= id then table.insert(all, { id = other, entry = found }) end
  end
  table.sort(all, function (a, b) return tonumber(a.entry.c) < tonumber(b.entry.c) end)
  for i = 1, math.min(over, #all) do
    remove(all[i].id, all[i].entry, now)
    table.insert(answer, export(all[i].id, all[i].entry))
  end
end
return answer`

/** id, generation, grace */
export const leave = prelude + `
local entry = find(ARGV[2])
if not entry or entry.g ~= ARGV[3] then return 0 end
remove(ARGV[2], entry, now + tonumber(ARGV[4]))
return 1`

/** id, rest lease */
export const touch = prelude + `
local entry = find(ARGV[2])
if not entry then return 0 end
redis.call('HSET', base .. 'seen', entry.u, stamp(now))
if entry.n == '' then redis.call('ZADD', base .. 'rest', 'XX', now + tonumber(ARGV[3]), ARGV[2]) end
return 1`

/** user */
export const connectionsOf = prelude + `
local found = {}
for _, id in ipairs(redis.call('SMEMBERS', base .. 'of:' .. ARGV[2])) do
  local entry = find(id)
  if entry then table.insert(found, export(id, entry)) end
end
return found`

/** id, channel, limit */
export const addChannel = prelude + `
if not find(ARGV[2]) then return 1 end
local key = base .. 'channels:' .. ARGV[2]
if redis.call('SISMEMBER', key, ARGV[3]) == 0 and redis.call('SCARD', key) >= tonumber(ARGV[4]) then return 0 end
redis.call('SADD', key, ARGV[3])
return 1`

/**
 * user, presence, '1' where others see the user, rest lease, when it was said, '1' for writing back what was said before:
 * that takes nothing back that was said through another node since; '1' for a user who must be connected: nothing is said
 * for others then, whose sign must be looked at when it ends → 1: first; 2: not connected
 */
export const setPresence = prelude + `
local user = ARGV[2]
local alone = redis.call('SCARD', base .. 'of:' .. user) == 0
if ARGV[8] == '1' and alone then return 2 end
local said = redis.call('HGET', base .. 'said', user)
if ARGV[7] == '1' and said and tonumber(said) > tonumber(ARGV[6]) then return 0 end
redis.call('HSET', base .. 'said', user, ARGV[6])
local first = arrive(user, ARGV[3])
redis.call('HSET', base .. 'presence', user, ARGV[3])
if ARGV[4] == '1' then redis.call('ZADD', base .. 'visible', user, user) else redis.call('ZREM', base .. 'visible', user) end
if alone then redis.call('ZADD', base .. 'signs', now + tonumber(ARGV[5]), user) end
return first and 1 or 0`

/** user ids → presence and last heard of, alternating */
export const presence = prelude + `
local found = {}
for i = 2, #ARGV do
  local there = redis.call('ZSCORE', base .. 'present', ARGV[i])
  table.insert(found, there and redis.call('HGET', base .. 'presence', ARGV[i]) or '')
  table.insert(found, there and redis.call('HGET', base .. 'seen', ARGV[i]) or '')
end
return found`

/** after, limit → total, then user, presence and last heard of of each, one user more than asked where there are more */
export const online = prelude + `
local found = { redis.call('ZCARD', base .. 'visible') }
local users = redis.call('ZRANGEBYSCORE', base .. 'visible', '(' .. ARGV[2], '+inf', 'LIMIT', 0, tonumber(ARGV[3]) + 1)
if #users == 0 then return found end
local presences = redis.call('HMGET', base .. 'presence', unpack(users))
local seen = redis.call('HMGET', base .. 'seen', unpack(users))
for i, user in ipairs(users) do
  table.insert(found, user)
  table.insert(found, presences[i] or '')
  table.insert(found, seen[i] or '')
end
return found`

/** half of the rest lease */
export const counts = prelude + `
local total = redis.call('HLEN', base .. 'connections')
return {
  total,
  total - redis.call('ZCOUNT', base .. 'rest', '-inf', now + tonumber(ARGV[2])),
  redis.call('ZCARD', base .. 'present') - redis.call('ZCARD', base .. 'grace') - redis.call('ZCARD', base .. 'signs')
}`

/** user:conversation, entry, end, '1' where it must be going on: it is not begun then, since nobody would look after its end */
export const startTyping = prelude + `
local key = ARGV[2]
local ends = redis.call('ZSCORE', base .. 'typing', key)
if ARGV[5] == '1' and not (ends and tonumber(ends) > now) then return 1 end
redis.call('ZADD', base .. 'typing', ARGV[4], key)
if ends and tonumber(ends) > now then return 0 end
redis.call('HSET', base .. 'types', key, ARGV[3])
redis.call('SADD', base .. 'typers:' .. string.match(key, ':(.*)$'), key)
return 1`

/** user:conversation … → the entries that were there */
export const stopTyping = prelude + `
local stopped = {}
for i = 2, #ARGV do
  local text = stop(ARGV[i])
  if text then table.insert(stopped, text) end
end
return stopped`

/** conversation → entry and end, alternating */
export const typing = prelude + `
local found = {}
for _, key in ipairs(redis.call('SMEMBERS', base .. 'typers:' .. ARGV[2])) do
  local ends = redis.call('ZSCORE', base .. 'typing', key)
  if ends and tonumber(ends) > now then
    table.insert(found, redis.call('HGET', base .. 'types', key))
    table.insert(found, ends)
  end
end
return found`

/**
 * grace, claim → { offline users }, { typing entries }, { lapsed connections }, next time something is due or ''.
 * Users stay in the grace until they are settled: a node that dies while telling leaves them to the next one.
 */
export const due = prelude + `
local lapsed, stopped = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. 'rest', '-inf', now, 'LIMIT', 0, 500)) do
  local entry = find(id)
  redis.call('ZREM', base .. 'rest', id)
  if entry and entry.n == '' then
    remove(id, entry, now + tonumber(ARGV[2]))
    table.insert(lapsed, export(id, entry))
  end
end
for _, user in ipairs(redis.call('ZRANGEBYSCORE', base .. 'signs', '-inf', now, 'LIMIT', 0, 500)) do
  redis.call('ZREM', base .. 'signs', user)
  if redis.call('SCARD', base .. 'of:' .. user) == 0 then
    redis.call('ZADD', base .. 'grace', 'NX', now + tonumber(ARGV[2]), user)
  end
end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', base .. 'typing', '-inf', now, 'LIMIT', 0, 500)) do
  local text = stop(key)
  if text then table.insert(stopped, text) end
end
local offline = redis.call('ZRANGEBYSCORE', base .. 'grace', '-inf', now, 'LIMIT', 0, 500)
for _, user in ipairs(offline) do redis.call('ZADD', base .. 'grace', now + tonumber(ARGV[3]), user) end
local soonest = nil
for _, name in ipairs({ 'rest', 'signs', 'typing', 'grace' }) do
  local head = redis.call('ZRANGE', base .. name, 0, 0, 'WITHSCORES')
  if head[2] and (not soonest or tonumber(head[2]) < soonest) then soonest = tonumber(head[2]) end
end
return { offline, stopped, lapsed, soonest and stamp(soonest) or '' }`

/** users → those who came back meanwhile */
export const settle = prelude + `
local back = {}
for i = 2, #ARGV do
  local user = ARGV[i]
  if redis.call('ZREM', base .. 'grace', user) == 1 then
    redis.call('ZREM', base .. 'present', user)
    redis.call('ZREM', base .. 'visible', user)
    redis.call('HDEL', base .. 'presence', user)
    redis.call('HDEL', base .. 'seen', user)
    redis.call('HDEL', base .. 'said', user)
  else
    table.insert(back, user)
  end
end
return back`

/** boot id → how many entries are still left. In steps, so that a large node does not stop Redis. */
export const reap = prelude + `
local key = base .. 'node:' .. ARGV[2]
for _, id in ipairs(redis.call('SRANDMEMBER', key, 500)) do
  local entry = find(id)
  if entry and entry.n == ARGV[2] then remove(id, entry, now) end
  redis.call('SREM', key, id)
end
return redis.call('SCARD', key)`
