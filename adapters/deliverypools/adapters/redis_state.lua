-- The shared state, after redis_counters.lua. Times are texts, as the caller's clock gave them: a Lua number that becomes
-- a text loses digits. What is stored as a whole and never looked into (rows) is a text too.
-- Where a call can fail it fails at its first write, so that a server that refuses writes leaves nothing half done.

local PREFIX = 'delivery-pools:'
local RESERVATIONS = PREFIX .. 'reservations'             -- sorted set: queue id, by when it lapses
local RESERVATION = PREFIX .. 'reservation:'              -- hash: instance, tally, used, counted
local ONCE = PREFIX .. 'once:'                            -- text: when it is forgotten, what was held before, tally
local SEEN = PREFIX .. 'seen:'                            -- sorted set: member, by when it is forgotten
local TICKET = PREFIX .. 'ticket:'                        -- sorted set: queue id, by when it is forgotten
local RESTRICTIONS = PREFIX .. 'restrictions'             -- hash: way of sending and account -> row
local RESTRICTIONS_ENDING = PREFIX .. 'restrictions-ending'  -- sorted set: fields of the hash, by when they end
local ENDINGS = PREFIX .. 'endings:'                      -- sorted set, for a field of that hash: when it ended, or will
local RELEASED = PREFIX .. 'released:'                    -- text, for a day and an account
local NOTICES = PREFIX .. 'notices'                       -- sorted set: notice id, by when it is due
local NOTICE = PREFIX .. 'notice:'                        -- hash: channel, payload, attempts
local LAST_NOTICE = PREFIX .. 'last-notice'

-- What one call forgets of old things, at most: some milliseconds.
local MOST_FORGOTTEN = 200

local function forget_up_to(key, limit)
  local old = redis.call('ZRANGEBYSCORE', key, '-inf', limit, 'LIMIT', 0, MOST_FORGOTTEN)
  if #old > 0 then
    redis.call('ZREM', key, unpack(old))
  end
  return old
end

-- Sets when the server may drop a key, never earlier than was said before.
local function keep(key, ttl)
  if redis.call('TTL', key) < ttl then
    redis.call('EXPIRE', key, ttl)
  end
end

local function is_kept(key, member, now)
  local expires_at = redis.call('ZSCORE', key, member)
  return expires_at and tonumber(expires_at) > tonumber(now)
end

-- ---- counting

local function give_back(queue_id)
  local counted = redis.call('HGET', RESERVATION .. queue_id, 'counted')
  if counted then
    for _, entry in ipairs(cmsgpack.unpack(counted)) do
      take_back(entry)
    end
  end
  redis.call('DEL', RESERVATION .. queue_id)
  redis.call('ZREM', RESERVATIONS, queue_id)
end

local function lapse(now)
  for _, queue_id in ipairs(redis.call('ZRANGEBYSCORE', RESERVATIONS, '-inf', '(' .. now, 'LIMIT', 0, MOST_FORGOTTEN)) do
    give_back(queue_id)
  end
end

-- Returns the reservation of a queue id, unless it has lapsed.
local function reserved(queue_id, now)
  local expires_at = redis.call('ZSCORE', RESERVATIONS, queue_id)
  if not expires_at then
    return nil
  end
  local instance, tally, used = unpack(redis.call('HMGET', RESERVATION .. queue_id, 'instance', 'tally', 'used'))
  if not used or tonumber(expires_at) < tonumber(now) then
    give_back(queue_id)
    return nil
  end
  return {instance = instance, tally = tally, used = cmsgpack.unpack(used)}
end

local function reserve(message, call)
  local queue_id, instance, tally = message.queue_id, message.instance, message.tally
  local before = reserved(queue_id, call.now)
  if before then
    if before.tally == tally.name and (instance == cjson.null or instance == before.instance) then
      return before.used
    end
    give_back(queue_id)
  end
  local used = count(tally)
  redis.call('HSET', RESERVATION .. queue_id, 'instance', instance == cjson.null and '' or instance, 'tally', tally.name,
    'used', cmsgpack.pack(used), 'counted', cmsgpack.pack(tally.entries))
  redis.call('EXPIRE', RESERVATION .. queue_id, call.ttl)
  redis.call('ZADD', RESERVATIONS, call.expires_at, queue_id)
  redis.call('EXPIRE', RESERVATIONS, call.ttl)
  return used
end

function calls.reserve(call)
  lapse(call.now)
  local answers = {}
  for i, message in ipairs(call.messages) do
    answers[i] = reserve(message, call)
  end
  return answers
end

function calls.commit(call)
  lapse(call.now)
  local before = reserved(call.queue_id, call.now)
  if before and before.tally == call.tally.name then
    redis.call('DEL', RESERVATION .. call.queue_id)
    redis.call('ZREM', RESERVATIONS, call.queue_id)
    return before.used
  end
  if before then
    give_back(call.queue_id)
  end
  return count(call.tally)
end

function calls.cancel(call)
  give_back(call.queue_id)
end

function calls.count(call)
  lapse(call.now)
  return count(call.tally)
end

function calls.used(call)
  lapse(call.now)
  return sums(call.windows)
end

-- Returns what was held before something was counted under a name that is not yet forgotten, and the tally's name.
local function counted_once(call)
  local noted = redis.call('GET', ONCE .. call.name)
  if noted then
    local expires_at, used, tally = unpack(cmsgpack.unpack(noted))
    if tonumber(expires_at) > tonumber(call.now) then
      return used, tally
    end
  end
end

local function note_once(call, used, tally)
  redis.call('SET', ONCE .. call.name, cmsgpack.pack({call.expires_at, used, tally}), 'EX', call.ttl)
end

-- Returns what the windows hold now, without a tally that was counted already.
local function used_by_others(tally)
  local used = sums(tally.windows)
  for i, window in ipairs(tally.windows) do
    for _, key in ipairs(window[1]) do
      for _, entry in ipairs(tally.entries) do
        if entry[1] == key then
          used[i] = used[i] - entry[3]
        end
      end
    end
    used[i] = math.max(0, used[i])
  end
  return used
end

function calls.count_once(call)
  lapse(call.now)
  local used, tally = counted_once(call)
  if not used then
    used = count(call.tally)
    note_once(call, used, call.tally.name)
  elseif tally ~= call.tally.name then
    used = used_by_others(call.tally)
  end
  return used
end

function calls.first_time(call)
  if counted_once(call) then
    return 0
  end
  note_once(call, {}, '')
  return 1
end

function calls.see(call)
  local key, new = SEEN .. call.name, 0
  forget_up_to(key, call.now)
  for _, member in ipairs(call.members) do
    local is_known = is_kept(key, member, call.now)
    if not is_known then
      new = new + 1
    end
    if call.renew or not is_known then
      redis.call('ZADD', key, call.expires_at, member)
    end
  end
  keep(key, call.ttl)
  return new
end

function calls.use_ticket(call)
  local key = TICKET .. call.ticket_id
  forget_up_to(key, call.now)
  if is_kept(key, call.queue_id, call.now) then
    return 1
  end
  if redis.call('ZCARD', key) >= call.most_uses then
    return 0
  end
  redis.call('ZADD', key, call.expires_at, call.queue_id)
  keep(key, call.ttl)
  return 1
end

-- ---- restricted accounts

-- Notes when the restriction that is written now ends, in the place of one that has not ended yet.
local function note_ending(call, field, at)
  local key = ENDINGS .. field
  redis.call('ZREMRANGEBYSCORE', key, '(' .. call.now, '+inf')
  redis.call('ZREMRANGEBYSCORE', key, '-inf', call.forgotten)
  if at ~= cjson.null then
    redis.call('ZADD', key, at, at)
    keep(key, call.endings_ttl)
  end
end

function calls.restrict(call)
  local ended = forget_up_to(RESTRICTIONS_ENDING, call.now)
  if #ended > 0 then
    redis.call('HDEL', RESTRICTIONS, unpack(ended))
  end
  if not call.by_hand and redis.call('EXISTS', RELEASED .. call.day_and_account) == 1 then
    return false
  end
  local standing = redis.call('HGET', RESTRICTIONS, call.field)
  if standing then
    local until_ = cjson.decode(standing)['until']
    local is_in_effect = until_ == cjson.null or until_ > tonumber(call.now)
    if is_in_effect and (until_ == cjson.null or call.ends_at ~= cjson.null) then
      return standing
    end
  end
  redis.call('HSET', RESTRICTIONS, call.field, call.row)
  if call.ends_at == cjson.null then
    redis.call('ZREM', RESTRICTIONS_ENDING, call.field)
  else
    redis.call('ZADD', RESTRICTIONS_ENDING, call.ends_at, call.field)
  end
  note_ending(call, call.field, call.ends_at)
  return call.row
end

function calls.release(call)
  local rows = {}
  for _, field in ipairs(call.fields) do
    local row = redis.call('HGET', RESTRICTIONS, field)
    if row then
      table.insert(rows, row)
    end
  end
  redis.call('SET', RELEASED .. call.day_and_account, '1', 'EX', call.released_ttl)
  redis.call('HDEL', RESTRICTIONS, unpack(call.fields))
  redis.call('ZREM', RESTRICTIONS_ENDING, unpack(call.fields))
  for i, field in ipairs(call.fields) do
    -- The first one stands for all ways of sending.
    note_ending(call, field, i == 1 and call.now or cjson.null)
  end
  return rows
end

-- Returns the last ending of each field that has one.
function calls.last_endings(call)
  local found = {}
  for _, field in ipairs(call.fields) do
    local times = redis.call('ZREVRANGEBYSCORE', ENDINGS .. field, call.now, '(' .. call.forgotten, 'LIMIT', 0, 1)
    table.insert(found, times[1])
  end
  return found
end

-- ---- the outbox

function calls.post(call)
  if counted_once(call) then
    return 0
  end
  note_once(call, {}, '')
  for _, notice in ipairs(call.notices) do
    -- Notices that are due at the same time are taken in the order of their ids, as texts.
    local id = string.format('%016d', redis.call('INCR', LAST_NOTICE))
    redis.call('HSET', NOTICE .. id, 'channel', notice[1], 'payload', notice[2], 'attempts', 0)
    redis.call('EXPIRE', NOTICE .. id, call.notice_ttl)
    redis.call('ZADD', NOTICES, call.now, id)
  end
  return 1
end

function calls.claim(call)
  local claimed = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', NOTICES, '-inf', call.now, 'LIMIT', 0, call.most)) do
    local channel, payload, attempts = unpack(redis.call('HMGET', NOTICE .. id, 'channel', 'payload', 'attempts'))
    if channel then
      redis.call('HINCRBY', NOTICE .. id, 'attempts', 1)
      redis.call('ZADD', NOTICES, call.leased_until, id)
      table.insert(claimed, {id, channel, payload, tonumber(attempts)})
    else
      redis.call('ZREM', NOTICES, id)
    end
  end
  return claimed
end

function calls.settle(call)
  redis.call('ZREM', NOTICES, call.id)
  redis.call('DEL', NOTICE .. call.id)
end

function calls.postpone(call)
  redis.call('ZADD', NOTICES, 'XX', call.due_at, call.id)
end
