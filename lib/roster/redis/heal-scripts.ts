import { prelude } from './prelude.js'

/**
 * The scripts with which a node makes Redis agree with what it holds. All are over several tenants: `KEYS` are their bases,
 * and after the common arguments stand, for each tenant, a count of rows and the rows. What Redis came back with may be an
 * older copy, or a part of it: every key may be missing or wrong on its own.
 */

/**
 * Node; rows of id, user, generation, when the user's presence was said or '' → for each tenant the numbers of the rows that
 * Redis has wrong, users whose presence was said elsewhere since with it and its time, and how many ids the node has there.
 */
export const verify = prelude + `
local answers = {}
local at = 3
for i, key in ipairs(KEYS) do
  base = key
  local rows = tonumber(ARGV[at])
  local wrong, learned, ids, users = {}, {}, {}, {}
  for row = 1, rows do
    ids[row] = ARGV[at + 4 * row - 3]
    users[row] = ARGV[at + 4 * row - 2]
  end
  if rows > 0 then
    local entries = redis.call('HMGET', base .. 'connections', unpack(ids))
    local held = redis.call('SMISMEMBER', base .. 'node:' .. ARGV[2], unpack(ids))
    local present = redis.call('ZMSCORE', base .. 'present', unpack(users))
    local visible = redis.call('ZMSCORE', base .. 'visible', unpack(users))
    local waiting = redis.call('ZMSCORE', base .. 'grace', unpack(users))
    local presences = redis.call('HMGET', base .. 'presence', unpack(users))
    local said = redis.call('HMGET', base .. 'said', unpack(users))
    local seen = redis.call('HMGET', base .. 'seen', unpack(users))
    for row = 1, rows do
      local mine, theirs = tonumber(ARGV[at + 4 * row]), tonumber(said[row])
      if not entries[row] or not contains(entries[row], '"g":"' .. ARGV[at + 4 * row - 1] .. '"') or held[row] == 0
        or redis.call('SISMEMBER', base .. 'of:' .. users[row], ids[row]) == 0
        or not present[row] or waiting[row] or not seen[row] or not presences[row]
        or shown(presences[row]) ~= (visible[row] ~= false) or (mine and (not theirs or theirs < mine)) then
        table.insert(wrong, row)
      elseif theirs ~= mine then
        table.insert(learned, users[row])
        table.insert(learned, presences[row])
        table.insert(learned, said[row])
      end
    end
  end
  at = at + 1 + 4 * rows
  answers[i] = { wrong, learned, redis.call('SCARD', base .. 'node:' .. ARGV[2]) }
end
return answers`

/**
 * Node, living nodes, grace, until when the node knows that nothing was lost; rows of id, user, generation, device, connected
 * at, socket opened at, default presence, presence that was said or '', when or until when nothing was, and '1' where a user
 * who is not known yet is told online for it → for each row 'ok', '1' for told, the connection that went for it or ''; or 'lost', '1' to the same
 * user, the connection that stays.
 *
 * Of two sockets under one id the newer one stays where they are one user's, else the one that had the id first.
 */
export const restore = prelude + `
local node, living, since = ARGV[2], ARGV[3], tonumber(ARGV[5])
local answers = {}
local at = 6
for i, key in ipairs(KEYS) do
  base = key
  answers[i] = {}
  local rows = tonumber(ARGV[at])
  for row = 1, rows do
    local id, user, generation, device, since_connected, opened, presence, said, said_at, tell = unpack(ARGV, at + 10 * row - 9, at + 10 * row)
    local known = find(id)
    local other = known and (known.u ~= user or known.g ~= generation)
    local stays = false
    if other and known.n ~= node and listed(living, known.n) or other and known.n == '' and known.u ~= user then
      local theirs, mine = tonumber(known.o or known.c), tonumber(opened)
      local newer = theirs > mine or (theirs == mine and known.g > generation)
      stays = newer == (known.u == user)
    end
    if stays then
      table.insert(answers[i], { 'lost', known.u == user and '1' or '0', export(id, known) })
    else
      local replaced = ''
      if other then
        if known.n ~= node and known.n ~= '' then replaced = export(id, known) end
        remove(id, known, now + tonumber(ARGV[4]), known.u == user)
      end
      local heard = math.max(tonumber(redis.call('HGET', base .. 'seen', user)) or 0, since, tonumber(opened))
      local first = arrive(user, presence, stamp(heard))
      redis.call('HSET', base .. 'connections', id,
        cjson.encode({ u = user, n = node, g = generation, d = device, c = since_connected, o = opened }))
      redis.call('SADD', base .. 'of:' .. user, id)
      redis.call('SADD', base .. 'node:' .. node, id)
      redis.call('ZREM', base .. 'rest', id)
      redis.call('ZREM', base .. 'signs', user)
      local theirs = tonumber(redis.call('HGET', base .. 'said', user))
      local text = redis.call('HGET', base .. 'presence', user)
      local default = contains(text, '"status":"online"') and contains(text, '"lastMessage":null')
      if said_at ~= '' and (not theirs or theirs < tonumber(said_at)) and (said ~= '' or theirs or not default) then
        redis.call('HSET', base .. 'presence', user, said ~= '' and said or presence)
        if said ~= '' then redis.call('HSET', base .. 'said', user, said_at) else redis.call('HDEL', base .. 'said', user) end
      end
      show(user)
      if first and tell == '1' then redis.call('HSET', base .. 'seen', user, stamp(now)) end
      table.insert(answers[i], { 'ok', first and tell == '1' and '1' or '0', replaced })
    end
  end
  at = at + 1 + 10 * rows
end
return answers`

/** Node, delay of the offline; rows of ids that Redis counts as the node's, and the node does not hold. */
export const disown = prelude + `
local answers = {}
local at = 4
for i, key in ipairs(KEYS) do
  base = key
  for row = 1, tonumber(ARGV[at]) do
    local id = ARGV[at + row]
    local entry = find(id)
    if entry and entry.n == ARGV[2] then remove(id, entry, now + tonumber(ARGV[3]), true) end
    redis.call('SREM', base .. 'node:' .. ARGV[2], id)
  end
  at = at + 1 + tonumber(ARGV[at])
  answers[i] = redis.call('SCARD', base .. 'node:' .. ARGV[2])
end
return answers`

/**
 * Delay of the offline, '1' where Redis lost something lately, '1' where every node has written what it holds since; rows of user,
 * time, and '1' where the node told the user offline then, or '0' where the user's last connection to the node ended and that
 * may not have been told yet → for each tenant the users who were told offline and are connected.
 */
export const remind = prelude + `
local answers = {}
local at = 5
for i, key in ipairs(KEYS) do
  base = key
  local back = {}
  local rows = tonumber(ARGV[at])
  for row = 1, rows do
    local user, time, told = unpack(ARGV, at + 3 * row - 2, at + 3 * row)
    local here = count(user) > 0 or redis.call('ZSCORE', base .. 'signs', user)
    local present = redis.call('ZSCORE', base .. 'present', user)
    local waiting = redis.call('ZSCORE', base .. 'grace', user)
    local seen = tonumber(redis.call('HGET', base .. 'seen', user))
    if told == '1' then
      -- Heard of later, the user came back, which was told. Who was heard of when was lost too, perhaps.
      if seen and seen < tonumber(time) or not seen and ARGV[3] == '1' then
        if not here and (present or waiting) then
          forget(user)
        elseif here and present and seen and ARGV[4] == '1' then
          redis.call('HSET', base .. 'seen', user, stamp(now))
          table.insert(back, user)
        end
      end
    elseif not here and not waiting then
      redis.call('ZADD', base .. 'grace', now + tonumber(ARGV[2]), user)
      if not present then
        redis.call('ZADD', base .. 'present', user, user)
        redis.call('HSET', base .. 'seen', user, time)
      end
    elseif ARGV[3] == '1' and (seen or 0) < tonumber(time) then
      redis.call('HSET', base .. 'seen', user, time)
    end
  end
  at = at + 1 + 3 * rows
  answers[i] = back
end
return answers`

/**
 * Node, '1' for those too that ran out meanwhile; rows of user:conversation, entry, end → for each '-' where another node
 * stopped it, '1' where it was missed, '0' where it was there, '' where it ran out.
 */
export const keepTyping = prelude + `
local answers = {}
local at = 4
for i, key in ipairs(KEYS) do
  base = key
  answers[i] = {}
  local rows = tonumber(ARGV[at])
  for row = 1, rows do
    local name, entry, ends = unpack(ARGV, at + 3 * row - 2, at + 3 * row)
    local text = redis.call('HGET', base .. 'types', name)
    local answer = ''
    if ended(text) then
      -- Or it was stopped, and was begun anew, which was lost.
      if tonumber(ended(text)) >= tonumber(string.match(entry, '"startedAt":(%d+)')) then answer = '-' else text = false end
    end
    if answer == '' and ( text or tonumber(ends) > now or ARGV[3] == '1') then
      answer = '0'
      if not text then
        redis.call('HSET', base .. 'types', name, ARGV[2] .. ' ' .. entry)
        answer = '1'
      elseif not listed(string.match(text, '^%S+'), ARGV[2]) then
        redis.call('HSET', base .. 'types', name, ARGV[2] .. ',' .. text)
      end
      if redis.call('ZADD', base .. 'typing', 'GT', ends, name) == 1 then answer = '1' end
      if redis.call('SADD', base .. 'typers:' .. string.match(name, ':(.*)$'), name) == 1 then answer = '1' end
    end
    table.insert(answers[i], answer)
  end
  at = at + 1 + 3 * rows
end
return answers`

/**
 * Node; rows of user:conversation, when it ended there, which was told, and '1' where it ran out: what seems to be going on
 * since before then is over.
 */
export const endTyping = prelude + `
local at = 3
for i, key in ipairs(KEYS) do
  base = key
  local rows = tonumber(ARGV[at])
  for row = 1, rows do
    local name, ended, ran_out = unpack(ARGV, at + 3 * row - 2, at + 3 * row)
    local started = tonumber(string.match(redis.call('HGET', base .. 'types', name) or '', '"startedAt":(%d+)'))
    local ends = tonumber(redis.call('ZSCORE', base .. 'typing', name))
    -- Where it ran out another node may have been told since that it goes on.
    if started and started <= tonumber(ended) and (ran_out == '0' or (ends and ends <= tonumber(ended))) then stop(name, ARGV[2]) end
  end
  at = at + 1 + 3 * rows
end
return {}`

/** Rows of user, presence, when it was said: for users who are connected, where nothing newer is known. */
export const sayAgain = prelude + `
local at = 2
for i, key in ipairs(KEYS) do
  base = key
  local rows = tonumber(ARGV[at])
  for row = 1, rows do
    local user, presence, time = unpack(ARGV, at + 3 * row - 2, at + 3 * row)
    local theirs = tonumber(redis.call('HGET', base .. 'said', user))
    if redis.call('SCARD', base .. 'of:' .. user) > 0 and (not theirs or theirs < tonumber(time)) then
      redis.call('HSET', base .. 'presence', user, presence)
      redis.call('HSET', base .. 'said', user, time)
      show(user)
    end
  end
  at = at + 1 + 3 * rows
end
return {}`
