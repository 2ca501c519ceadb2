import { tableScript } from '../../redis/script.js'
import { prelude } from './prelude.js'

/**
 * The scripts with which a node makes Redis agree with the node's own sockets, typing and statuses. Redis may have come back
 * with an older copy or a part of its data: every key may be missing or wrong on its own.
 */

/**
 * Compares sockets of the node with Redis. `setAt`: when the user's presence was set, '' if that is not known. Returns for
 * each tenant the numbers of the rows that Redis has wrong; user, presence and time of presences that were set on other
 * nodes since; the number of connections that Redis assigns to the node; the mode; and '1' if all invisible users are known.
 */
export const verify = tableScript({
  prelude, parameters: ['node'], columns: ['id', 'user', 'generation', 'setAt'], setup: 'local results = {}', result: 'results'
}, `
  local wrong, learned, ids, users = {}, {}, {}, {}
  local key = base .. 'node:' .. node
  for n = 1, rows do
    local COLUMNS = row(n)
    ids[n] = id
    users[n] = user
  end
  if rows > 0 then
    local entries = redis.call('HMGET', base .. 'connections', unpack(ids))
    local held = redis.call('SMISMEMBER', key, unpack(ids))
    local present = redis.call('ZMSCORE', base .. 'present', unpack(users))
    local visible = redis.call('ZMSCORE', base .. 'visible', unpack(users))
    local graces = redis.call('ZMSCORE', base .. 'grace', unpack(users))
    local presences = redis.call('HMGET', base .. 'presence', unpack(users))
    local said = redis.call('HMGET', base .. 'said', unpack(users))
    local seen = redis.call('HMGET', base .. 'seen', unpack(users))
    for n = 1, rows do
      local COLUMNS = row(n)
      local mine, theirs = tonumber(setAt), tonumber(said[n])
      if not entries[n] or not contains(entries[n], '"g":"' .. generation .. '"') or held[n] == 0
        or redis.call('SISMEMBER', base .. 'of:' .. user, id) == 0
        or not present[n] or graces[n] or not seen[n] or not presences[n]
        or isVisible(presences[n]) ~= (visible[n] ~= false) or (mine and (not theirs or theirs < mine)) then
        table.insert(wrong, n)
      elseif theirs ~= mine then
        table.insert(learned, user)
        table.insert(learned, presences[n])
        table.insert(learned, said[n])
      end
    end
  end
  results[i] = { wrong, learned, redis.call('SCARD', key), decidedMode(), isInvisibleKnown() and '1' or '' }`)

/**
 * Writes sockets of the node.
 *
 * `livingNodes`: node ids, separated by commas. `verifiedAt`: until then the node knows that Redis had everything.
 * `presence`: as the node knows it, or ''. `setAt`: when that was set; without a presence, until when the user is known not
 * to have set one, or '' if that is not known. `isArrival`: '1' if the user is to be reported online if Redis does not know
 * them.
 *
 * Returns for each row `{'ok', '1' if the user is to be reported online, the connection that was removed for it or ''}`,
 * `{'unknown'}` if neither the node nor Redis knows whether the user is invisible, or `{'lost', '1' if the id stays with the
 * same user, the connection that stays}`. Of two sockets of one user with the same id
 * the newer one stays; of two users' the one who had the id first.
 */
export const restore = tableScript({
  prelude,
  parameters: ['node', 'livingNodes', 'offlineDelay', 'verifiedAt'],
  columns: ['id', 'user', 'generation', 'device', 'connectedAt', 'openedAt', 'defaultPresence', 'presence', 'setAt', 'isArrival'],
  setup: 'local results = {}',
  result: 'results'
}, `
  results[i] = {}
  for n = 1, rows do
    local COLUMNS = row(n)
    local known = findConnection(id)
    local isOther = known and (known.u ~= user or known.g ~= generation)
    local otherStays = false
    if isOther and known.n ~= node and inList(livingNodes, known.n) or isOther and known.n == '' and known.u ~= user then
      local theirs, mine = tonumber(known.o or known.c), tonumber(openedAt)
      local isNewer = theirs > mine or (theirs == mine and known.g > generation)
      otherStays = isNewer == (known.u == user)
    end
    if setAt == '' and isUnknown(user) then
      table.insert(results[i], { 'unknown' })
    elseif otherStays then
      table.insert(results[i], { 'lost', known.u == user and '1' or '0', encodeConnection(id, known) })
    else
      local replaced = ''
      if isOther then
        if known.n ~= node and known.n ~= '' then replaced = encodeConnection(id, known) end
        removeConnection(id, known, now + tonumber(offlineDelay), known.u == user)
      end
      local seenAt = math.max(tonumber(redis.call('HGET', base .. 'seen', user)) or 0, tonumber(verifiedAt), tonumber(openedAt))
      local isFirst = markOnline(user, defaultPresence, toText(seenAt))
      redis.call('HSET', base .. 'connections', id,
        cjson.encode({ u = user, n = node, g = generation, d = device, c = connectedAt, o = openedAt }))
      redis.call('SADD', base .. 'of:' .. user, id)
      redis.call('SADD', base .. 'node:' .. node, id)
      redis.call('ZREM', base .. 'rest', id)
      redis.call('ZREM', base .. 'signs', user)
      local theirs = tonumber(redis.call('HGET', base .. 'said', user))
      local text = redis.call('HGET', base .. 'presence', user)
      local isDefault = contains(text, '"status":"online"') and contains(text, '"lastMessage":null,"data":null')
      if setAt ~= '' and (not theirs or theirs < tonumber(setAt)) and (presence ~= '' or theirs or not isDefault) then
        redis.call('HSET', base .. 'presence', user, presence ~= '' and presence or defaultPresence)
        if presence ~= '' then redis.call('HSET', base .. 'said', user, setAt) else redis.call('HDEL', base .. 'said', user) end
      end
      local stored, said = redis.call('HGET', base .. 'presence', user), tonumber(redis.call('HGET', base .. 'said', user))
      if stored and said and statusOf(stored) == 'offline' and tonumber(openedAt) > said then
        redis.call('HSET', base .. 'presence', user, defaultPresence)
        redis.call('HSET', base .. 'said', user, openedAt)
      end
      updateVisible(user)
      local isReported = isFirst and isArrival == '1'
      if isReported then redis.call('HSET', base .. 'seen', user, toText(now)) end
      table.insert(results[i], { 'ok', isReported and '1' or '0', replaced })
    end
  end`)

/** Writes who was invisible at `readAt`. Users who are present are corrected, unless they have said something else since. */
export const restoreInvisible = tableScript({ prelude, parameters: ['readAt'], columns: ['user', 'since'], result: '1' }, `
  for n = 1, rows do
    local COLUMNS = row(n)
    local text = redis.call('HGET', base .. 'presence', user)
    local isSaid = text and statusOf(text) ~= 'invisible' and (tonumber(redis.call('HGET', base .. 'said', user)) or 0) > tonumber(readAt)
    if not isSaid and redis.call('HSET', base .. 'invisible', user, since) == 1 then
      if text and isVisible(text) then
        redis.call('HSET', base .. 'presence', user, asInvisible(text, since))
        redis.call('HSET', base .. 'said', user, since)
        updateVisible(user)
      end
    end
  end`)

/** All invisible users of the tenants are written. Until `ttl` milliseconds later, when they are read again. */
export const markInvisibleKnown = tableScript({ prelude, parameters: ['ttl'], columns: [], result: '1' }, `
  redis.call('HSET', base .. 'invisible', '', '1')
  redis.call('PEXPIRE', base .. 'invisible', ttl)`)

/** Writes the mode of a tenant as the node knows it, if Redis lost it. */
export const restoreMode = tableScript({ prelude, parameters: [], columns: ['everyone'], result: '1' }, `
  for n = 1, rows do
    local COLUMNS = row(n)
    if redis.call('HSETNX', base .. 'mode', 'everyone', everyone) == 1 then noteCount() end
  end`)

/** Removes connections that Redis assigns to the node and that the node does not have. */
export const disown = tableScript({ prelude, parameters: ['node', 'offlineDelay'], columns: ['id'], result: '1' }, `
  for n = 1, rows do
    local COLUMNS = row(n)
    local entry = findConnection(id)
    if entry and entry.n == node then removeConnection(id, entry, now + tonumber(offlineDelay), true) end
    redis.call('SREM', base .. 'node:' .. node, id)
  end`)

/**
 * Writes which users left the node. `hasLost`: '1' if Redis lost data recently. `isComplete`: '1' if every node has written
 * its sockets since. `isReported`: '1' if the node reported the user offline at `leftAt`; '0' if the user's last connection
 * to the node ended then, which may not have been reported yet. Returns for each tenant the users who were reported offline
 * and are connected.
 */
export const reconcileOffline = tableScript({
  prelude,
  parameters: ['offlineDelay', 'hasLost', 'isComplete'],
  columns: ['user', 'leftAt', 'isReported'],
  setup: 'local results = {}',
  result: 'results'
}, `
  local back = {}
  for n = 1, rows do
    local COLUMNS = row(n)
    -- Most rows need one of these: they are asked for one by one.
    local function isOnline() return countConnections(user) > 0 or redis.call('ZSCORE', base .. 'signs', user) end
    local function isPresent() return redis.call('ZSCORE', base .. 'present', user) end
    local function isInGrace() return redis.call('ZSCORE', base .. 'grace', user) end
    local function seenAt() return tonumber(redis.call('HGET', base .. 'seen', user)) end
    if isReported == '1' then
      -- Activity after the report means that the user came back, which was reported. Redis may have lost the activity, too.
      local seen = seenAt()
      if seen and seen < tonumber(leftAt) or not seen and hasLost == '1' then
        if not isOnline() then
          if isPresent() or isInGrace() then removeUser(user) end
        elseif isPresent() and seen and isComplete == '1' then
          redis.call('HSET', base .. 'seen', user, toText(now))
          table.insert(back, user)
        end
      end
    elseif hasLost == '1' or not isInGrace() then
      local seen = seenAt()
      if not isInGrace() and not isOnline() then
        local wasPresent = isPresent()
        redis.call('ZADD', base .. 'grace', now + tonumber(offlineDelay), user)
        redis.call('ZADD', base .. 'present', scoreOf(user), user)
        -- Redis may have lost it alone. Without it, another node's earlier report of the user would count.
        if not wasPresent or (hasLost == '1' and (seen or 0) < tonumber(leftAt)) then redis.call('HSET', base .. 'seen', user, leftAt) end
      elseif hasLost == '1' and (seen or 0) < tonumber(leftAt) then
        redis.call('HSET', base .. 'seen', user, leftAt)
      end
    end
  end
  results[i] = back`)

/**
 * Writes typing of the node; `typingKey` is user:conversation. `withExpired`: '1' to write also what has expired. Returns for each
 * row '-' if another node stopped it, '1' if Redis did not have it, '0' if it had, '' if it has expired.
 */
export const restoreTyping = tableScript({
  prelude, parameters: ['node', 'withExpired'], columns: ['typingKey', 'entry', 'expiresAt'], setup: 'local results = {}', result: 'results'
}, `
  results[i] = {}
  for n = 1, rows do
    local COLUMNS = row(n)
    local text = redis.call('HGET', base .. 'types', typingKey)
    local result = ''
    if stoppedAt(text) then
      -- A stop before the start of this typing: the user started again, and Redis lost that.
      if tonumber(stoppedAt(text)) >= tonumber(string.match(entry, '"startedAt":(%d+)')) then result = '-' else text = false end
    end
    if result == '' and (text or tonumber(expiresAt) > now or withExpired == '1') then
      result = '0'
      if not text then
        redis.call('HSET', base .. 'types', typingKey, node .. ' ' .. entry)
        result = '1'
      elseif not inList(string.match(text, '^%S+'), node) then
        redis.call('HSET', base .. 'types', typingKey, node .. ',' .. text)
      end
      if redis.call('ZADD', base .. 'typing', 'GT', expiresAt, typingKey) == 1 then result = '1' end
      if redis.call('SADD', base .. 'typers:' .. conversationOf(typingKey), typingKey) == 1 then result = '1' end
    end
    table.insert(results[i], result)
  end`)

/** Stops typing that ended on the node, and that Redis still has, with a start before that. `isExpired`: '1' if it expired. */
export const endTyping = tableScript({ prelude, parameters: ['node'], columns: ['typingKey', 'endedAt', 'isExpired'], result: '1' }, `
  for n = 1, rows do
    local COLUMNS = row(n)
    local started = tonumber(string.match(redis.call('HGET', base .. 'types', typingKey) or '', '"startedAt":(%d+)'))
    local ends = tonumber(redis.call('ZSCORE', base .. 'typing', typingKey))
    -- If it expired here, another node may have prolonged it since.
    if started and started <= tonumber(endedAt) and (isExpired == '0' or (ends and ends <= tonumber(endedAt))) then stop(typingKey, node) end
  end`)

/** Writes presences of connected users, unless Redis has a newer one. */
export const restorePresences = tableScript({ prelude, parameters: [], columns: ['user', 'presence', 'setAt'], result: '1' }, `
  for n = 1, rows do
    local COLUMNS = row(n)
    local theirs = tonumber(redis.call('HGET', base .. 'said', user))
    if redis.call('SCARD', base .. 'of:' .. user) > 0 and (not theirs or theirs < tonumber(setAt)) then
      redis.call('HSET', base .. 'presence', user, presence)
      redis.call('HSET', base .. 'said', user, setAt)
      updateVisible(user)
    end
  end`)
