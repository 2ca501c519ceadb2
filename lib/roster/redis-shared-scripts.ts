import { prelude } from './redis-prelude.js'

/** The scripts over keys that belong to no tenant: nodes, what is due, counters, locks. */

/** KEYS[1] the nodes; boot id, lease → 1 where the node was known. */
export const renew = prelude + `
local known = redis.call('ZSCORE', base, ARGV[2])
redis.call('ZADD', base, now + tonumber(ARGV[3]), ARGV[2])
return known and 1 or 0`

/** KEYS[1] the nodes; '1' for the dead, '0' for the living. */
export const nodes = prelude + `
if ARGV[2] == '1' then return redis.call('ZRANGEBYSCORE', base, '-inf', now) end
return redis.call('ZRANGEBYSCORE', base, '(' .. stamp(now), '+inf')`

/**
 * KEYS[1] tenants by their next due time; beside it, how often each was made due. In ms, tenant.
 * The mark tells a sweep under way that there is something new, also where it is due later than the claim ends.
 */
export const dueAt = prelude + `
redis.call('ZADD', base, 'LT', stamp(now + tonumber(ARGV[2])), ARGV[3])
redis.call('HINCRBY', base .. ':marks', ARGV[3], 1)
return 1`

/** KEYS[1] as above; claim → the claim's end, then each tenant, claimed until then, and its mark. */
export const claimDue = prelude + `
local ends = stamp(now + tonumber(ARGV[2]))
local claimed = { ends }
for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', base, '-inf', now, 'LIMIT', 0, 200)) do
  redis.call('ZADD', base, ends, tenant)
  table.insert(claimed, tenant)
  table.insert(claimed, redis.call('HGET', base .. ':marks', tenant) or '0')
end
return claimed`

/** KEYS[1] as above; tenant, end of the claim, mark, next or ''. Keeps what was made due meanwhile. */
export const finishDue = prelude + `
local score = redis.call('ZSCORE', base, ARGV[2])
if not score or tonumber(score) ~= tonumber(ARGV[3]) then return 0 end
if (redis.call('HGET', base .. ':marks', ARGV[2]) or '0') ~= ARGV[4] then return 0 end
if ARGV[5] == '' then
  redis.call('ZREM', base, ARGV[2])
  redis.call('HDEL', base .. ':marks', ARGV[2])
else
  redis.call('ZADD', base, ARGV[5], ARGV[2])
end
return 1`

/** KEYS[1] a counter; window → count and what is left of the window. */
export const hit = `
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return { count, redis.call('PTTL', KEYS[1]) }`

/** KEYS[1] a lock; owner, time to live → 1 where the owner has it. */
export const lock = `
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`
