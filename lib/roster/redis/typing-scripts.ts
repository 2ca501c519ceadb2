import { script } from '../../redis/script.js'
import { prelude } from './prelude.js'

/**
 * Starts or prolongs typing; `key` is user:conversation. Returns 1 if it was not going on. With `onlyProlong` '1' it is not
 * started then on a cluster, because the caller has not scheduled its end.
 */
export const startTyping = script({ prelude, parameters: ['key', 'entry', 'expiresAt', 'onlyProlong', 'node', 'tenant'] }, `
local ends = tonumber(redis.call('ZSCORE', base .. 'typing', key))
local text = redis.call('HGET', base .. 'types', key)
local isTyping = (not ends or ends > now) and (text or ends) and not stoppedAt(text)
if not (isTyping and ends) then
  if onlyProlong == '1' and not KEYS[3] then return 1 end
  scheduleCheck(tenant, tonumber(expiresAt) - now)
end
redis.call('ZADD', base .. 'typing', expiresAt, key)
if isTyping and text then
  if not inList(string.match(text, '^%S+'), node) then redis.call('HSET', base .. 'types', key, node .. ',' .. text) end
  return 0
end
redis.call('HSET', base .. 'types', key, node .. ' ' .. entry)
redis.call('SADD', base .. 'typers:' .. conversationOf(key), key)
return isTyping and 0 or 1`)

/** Takes keys user:conversation. Returns for each the entry that was stopped, '-' if another node stopped it, or ''. */
export const stopTyping = script({ prelude, parameters: ['node'], more: 'firstKey' }, `
local stopped = {}
for i = firstKey, #ARGV do table.insert(stopped, stop(ARGV[i], node)) end
return stopped`)

/** Returns entry and end of each typing user. */
export const typing = script({ prelude, parameters: ['conversation'] }, `
local found = {}
for _, key in ipairs(redis.call('SMEMBERS', base .. 'typers:' .. conversation)) do
  local ends = redis.call('ZSCORE', base .. 'typing', key)
  local entry = string.match(redis.call('HGET', base .. 'types', key) or '', '^%S+ (.*)$')
  if entry and ends and tonumber(ends) > now then
    table.insert(found, entry)
    table.insert(found, ends)
  end
end
return found`)
