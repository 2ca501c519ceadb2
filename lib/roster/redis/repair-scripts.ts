import { tableScript } from '../../redis/script.js'
import { prelude } from './prelude.js'

/**
 * The scripts that search a tenant's keys for entries that no node corrects by itself: connections of dead or unknown nodes,
 * connections without a socket, and users of whom a part was evicted.
 */

const repairPrelude = prelude + `
-- Used for a user whose presence was evicted, until a node that knows the presence writes it.
local fallbackPresence = '{"status":"online","device":"web","lastMessage":null,"data":null,"awaySince":null,"hiddenSince":null}'
local function keepOnline(user)
  redis.call('ZREM', base .. 'grace', user)
  redis.call('ZADD', base .. 'present', scoreOf(user), user)
  if isUnknown(user) then return hide(user) end
  local since = redis.call('HGET', base .. 'invisible', user)
  if redis.call('HSETNX', base .. 'presence', user, since and asInvisible(fallbackPresence, since) or fallbackPresence) == 1 then redis.call('HDEL', base .. 'said', user) end
  updateVisible(user)
end
`

/**
 * Takes one row for each tenant: cursors through its connections, users and typing, '' for what is done. Returns for each
 * tenant the next cursors, the nodes that hold connections, the next deadline or '', and '1' if all invisible users are known. A call looks at about 400 entries;
 * tenants beyond that get back their cursors.
 */
export const repairTenants = tableScript({
  prelude: repairPrelude,
  parameters: ['livingNodes', 'registrationTtl', 'offlineDelay'],
  columns: ['connectionCursor', 'userCursor', 'typingCursor'],
  setup: `
local room = 400
local function nextCursor(page) return page[1] == '0' and '' or page[1] end
local function repairConnections(cursor, owners)
  if cursor == '' then return '' end
  local page = redis.call('HSCAN', base .. 'connections', cursor, 'COUNT', 200)
  room = room - #page[2] / 2
  for i = 1, #page[2], 2 do
    local id, node = page[2][i], string.match(page[2][i + 1], '"n":"([^"]*)"') or ''
    if node ~= '' then
      owners[node] = true
      -- The node finds connections by this set that it does not have; so does the reaper of a dead node.
      redis.call('SADD', base .. 'node:' .. node, id)
    end
    -- A living node writes the other keys of its connections itself.
    if not inList(livingNodes, node) then
      local entry = cjson.decode(page[2][i + 1])
      if node == '' then redis.call('ZADD', base .. 'rest', 'NX', now + tonumber(registrationTtl), id) end
      redis.call('SADD', base .. 'of:' .. entry.u, id)
      keepOnline(entry.u)
    end
  end
  return nextCursor(page)
end
local function repairUsers(cursor)
  if cursor == '' then return '' end
  local page = redis.call('ZSCAN', base .. 'present', cursor, 'COUNT', 200)
  local users = {}
  room = room - #page[2] / 2
  for i = 1, #page[2], 2 do table.insert(users, page[2][i]) end
  if #users == 0 then return nextCursor(page) end
  local graces = redis.call('ZMSCORE', base .. 'grace', unpack(users))
  local signs = redis.call('ZMSCORE', base .. 'signs', unpack(users))
  local visible = redis.call('ZMSCORE', base .. 'visible', unpack(users))
  local presences = redis.call('HMGET', base .. 'presence', unpack(users))
  for i, user in ipairs(users) do
    if countConnections(user) == 0 and not signs[i] then
      if not graces[i] then redis.call('ZADD', base .. 'grace', now + tonumber(offlineDelay), user) end
    elseif graces[i] or not presences[i] or isVisible(presences[i]) ~= (visible[i] ~= false) then
      keepOnline(user)
    end
  end
  return nextCursor(page)
end
local function repairTyping(cursor)
  if cursor == '' then return '' end
  local page = redis.call('HSCAN', base .. 'types', cursor, 'COUNT', 200)
  for i = 1, #page[2], 2 do
    local name, text = page[2][i], page[2][i + 1]
    if not redis.call('ZSCORE', base .. 'typing', name) then
      if stoppedAt(text) then redis.call('HDEL', base .. 'types', name)
      else redis.call('ZADD', base .. 'typing', string.match(text, '"expiresAt":(%d+)') or now, name) end
    end
    if not stoppedAt(text) then redis.call('SADD', base .. 'typers:' .. conversationOf(name), name) end
  end
  return nextCursor(page)
end
local function removeIfOffline(users)
  for _, user in ipairs(users) do
    if not redis.call('ZSCORE', base .. 'present', user) and not redis.call('ZSCORE', base .. 'grace', user) and not isConnected(user) then
      removeUser(user)
    end
  end
end
-- Users and connections that are in some keys and missing in those that the cursors go through.
local function repairLeftovers()
  for _, user in ipairs(redis.call('ZRANGE', base .. 'signs', 0, 999)) do
    if not redis.call('ZSCORE', base .. 'present', user) then keepOnline(user) end
  end
  for _, id in ipairs(redis.call('ZRANGE', base .. 'rest', 0, 999)) do
    local text = redis.call('HGET', base .. 'connections', id)
    if not text or not contains(text, '"n":""') then redis.call('ZREM', base .. 'rest', id) end
  end
  local known = redis.call('ZCARD', base .. 'present')
  if redis.call('ZCARD', base .. 'visible') > known then removeIfOffline(redis.call('ZRANDMEMBER', base .. 'visible', 500)) end
  known = known + redis.call('ZCARD', base .. 'grace')
  for _, name in ipairs({ 'presence', 'seen', 'said' }) do
    if redis.call('HLEN', base .. name) > known then removeIfOffline(redis.call('HRANDFIELD', base .. name, 500)) end
  end
end
local results = {}`,
  result: 'results'
}, `
  local COLUMNS = row(1)
  local owners, names, deadline = {}, {}, ''
  if room > 0 then
    if connectionCursor == '0' then repairLeftovers() end
    connectionCursor = repairConnections(connectionCursor, owners)
    userCursor = repairUsers(userCursor)
    typingCursor = repairTyping(typingCursor)
    for node in pairs(owners) do table.insert(names, node) end
    deadline = nextDeadline()
  end
  results[i] = { { connectionCursor, userCursor, typingCursor }, names, deadline, isInvisibleKnown() and '1' or '' }`)

/**
 * Takes names of keys without the tenant's base (`of:…`, `channels:…`, `watches:…`, `typers:…`, `node:…`, `room:…`, `holders:…`,
 * `crowd:…`) and removes orphaned entries. Returns for each tenant the nodes that are named and not living.
 */
export const repairKeys = tableScript({
  prelude: repairPrelude, parameters: ['livingNodes'], columns: ['keyName'], setup: 'local results = {}', result: 'results'
}, `
  results[i] = {}
  for n = 1, rows do
    local COLUMNS = row(n)
    local kind, name = string.match(keyName, '^(%a+):(.*)$')
    if kind == 'of' then
      if not redis.call('ZSCORE', base .. 'present', name) then countConnections(name) end
    elseif kind == 'channels' or kind == 'watches' then
      if redis.call('HEXISTS', base .. 'connections', name) == 0 then redis.call('DEL', base .. keyName) end
    elseif kind == 'typers' then
      for _, typer in ipairs(redis.call('SMEMBERS', base .. keyName)) do
        local text = redis.call('HGET', base .. 'types', typer)
        if not text or stoppedAt(text) then redis.call('SREM', base .. keyName, typer) end
      end
    elseif kind == 'room' then
      for _, user in ipairs(redis.call('ZRANGE', base .. keyName, 0, -1)) do
        if redis.call('HEXISTS', base .. 'holders:' .. name, user) == 0 and not redis.call('ZSCORE', base .. 'leaving', user .. '/' .. name) then
          setMember(name, user, false)
        end
      end
    elseif kind == 'holders' then
      for _, user in ipairs(redis.call('HKEYS', base .. keyName)) do
        for holder in string.gmatch(redis.call('HGET', base .. keyName, user), '([^,=]+)=') do
          redis.call('SADD', base .. 'crowd:' .. holder, user .. '/' .. name)
          if not inList(livingNodes, holder) then table.insert(results[i], holder) end
        end
      end
    elseif (kind == 'node' or kind == 'crowd') and not inList(livingNodes, name) then
      table.insert(results[i], name)
    end
  end`)
