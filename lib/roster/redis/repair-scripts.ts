import { prelude } from './prelude.js'

/**
 * The scripts that look through what Redis says of a tenant, for what no node corrects by itself: of nodes that are dead or
 * unknown, of connections without a socket, and of users of whom a part was evicted.
 */

const shared = prelude + `
-- Shown for a user whose presence was evicted, until a node that knows better writes it.
local default = '{"status":"online","device":"web","lastMessage":null,"awaySince":null}'
local function keep(user)
  redis.call('ZREM', base .. 'grace', user)
  redis.call('ZADD', base .. 'present', user, user)
  if redis.call('HSETNX', base .. 'presence', user, default) == 1 then redis.call('HDEL', base .. 'said', user) end
  show(user)
end
`

/**
 * Over several tenants. Living nodes, rest lease, delay of the offline; for each one row of three cursors, through connections,
 * users and typing, '' where that is through → for each the next cursors, the nodes that hold connections, and when something
 * is due next or ''. Tenants for which the call has no room left are answered with the cursors they came with.
 */
export const mend = shared + `
local living, room = ARGV[2], 400
local function entries(cursor, owners)
  if cursor == '' then return '' end
  local page = redis.call('HSCAN', base .. 'connections', cursor, 'COUNT', 200)
  room = room - #page[2] / 2
  for i = 1, #page[2], 2 do
    local id, node = page[2][i], string.match(page[2][i + 1], '"n":"([^"]*)"') or ''
    if node ~= '' then
      owners[node] = true
      -- So that the node finds what it does not hold, and whoever looks after it when it is dead.
      redis.call('SADD', base .. 'node:' .. node, id)
    end
    -- The rest of its own a living node writes.
    if not listed(living, node) then
      local entry = cjson.decode(page[2][i + 1])
      if node == '' then redis.call('ZADD', base .. 'rest', 'NX', now + tonumber(ARGV[3]), id) end
      redis.call('SADD', base .. 'of:' .. entry.u, id)
      keep(entry.u)
    end
  end
  return page[1] == '0' and '' or page[1]
end
local function users(cursor)
  if cursor == '' then return '' end
  local page = redis.call('ZSCAN', base .. 'present', cursor, 'COUNT', 200)
  local ids = {}
  room = room - #page[2] / 2
  for i = 1, #page[2], 2 do table.insert(ids, page[2][i]) end
  if #ids == 0 then return page[1] == '0' and '' or page[1] end
  local waiting = redis.call('ZMSCORE', base .. 'grace', unpack(ids))
  local signs = redis.call('ZMSCORE', base .. 'signs', unpack(ids))
  local visible = redis.call('ZMSCORE', base .. 'visible', unpack(ids))
  local presences = redis.call('HMGET', base .. 'presence', unpack(ids))
  for i, user in ipairs(ids) do
    if count(user) == 0 and not signs[i] then
      if not waiting[i] then redis.call('ZADD', base .. 'grace', now + tonumber(ARGV[4]), user) end
    elseif waiting[i] or not presences[i] or shown(presences[i]) ~= (visible[i] ~= false) then
      keep(user)
    end
  end
  return page[1] == '0' and '' or page[1]
end
local function typing(cursor)
  if cursor == '' then return '' end
  local page = redis.call('HSCAN', base .. 'types', cursor, 'COUNT', 200)
  for i = 1, #page[2], 2 do
    local name, text = page[2][i], page[2][i + 1]
    if not redis.call('ZSCORE', base .. 'typing', name) then
      if ended(text) then redis.call('HDEL', base .. 'types', name)
      else redis.call('ZADD', base .. 'typing', string.match(text, '"expiresAt":(%d+)') or now, name) end
    end
    if not ended(text) then redis.call('SADD', base .. 'typers:' .. string.match(name, ':(.*)$'), name) end
  end
  return page[1] == '0' and '' or page[1]
end
-- Users of whom something is left that nobody counts as online.
local function leftovers(found)
  for _, user in ipairs(found) do
    if not redis.call('ZSCORE', base .. 'present', user) and not redis.call('ZSCORE', base .. 'grace', user) and not connected(user) then
      forget(user)
    end
  end
end
local function rest()
  for _, user in ipairs(redis.call('ZRANGE', base .. 'signs', 0, 999)) do
    if not redis.call('ZSCORE', base .. 'present', user) then keep(user) end
  end
  for _, id in ipairs(redis.call('ZRANGE', base .. 'rest', 0, 999)) do
    local text = redis.call('HGET', base .. 'connections', id)
    if not text or not contains(text, '"n":""') then redis.call('ZREM', base .. 'rest', id) end
  end
  local known = redis.call('ZCARD', base .. 'present')
  if redis.call('ZCARD', base .. 'visible') > known then leftovers(redis.call('ZRANDMEMBER', base .. 'visible', 500)) end
  known = known + redis.call('ZCARD', base .. 'grace')
  for _, name in ipairs({ 'presence', 'seen', 'said' }) do
    if redis.call('HLEN', base .. name) > known then leftovers(redis.call('HRANDFIELD', base .. name, 500)) end
  end
end
local answers = {}
for i, key in ipairs(KEYS) do
  base = key
  local at = 4 * i + 2
  local cursors, owners, names, soonest = { ARGV[at], ARGV[at + 1], ARGV[at + 2] }, {}, {}, nil
  if room > 0 then
    if cursors[1] == '0' then rest() end
    cursors = { entries(cursors[1], owners), users(cursors[2]), typing(cursors[3]) }
    for node in pairs(owners) do table.insert(names, node) end
    for _, name in ipairs({ 'rest', 'signs', 'typing', 'grace' }) do
      local head = redis.call('ZRANGE', base .. name, 0, 0, 'WITHSCORES')
      if head[2] and (not soonest or tonumber(head[2]) < soonest) then soonest = tonumber(head[2]) end
    end
  end
  answers[i] = { cursors, names, soonest and stamp(soonest) or '' }
end
return answers`

/**
 * Over several tenants. Living nodes; for each a count and that many names of keys: of:…, channels:…, typers:…, node:… → for
 * each the nodes that are named and not living. Removes what belongs to nobody.
 */
export const mendKeys = shared + `
local answers = {}
local at = 3
for i, key in ipairs(KEYS) do
  base = key
  answers[i] = {}
  for j = at + 1, at + tonumber(ARGV[at]) do
    local kind, name = string.match(ARGV[j], '^(%a+):(.*)$')
    if kind == 'of' then
      if not redis.call('ZSCORE', base .. 'present', name) then count(name) end
    elseif kind == 'channels' then
      if redis.call('HEXISTS', base .. 'connections', name) == 0 then redis.call('DEL', base .. ARGV[j]) end
    elseif kind == 'typers' then
      for _, typer in ipairs(redis.call('SMEMBERS', base .. ARGV[j])) do
        local text = redis.call('HGET', base .. 'types', typer)
        if not text or ended(text) then redis.call('SREM', base .. ARGV[j], typer) end
      end
    elseif kind == 'node' and not listed(ARGV[2], name) then
      table.insert(answers[i], name)
    end
  end
  at = at + 1 + tonumber(ARGV[at])
end
return answers`
