import { prelude } from './prelude.js'

/**
 * The roster's rules, each one atomic script over the keys of one tenant. `KEYS[1]` is the tenant's base,
 * `{prefix}{tenant}:` with the tenant as hash tag, so that a script's keys share a slot on a Redis Cluster.
 * Times come from Redis, so that nodes need not agree on a clock; `ARGV[1]` is an offset for tests that move time.
 *
 *     connections   hash   id → { u user, n node or '', g generation, d device, c connected at, o its socket opened at }
 *     of:{user}     set    ids of a user's connections
 *     node:{boot}   set    ids whose socket a node holds
 *     rest          zset   ids without a socket → end of their lease
 *     channels:{id} set    asked for before the socket opened
 *     present       zset   users that count as online, by id      grace   zset   users without connections → deadline
 *     visible       zset   the same less those who say "offline"  signs   zset   users online by a REST update → end
 *     presence      hash   user → presence                        seen    hash   user → last heard of
 *     said          hash   user → when the presence was said
 *     typing        zset   user:conversation → end                types   hash   user:conversation → nodes and entry, or that it was stopped
 *     typers:{conv} set    user:conversation
 *
 * Ids stay text all through: Lua's JSON would round them.
 */

/**
 * id, user, node, generation, device, connected at, limit, rest lease, default presence, the name of the state that the node
 * knows; KEYS[2], where it can be read on the same server, that name: another one, and Redis lost what it had. Then a user
 * who seems to be new may have been here all along.
 */
export const join = prelude + `
if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[11] then return {'lost'} end
local id, user, node, generation = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local known = find(id)
if known and known.u ~= user then return {'taken'} end
local first = arrive(user, ARGV[10])
redis.call('ZREM', base .. 'signs', user)
local entry = { u = user, n = node, g = generation, d = ARGV[6], c = ARGV[7], o = stamp(now) }
local replaced = ''
if known then
  entry.c = known.c
  if node == '' then
    entry.n = known.n
    entry.g = known.g
    entry.o = known.o
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
local answer = { 'ok', known and 0 or 1, first and 1 or 0, replaced, entry.g, entry.o or '' }
if redis.call('SCARD', base .. 'of:' .. user) > tonumber(ARGV[8]) then
  local others = {}
  for _, other in ipairs(redis.call('SMEMBERS', base .. 'of:' .. user)) do
    local found = find(other)
    if found == nil then redis.call('SREM', base .. 'of:' .. user, other)
    elseif other ~= id then table.insert(others, { id = other, entry = found, live = found.n ~= '' and 1 or 0 }) end
  end
  table.sort(others, function (a, b)
    if a.live ~= b.live then return a.live < b.live end
    return tonumber(a.entry.c) < tonumber(b.entry.c)
  end)
  for i = 1, #others + 1 - tonumber(ARGV[8]) do
    -- An open socket does not go for a connection that may never have one.
    if others[i] == nil or (entry.n == '' and others[i].live == 1) then break end
    remove(others[i].id, others[i].entry, now)
    table.insert(answer, export(others[i].id, others[i].entry))
  end
end
return answer`

/** id, generation, grace; its user and node where this node holds it, or '' */
export const leave = prelude + `
local entry = find(ARGV[2])
if entry and entry.g ~= ARGV[3] then return 0 end
if entry then
  remove(ARGV[2], entry, now + tonumber(ARGV[4]))
  return 1
end
-- Evicted, perhaps: what else tells of it goes too.
if ARGV[5] ~= '' then
  redis.call('SREM', base .. 'of:' .. ARGV[5], ARGV[2])
  redis.call('SREM', base .. 'node:' .. ARGV[6], ARGV[2])
  if redis.call('ZSCORE', base .. 'present', ARGV[5]) and not connected(ARGV[5]) then
    redis.call('ZADD', base .. 'grace', 'NX', now + tonumber(ARGV[4]), ARGV[5])
  end
end
return 0`

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
 * user, presence, rest lease, when it was said, '1' for a user who must be connected: nothing is said for others then, whose
 * sign must be looked at when it ends; the name of the state, as above → 1: first; 2: not connected; 3: Redis lost what it had
 */
export const setPresence = prelude + `
if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[7] then return 3 end
local user = ARGV[2]
local alone = redis.call('SCARD', base .. 'of:' .. user) == 0
if ARGV[6] == '1' and alone then return 2 end
local first = arrive(user, ARGV[3])
redis.call('HSET', base .. 'said', user, ARGV[5])
redis.call('HSET', base .. 'presence', user, ARGV[3])
show(user)
if alone then redis.call('ZADD', base .. 'signs', now + tonumber(ARGV[4]), user) end
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

/**
 * user:conversation, entry, end, '1' where it must be going on, node. Where it must and is not it is not begun, since nobody
 * would look after its end.
 */
export const startTyping = prelude + `
local key, node = ARGV[2], ARGV[6]
local ends = tonumber(redis.call('ZSCORE', base .. 'typing', key))
local text = redis.call('HGET', base .. 'types', key)
local going = (not ends or ends > now) and (text or ends) and not ended(text)
if ARGV[5] == '1' and not (going and ends) then return 1 end
redis.call('ZADD', base .. 'typing', ARGV[4], key)
if going and text then
  if not listed(string.match(text, '^%S+'), node) then redis.call('HSET', base .. 'types', key, node .. ',' .. text) end
  return 0
end
redis.call('HSET', base .. 'types', key, node .. ' ' .. ARGV[3])
redis.call('SADD', base .. 'typers:' .. string.match(key, ':(.*)$'), key)
return going and 0 or 1`

/** node, user:conversation … → for each the entry that was there, '-' where another node stopped it, or '' */
export const stopTyping = prelude + `
local stopped = {}
for i = 3, #ARGV do table.insert(stopped, stop(ARGV[i], ARGV[2])) end
return stopped`

/** conversation → entry and end, alternating */
export const typing = prelude + `
local found = {}
for _, key in ipairs(redis.call('SMEMBERS', base .. 'typers:' .. ARGV[2])) do
  local ends = redis.call('ZSCORE', base .. 'typing', key)
  local entry = string.match(redis.call('HGET', base .. 'types', key) or '', '^%S+ (.*)$')
  if entry and ends and tonumber(ends) > now then
    table.insert(found, entry)
    table.insert(found, ends)
  end
end
return found`

/**
 * Over several tenants. Grace, claim → for each { offline users }, { their presence and last heard of, alternating },
 * { typing entries }, { lapsed connections }, next time something is due or ''.
 * Users stay in the grace until they are settled: a node that dies while telling leaves them to the next one.
 */
export const due = prelude + `
local left = 1000
local function dueIn(name)
  local found = redis.call('ZRANGEBYSCORE', base .. name, '-inf', now, 'LIMIT', 0, math.min(left, 500))
  left = left - #found
  return found
end
local answers = {}
for i, key in ipairs(KEYS) do
  base = key
  local offline, presences, stopped, lapsed = {}, {}, {}, {}
  for _, id in ipairs(dueIn('rest')) do
    local entry = find(id)
    redis.call('ZREM', base .. 'rest', id)
    if entry and entry.n == '' then
      remove(id, entry, now + tonumber(ARGV[2]))
      table.insert(lapsed, export(id, entry))
    end
  end
  for _, user in ipairs(dueIn('signs')) do
    redis.call('ZREM', base .. 'signs', user)
    if not connected(user) then redis.call('ZADD', base .. 'grace', 'NX', now + tonumber(ARGV[2]), user) end
  end
  for _, name in ipairs(dueIn('typing')) do
    local entry = stop(name)
    if entry ~= '' then table.insert(stopped, entry) end
  end
  for _, user in ipairs(dueIn('grace')) do
    if connected(user) then
      redis.call('ZREM', base .. 'grace', user)
    else
      redis.call('ZADD', base .. 'grace', now + tonumber(ARGV[3]), user)
      table.insert(offline, user)
      table.insert(presences, redis.call('HGET', base .. 'presence', user) or '')
      table.insert(presences, redis.call('HGET', base .. 'seen', user) or '')
    end
  end
  local soonest = nil
  for _, name in ipairs({ 'rest', 'signs', 'typing', 'grace' }) do
    local head = redis.call('ZRANGE', base .. name, 0, 0, 'WITHSCORES')
    if head[2] and (not soonest or tonumber(head[2]) < soonest) then soonest = tonumber(head[2]) end
  end
  answers[i] = { offline, presences, stopped, lapsed, soonest and stamp(soonest) or '' }
end
return answers`

/** Over several tenants. For each a count and its users → for each those who came back meanwhile. */
export const settle = prelude + `
local answers = {}
local at = 2
for i, key in ipairs(KEYS) do
  base = key
  local back = {}
  for j = at + 1, at + tonumber(ARGV[at]) do
    if connected(ARGV[j]) then
      redis.call('ZREM', base .. 'grace', ARGV[j])
      table.insert(back, ARGV[j])
    else
      forget(ARGV[j])
    end
  end
  at = at + 1 + tonumber(ARGV[at])
  answers[i] = back
end
return answers`

/** Over several tenants. Boot id, delay of the offline, '1' for quietly → for each how many entries are left. In steps, so that a large node does not stop Redis. */
export const reap = prelude + `
local answers = {}
local left = 500
for i, key in ipairs(KEYS) do
  base = key
  local node = base .. 'node:' .. ARGV[2]
  if left > 0 then
    for _, id in ipairs(redis.call('SRANDMEMBER', node, left)) do
      local entry = find(id)
      if entry and entry.n == ARGV[2] then remove(id, entry, now + tonumber(ARGV[3]), ARGV[4] == '1') end
      redis.call('SREM', node, id)
      left = left - 1
    end
  end
  answers[i] = redis.call('SCARD', node)
end
return answers`
