import { script } from '../../redis/script.js'
import { prelude } from './prelude.js'

/** The scripts over keys that belong to no tenant: nodes, tenants with deadlines, request counters, locks. */

/**
 * Renews the lease of a node. `KEYS[1]` is a sorted set of nodes by the end of their lease; `KEYS[2]` holds the name of
 * Redis' state. `lastEnd`: the end that this node wrote last, or ''. Returns the end that was found or '', the name of the
 * state, the new end, and the time.
 *
 * The state gets `newState` as its name if Redis was emptied or went back to an older copy: then every lease in it is older
 * than the one that this node wrote last.
 */
export const renewLease = script({ prelude, parameters: ['node', 'ttl', 'lastEnd', 'newState'] }, `
local nodesKey, stateKey = KEYS[1], KEYS[2]
local before = redis.call('ZSCORE', nodesKey, node)
local newest = redis.call('ZREVRANGE', nodesKey, 0, 0, 'WITHSCORES')
local state = redis.call('GET', stateKey)
lastEnd = tonumber(lastEnd)
if not state or (lastEnd and (not newest[2] or tonumber(newest[2]) < lastEnd)) then
  state = newState
  redis.call('SET', stateKey, state)
end
local leaseEnd = toText(now + tonumber(ttl))
redis.call('ZADD', nodesKey, leaseEnd, node)
return { before and toText(tonumber(before)) or '', state, leaseEnd, toText(now) }`)

/** The nodes in `KEYS[1]` whose lease has not ended. */
export const livingNodes = script({ prelude, parameters: [] }, `
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. toText(now), '+inf')`)

/** The nodes in `KEYS[1]` whose lease has ended. */
export const deadNodes = script({ prelude, parameters: [] }, `
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)`)

/**
 * Schedules a check of tenants, given as further arguments. `KEYS[1]` is a sorted set of tenants by the time of their next
 * check; beside it, a hash counts how often a check of each tenant was scheduled. By that number `releaseTenants` notices
 * that something was scheduled during a check, also if it is due later than the claim ends.
 */
export const scheduleIn = script({ prelude, parameters: ['delay'], more: 'firstTenant' }, `
for i = firstTenant, #ARGV do
  redis.call('ZADD', KEYS[1], 'LT', toText(now + tonumber(delay)), ARGV[i])
  redis.call('HINCRBY', KEYS[1] .. ':marks', ARGV[i], 1)
end
return 1`)

/**
 * Schedules checks: further arguments are a time and a tenant, alternating. `KEYS[1]` as for `scheduleIn`. Removes numbers of
 * tenants without a scheduled check.
 */
export const scheduleAt = script({ prelude, parameters: [], more: 'first' }, `
local key, marksKey = KEYS[1], KEYS[1] .. ':marks'
for i = first, #ARGV, 2 do redis.call('ZADD', key, 'LT', ARGV[i], ARGV[i + 1]) end
if redis.call('HLEN', marksKey) > redis.call('ZCARD', key) then
  for _, tenant in ipairs(redis.call('HRANDFIELD', marksKey, 500)) do
    if not redis.call('ZSCORE', key, tenant) then redis.call('HDEL', marksKey, tenant) end
  end
end
return 1`)

/** Claims tenants in `KEYS[1]` whose check is due. Returns the end of the claim, then each tenant and its number, see `scheduleIn`. */
export const claimTenants = script({ prelude, parameters: ['claim'] }, `
local claimEnd = toText(now + tonumber(claim))
local claimed = { claimEnd }
for _, tenant in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 500)) do
  redis.call('ZADD', KEYS[1], claimEnd, tenant)
  table.insert(claimed, tenant)
  table.insert(claimed, redis.call('HGET', KEYS[1] .. ':marks', tenant) or '0')
end
return claimed`)

/**
 * Sets when tenants are checked next: further arguments are, for each tenant, its id, the time of its check as the caller left it,
 * its number, and the time of its next check or ''. Tenants with a check that was scheduled since then stay as they are.
 */
export const releaseTenants = script({ prelude, parameters: [], more: 'first' }, `
local key, marksKey = KEYS[1], KEYS[1] .. ':marks'
for i = first, #ARGV, 4 do
  local tenant, leftAt, mark, nextCheck = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if tonumber(redis.call('ZSCORE', key, tenant)) == tonumber(leftAt)
    and (redis.call('HGET', marksKey, tenant) or '0') == mark then
    if nextCheck == '' then
      redis.call('ZREM', key, tenant)
      redis.call('HDEL', marksKey, tenant)
    else
      redis.call('ZADD', key, nextCheck, tenant)
    end
  end
end
return 1`)

/** Counts a request in `KEYS[1]`. Returns the count and the milliseconds until the window ends. */
export const countRequest = script({ parameters: ['window'] }, `
local count = redis.call('INCR', KEYS[1])
local ttl = redis.call('PTTL', KEYS[1])
if ttl < 0 then
  redis.call('PEXPIRE', KEYS[1], window)
  ttl = tonumber(window)
end
return { count, ttl }`)

/** Adds to the counters in the hash `KEYS[1]`: further arguments are a name and a number, alternating. Returns the totals. */
export const addCounts = script({ parameters: ['ttl'], more: 'first' }, `
local totals = {}
for i = first, #ARGV, 2 do table.insert(totals, redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])) end
redis.call('PEXPIRE', KEYS[1], ttl)
return totals`)

/** Takes or prolongs the lock in `KEYS[1]`. Returns 1 if the owner has it. */
export const lock = script({ parameters: ['owner', 'ttl'] }, `
local current = redis.call('GET', KEYS[1])
if current and current ~= owner then return 0 end
redis.call('SET', KEYS[1], owner, 'PX', ttl)
return 1`)
