import { prelude } from './prelude.js'

/** The scripts over keys that belong to no tenant: nodes, what is due, counters, locks. */

/**
 * KEYS: the nodes, each with the end of its lease, and the name of this state of Redis. Boot id, lease, the end that was
 * written last or '', a new name → the end that was found or '', the state's name, the end now, the time.
 *
 * The state gets another name where it was lost or went back: then every lease in it is older than the one written last.
 */
export const renew = prelude + `
local before = redis.call('ZSCORE', KEYS[1], ARGV[2])
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local state = redis.call('GET', KEYS[2])
local last = tonumber(ARGV[4])
if not state or (last and (not newest[2] or tonumber(newest[2]) < last)) then
  state = ARGV[5]
  redis.call('SET', KEYS[2], state)
end
local ends = stamp(now + tonumber(ARGV[3]))
redis.call('ZADD', KEYS[1], ends, ARGV[2])
return { before and stamp(tonumber(before)) or '', state, ends, stamp(now) }`

/** KEYS[1] the nodes; '1' for the dead, '0' for the living. */
export const nodes = prelude + `
if ARGV[2] == '1' then return redis.call('ZRANGEBYSCORE', base, '-inf', now) end
return redis.call('ZRANGEBYSCORE', base, '(' .. stamp(now), '+inf')`

/**
 * KEYS[1] tenants by their next due time; beside it, how often each was made due. In ms, tenants.
 * The mark tells a sweep under way that there is something new, also where it is due later than the claim ends.
 */
export const dueAt = prelude + `
for i = 3, #ARGV do
  redis.call('ZADD', base, 'LT', stamp(now + tonumber(ARGV[2])), ARGV[i])
  redis.call('HINCRBY', base .. ':marks', ARGV[i], 1)
end
return 1`

/** KEYS[1] as above; claim → the claim's end, then each tenant, claimed until then, and its mark. */
export const claimDue = prelude + `
local ends = stamp(now + tonumber(ARGV[2]))
local claimed = { ends }
for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', base, '-inf', now, 'LIMIT', 0, 500)) do
  redis.call('ZADD', base, ends, tenant)
  table.insert(claimed, tenant)
  table.insert(claimed, redis.call('HGET', base .. ':marks', tenant) or '0')
end
return claimed`

/** KEYS[1] as above; end of the claim; for each tenant its name, its mark, next or ''. Keeps what was made due meanwhile. */
export const finishDue = prelude + `
for i = 3, #ARGV, 3 do
  local tenant, mark, soonest = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if tonumber(redis.call('ZSCORE', base, tenant)) == tonumber(ARGV[2])
    and (redis.call('HGET', base .. ':marks', tenant) or '0') == mark then
    if soonest == '' then
      redis.call('ZREM', base, tenant)
      redis.call('HDEL', base .. ':marks', tenant)
    else
      redis.call('ZADD', base, soonest, tenant)
    end
  end
end
return 1`

/** KEYS[1] as above; time and tenant, alternating: they are due by then. Forgets marks of tenants of which nothing is due. */
export const dueBy = prelude + `
for i = 2, #ARGV, 2 do redis.call('ZADD', base, 'LT', ARGV[i], ARGV[i + 1]) end
if redis.call('HLEN', base .. ':marks') > redis.call('ZCARD', base) then
  for _, tenant in ipairs(redis.call('HRANDFIELD', base .. ':marks', 500)) do
    if not redis.call('ZSCORE', base, tenant) then redis.call('HDEL', base .. ':marks', tenant) end
  end
end
return 1`

/** KEYS[1] a counter; window → count and what is left of the window. */
export const hit = `
local count = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  left = tonumber(ARGV[2])
end
return { count, left }`

/** KEYS[1] a lock; owner, time to live → 1 where the owner has it. */
export const lock = `
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`
