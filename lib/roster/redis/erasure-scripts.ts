import { script } from '../../redis/script.js'
import { roomPrelude } from './room-prelude.js'

/** Functions shared by the scripts of this file. */
const prelude = roomPrelude + `
local function startsWith(text, part) return string.sub(text, 1, #part) == part end
-- Calls \`use\` for the fields of a hash and their values, or the members of a sorted set and their scores.
local function each(command, name, use)
  local cursor = '0'
  repeat
    local page = redis.call(command, base .. name, cursor, 'COUNT', 1000)
    cursor = page[1]
    for n = 1, #page[2], 2 do use(page[2][n], page[2][n + 1]) end
  until cursor == '0'
end
-- The same for members that begin with the user's id and this sign.
local function eachOf(user, name, sign, use)
  each('ZSCAN', name, function (member) if startsWith(member, user .. sign) then use(member) end end)
end
`

/**
 * Ends `invisible`; makes offline, the leaving of channels and the end of typing due at once for a user without connections.
 * Returns 1.
 */
export const dismissUser = script({ prelude, parameters: ['user', 'tenant'] }, `
redis.call('HDEL', base .. 'invisible', user)
redis.call('ZREM', base .. 'signs', user)
if redis.call('ZSCORE', base .. 'present', user) and not isConnected(user) then redis.call('ZADD', base .. 'grace', toText(now), user) end
eachOf(user, 'leaving', '/', function (member) redis.call('ZADD', base .. 'leaving', toText(now), member) end)
eachOf(user, 'typing', ':', function (member) redis.call('ZADD', base .. 'typing', toText(now), member) end)
scheduleCheck(tenant, 0)
return 1`)

/** Removes everything that names the user, connected or not, without an event. Returns 1. */
export const forgetUser = script({ prelude, parameters: ['user', 'tenant'] }, `
for _, id in ipairs(redis.call('SMEMBERS', base .. 'of:' .. user)) do
  local entry = findConnection(id)
  if entry and entry.u == user then removeConnection(id, entry, now, true) end
end
redis.call('DEL', base .. 'of:' .. user)
-- Also typing of others for the user alone.
each('HSCAN', 'types', function (key, text)
  if not startsWith(key, user .. ':') and not contains(text, '"private-user.' .. user .. '"') then return end
  redis.call('ZREM', base .. 'typing', key)
  redis.call('HDEL', base .. 'types', key)
  redis.call('SREM', base .. 'typers:' .. conversationOf(key), key)
end)
eachOf(user, 'typing', ':', function (key) redis.call('ZREM', base .. 'typing', key) end)
eachOf(user, 'leaving', '/', function (member) setMember(string.sub(member, #user + 2), user, false) end)
for _, channel in ipairs(redis.call('SMEMBERS', base .. 'in:' .. user)) do
  for node in string.gmatch(redis.call('HGET', base .. 'holders:' .. channel, user) or '', '([^,=]+)=%d+') do
    redis.call('SREM', base .. 'crowd:' .. node, user .. '/' .. channel)
  end
  redis.call('HDEL', base .. 'holders:' .. channel, user)
  setMember(channel, user, false)
end
redis.call('DEL', base .. 'in:' .. user)
-- Only the user is a member of the own channel.
local own = 'private-user.' .. user
redis.call('DEL', base .. 'delta:' .. own)
redis.call('HDEL', base .. 'rooms', own)
redis.call('ZREM', base .. 'tells', own)
removeUser(user)
redis.call('ZREM', base .. 'signs', user)
redis.call('HDEL', base .. 'invisible', user)
scheduleAnnouncement(tenant)
return 1`)
