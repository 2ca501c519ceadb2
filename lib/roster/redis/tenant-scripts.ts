import { script } from '../../redis/script.js'
import { prelude } from './prelude.js'

/**
 * The roster's rules, each one atomic script over the keys of one tenant. `KEYS[1]` is the tenant's base,
 * `{prefix}{tenant}:` with the tenant as hash tag, so that a script's keys share a slot on a Redis Cluster.
 * Times come from Redis, so that nodes need not agree on a clock.
 *
 *     connections   hash   id → { u user, n node or '', g generation, d device, c connected at, o socket opened at }
 *     of:{user}     set    connection ids of the user
 *     node:{boot}   set    connection ids whose socket is on the node
 *     rest          zset   connection ids without a socket, by the end of their registration
 *     channels:{id} set    channels requested before the socket opened
 *     watches:{id}  hash   users to be watched, requested before the socket opened → mark of the state in the response
 *     present       zset   users who count as online, in the order of their ids
 *     visible       zset   the same without those whose status is "offline" or "invisible"
 *     hidden        set    users with such a status
 *     invisible     hash   users who are invisible, also while they are not connected → since when; '' if these are all
 *     mode          hash   everyone: whether every change is sent to everyone; tell, tellAt, toldAt: next and last message to everyone
 *     grace         zset   users without connections, by the time at which they go offline
 *     signs         zset   users who are online by a REST status update alone, by its end
 *     presence      hash   user → presence
 *     said          hash   user → when the presence was set
 *     seen          hash   user → last activity
 *     room:{chan}   zset   members of a channel, in the order of their ids
 *     holders:{…}   hash   users with connections in it, hidden ones too → node=number of connections, …
 *     in:{user}     set    channels of which the user is a member, or would be if not hidden
 *     crowd:{boot}  set    user/channel whose connections are on the node
 *     leaving       zset   user/channel without a connection, by the time at which the user leaves
 *     delta:{chan}  hash   user → + or -, since the change that was sent last
 *     rooms         hash   channel → version,time of the change that was sent last
 *     tells         zset   channels with changes to be sent, by when
 *     typing        zset   user:conversation, by its end
 *     types         hash   user:conversation → nodes and entry, or '-' and the time at which it was stopped
 *     typers:{conv} set    user:conversation
 *
 * Ids stay text in all scripts: Lua's JSON would round them.
 */

/** Reads the name of Redis' state in `KEYS[2]`, see `renewLease`; absent on a cluster. A different name: Redis lost data. */
const isLost = "KEYS[2] and redis.call('GET', KEYS[2]) ~= state"

/**
 * Registers a connection. `node` is '' for a connection without a socket, `state` the name of Redis' state as the node knows it.
 * `isNewTenant` '1': the node has no other connection in the tenant; then `KEYS[4]` records the tenant for the reaper of the
 * node. `tenantLimit`: connections that the tenant may have; 0: any number.
 *
 * Returns `{'lost'}` if Redis lost data, since a user who seems to be new may have been online all along; `{'taken'}` if the
 * id belongs to another user; `{'full'}` if the tenant has all of its connections; `{'unknown'}` if the user may be invisible,
 * see `isUnknown`; else `{'ok', isNew, isFirstOfUser, replaced connection or '', generation, socket opened at,
 * standing, the user's presence if this is the user's first connection or '', evicted connection, …}`. The standing is the mode,
 * the number of visible users, the user's status, '1' if the user had set `offline`, which ends now, and since when the user is
 * invisible or ''; separated by commas.
 */
export const join = script({
  prelude,
  parameters: ['id', 'user', 'node', 'generation', 'device', 'connectedAt', 'limit', 'tenantLimit', 'registrationTtl', 'defaultPresence', 'state', 'tenant', 'isNewTenant']
}, `
if ${isLost} then return {'lost'} end
limit = tonumber(limit)
local known = findConnection(id)
if known and known.u ~= user then return {'taken'} end
if not known and tenantLimit ~= '0' and redis.call('HLEN', base .. 'connections') >= tonumber(tenantLimit) then return {'full'} end
if isUnknown(user) then return {'unknown'} end
if isNewTenant == '1' and KEYS[4] then redis.call('SADD', KEYS[4], tenant) end
if node == '' then scheduleCheck(tenant, registrationTtl) end
local isFirst = markOnline(user, defaultPresence)
redis.call('ZREM', base .. 'signs', user)
local hasReturned = string.find(redis.call('HGET', base .. 'presence', user) or '', '^{"status":"offline"')
if hasReturned then
  redis.call('HSET', base .. 'presence', user, defaultPresence)
  redis.call('HSET', base .. 'said', user, toText(now))
  updateVisible(user)
end
local entry = { u = user, n = node, g = generation, d = device, c = connectedAt, o = toText(now) }
local replaced = ''
if known then
  entry.c = known.c
  if node == '' then
    entry.n = known.n
    entry.g = known.g
    entry.o = known.o
  elseif known.n ~= '' and known.g ~= generation then
    redis.call('SREM', base .. 'node:' .. known.n, id)
    replaced = encodeConnection(id, known)
  end
end
redis.call('HSET', base .. 'connections', id, cjson.encode(entry))
redis.call('SADD', base .. 'of:' .. user, id)
if entry.n == '' then
  redis.call('ZADD', base .. 'rest', now + tonumber(registrationTtl), id)
else
  redis.call('ZREM', base .. 'rest', id)
  redis.call('SADD', base .. 'node:' .. entry.n, id)
end
local standing = standingOf(user) .. ',' .. (hasReturned and '1' or '0') .. ',' .. (redis.call('HGET', base .. 'invisible', user) or '')
scheduleAnnouncement(tenant)
local result = { 'ok', known and 0 or 1, isFirst and 1 or 0, replaced, entry.g, entry.o or '', standing, isFirst and redis.call('HGET', base .. 'presence', user) or '' }
if redis.call('SCARD', base .. 'of:' .. user) > limit then
  local others = {}
  for _, other in ipairs(redis.call('SMEMBERS', base .. 'of:' .. user)) do
    local found = findConnection(other)
    if found == nil then redis.call('SREM', base .. 'of:' .. user, other)
    elseif other ~= id then table.insert(others, { id = other, entry = found, hasSocket = found.n ~= '' and 1 or 0 }) end
  end
  table.sort(others, function (a, b)
    if a.hasSocket ~= b.hasSocket then return a.hasSocket < b.hasSocket end
    return tonumber(a.entry.c) < tonumber(b.entry.c)
  end)
  for i = 1, #others + 1 - limit do
    -- An open socket is not evicted for a connection that may never have one.
    if others[i] == nil or (entry.n == '' and others[i].hasSocket == 1) then break end
    removeConnection(others[i].id, others[i].entry, now)
    table.insert(result, encodeConnection(others[i].id, others[i].entry))
  end
end
return result`)

/**
 * Removes a connection of this generation; returns 1 if it was there. `heldUser`, `heldNode`: its user and node if the
 * calling node holds it, else ''. Then the rest of a connection that was partly evicted is removed as well.
 */
export const leave = script({ prelude, parameters: ['id', 'generation', 'offlineDelay', 'heldUser', 'heldNode', 'tenant'] }, `
scheduleCheck(tenant, offlineDelay)
local entry = findConnection(id)
local offlineAt = now + tonumber(offlineDelay)
if entry and entry.g ~= generation then return 0 end
if entry then
  removeConnection(id, entry, offlineAt)
  return 1
end
if heldUser ~= '' then
  redis.call('SREM', base .. 'of:' .. heldUser, id)
  redis.call('SREM', base .. 'node:' .. heldNode, id)
  if redis.call('ZSCORE', base .. 'present', heldUser) and not isConnected(heldUser) then
    redis.call('ZADD', base .. 'grace', 'NX', offlineAt, heldUser)
  end
end
return 0`)

export const heartbeat = script({ prelude, parameters: ['id', 'registrationTtl'] }, `
local entry = findConnection(id)
if not entry then return 0 end
redis.call('HSET', base .. 'seen', entry.u, toText(now))
if entry.n == '' then redis.call('ZADD', base .. 'rest', 'XX', now + tonumber(registrationTtl), id) end
return 1`)

export const connectionsOf = script({ prelude, parameters: ['user'] }, `
local found = {}
for _, id in ipairs(redis.call('SMEMBERS', base .. 'of:' .. user)) do
  local entry = findConnection(id)
  if entry then table.insert(found, encodeConnection(id, entry)) end
end
return found`)

/** Returns 0 if the connection has `limit` channels already. */
export const addChannel = script({ prelude, parameters: ['id', 'channel', 'limit'] }, `
if not findConnection(id) then return 1 end
local key = base .. 'channels:' .. id
if redis.call('SISMEMBER', key, channel) == 0 and redis.call('SCARD', key) >= tonumber(limit) then return 0 end
redis.call('SADD', key, channel)
return 1`)

/**
 * Sets a user's presence. With `onlyConnected` '1' it does nothing for a user without a connection on a cluster, because the
 * caller has not scheduled the end of that user's status lease. Returns 1: the user was offline before; 2: the user has no connection;
 * 3: Redis lost data; 0: set; and whether others saw the user as online before, '1' or '0', and the standing, see `join`.
 */
export const setPresence = script({
  prelude, parameters: ['user', 'presence', 'registrationTtl', 'setAt', 'onlyConnected', 'state', 'tenant']
}, `
if ${isLost} then return { 3 } end
local hasConnection = redis.call('SCARD', base .. 'of:' .. user) > 0
if onlyConnected == '1' and not hasConnection and not KEYS[3] then return { 2 } end
local before = redis.call('HGET', base .. 'presence', user)
local wasVisible = redis.call('ZSCORE', base .. 'present', user) and (not before or isVisible(before))
if statusOf(presence) == 'invisible' then redis.call('HSET', base .. 'invisible', user, string.match(presence, '"hiddenSince":(%d+)')) else redis.call('HDEL', base .. 'invisible', user) end
local isFirst = markOnline(user, presence)
redis.call('HSET', base .. 'said', user, setAt)
redis.call('HSET', base .. 'presence', user, presence)
updateVisible(user)
if not hasConnection then
  redis.call('ZADD', base .. 'signs', now + tonumber(registrationTtl), user)
  scheduleCheck(tenant, registrationTtl)
end
scheduleAnnouncement(tenant)
return { isFirst and 1 or 0, wasVisible and '1' or '0', standingOf(user) }`)

/** Returns the standing of a user, see `join`; '' if the user may be invisible, see `isUnknown`. */
export const standing = script({ prelude, parameters: ['user'] }, "return isUnknown(user) and '' or standingOf(user)")

/** Takes user ids. Returns presence and last activity of each, '' for users who are not online. */
export const presence = script({ prelude, parameters: [], more: 'firstUser' }, `
local found = {}
for i = firstUser, #ARGV do
  local isPresent = redis.call('ZSCORE', base .. 'present', ARGV[i])
  table.insert(found, isPresent and redis.call('HGET', base .. 'presence', ARGV[i]) or '')
  table.insert(found, isPresent and redis.call('HGET', base .. 'seen', ARGV[i]) or '')
end
return found`)

/** Returns the number of visible users, then user, presence and last activity of up to `limit + 1` users whose id follows `after`. */
export const online = script({ prelude, parameters: ['after', 'limit'] }, `
local found = { redis.call('ZCARD', base .. 'visible') }
local users = usersAfter('visible', after, tonumber(limit) + 1)
if #users == 0 then return found end
local presences = redis.call('HMGET', base .. 'presence', unpack(users))
local seen = redis.call('HMGET', base .. 'seen', unpack(users))
for i, user in ipairs(users) do
  table.insert(found, user)
  table.insert(found, presences[i] or '')
  table.insert(found, seen[i] or '')
end
return found`)

/**
 * Returns the numbers of connections, of active connections, and of users with a connection. A connection
 * without a socket is active if its registration lasts for longer than `activeTtl`. `shown` '1': without hidden users.
 */
export const counts = script({ prelude, parameters: ['activeTtl', 'shown'] }, `
local total = redis.call('HLEN', base .. 'connections')
local hidden, hiddenActive, hiddenUsers = 0, 0, 0
for _, user in ipairs(shown == '1' and redis.call('SMEMBERS', base .. 'hidden') or {}) do
  local ids = redis.call('SMEMBERS', base .. 'of:' .. user)
  hidden = hidden + #ids
  if #ids > 0 then hiddenUsers = hiddenUsers + 1 end
  for _, id in ipairs(ids) do
    local rests = tonumber(redis.call('ZSCORE', base .. 'rest', id) or nil)
    if not rests or rests > now + tonumber(activeTtl) then hiddenActive = hiddenActive + 1 end
  end
end
return {
  total - hidden,
  total - hiddenActive - redis.call('ZCOUNT', base .. 'rest', '-inf', now + tonumber(activeTtl)),
  redis.call('ZCARD', base .. 'present') - redis.call('ZCARD', base .. 'grace') - redis.call('ZCARD', base .. 'signs') - hiddenUsers
}`)
