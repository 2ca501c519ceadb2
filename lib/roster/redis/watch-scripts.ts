import { script } from '../../redis/script.js'
import { prelude } from './prelude.js'

/** The scripts of users to be watched by a connection whose socket is not open yet, see `RosterWatches`. */

/** Takes users and their marks. Returns 0, and stores nothing, if these would be more than `limit`. */
export const recordWatches = script({ prelude, parameters: ['id', 'limit'], more: 'firstUser' }, `
if not findConnection(id) then return 1 end
local key = base .. 'watches:' .. id
local count = redis.call('HLEN', key)
for i = firstUser, #ARGV, 2 do
  if redis.call('HEXISTS', key, ARGV[i]) == 0 then count = count + 1 end
end
if count > tonumber(limit) then return 0 end
redis.call('HSET', key, unpack(ARGV, firstUser))
return 1`)

/** Takes users, or none for all. Returns how many are left. */
export const dropWatches = script({ prelude, parameters: ['id'], more: 'firstUser' }, `
local key = base .. 'watches:' .. id
if ARGV[firstUser] then redis.call('HDEL', key, unpack(ARGV, firstUser)) else redis.call('DEL', key) end
return redis.call('HLEN', key)`)

/** Returns users and their marks, and removes them. */
export const takeWatches = script({ prelude, parameters: ['id'] }, `
local key = base .. 'watches:' .. id
local found = redis.call('HGETALL', key)
redis.call('DEL', key)
return found`)
