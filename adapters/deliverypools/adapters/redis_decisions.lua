-- The decision log, after redis_state.lua.

local DECISION = PREFIX .. 'decision:'                    -- hash: account, row, expires_at
local DECISIONS_OF = PREFIX .. 'decisions-of:'            -- sorted set: decisions of an account, by time
-- PREFIX .. 'sent:' and 'not-sent:'                        -- sorted set: decisions about what has this Message-ID, by time
local HOSTS = PREFIX .. 'hosts'                           -- sorted set: host, by when it is forgotten
local LOG_TIMES = PREFIX .. 'log-times'                   -- hash: how long rows are kept -> when the last was written

-- Does what log_times.noted does.
local function note_time(call)
  local last_at = redis.call('HGET', LOG_TIMES, call.kept)
  if last_at and tonumber(last_at) >= tonumber(call.at) then
    return
  end
  redis.call('HSETNX', LOG_TIMES, call.beginning, call.at)
  redis.call('HSET', LOG_TIMES, call.kept, call.noted_until)
  keep(LOG_TIMES, call.ttl)
  if redis.call('HLEN', LOG_TIMES) <= call.most_times then
    return
  end
  local times, forgotten = redis.call('HGETALL', LOG_TIMES), nil
  for i = 1, #times, 2 do
    if times[i] ~= call.beginning and times[i] ~= call.kept
      and (not forgotten or tonumber(times[i + 1]) < tonumber(times[forgotten + 1])) then
      forgotten = i
    end
  end
  if tonumber(times[forgotten + 1]) > tonumber(redis.call('HGET', LOG_TIMES, call.beginning)) then
    redis.call('HSET', LOG_TIMES, call.beginning, times[forgotten + 1])
  end
  redis.call('HDEL', LOG_TIMES, times[forgotten])
end

function calls.record(call)
  local key = DECISION .. call.id
  local account = redis.call('HGET', key, 'account')
  if account and account ~= call.account then
    redis.call('ZREM', DECISIONS_OF .. account, call.id)
  end
  redis.call('HSET', key, 'account', call.account, 'row', call.row, 'expires_at', call.expires_at)
  redis.call('EXPIRE', key, call.ttl)
  note_time(call)
  if call.named ~= cjson.null then
    local named = PREFIX .. call.named
    redis.call('ZADD', named, call.at, call.id)
    redis.call('ZREMRANGEBYRANK', named, 0, -call.most_named - 1)
    keep(named, call.ttl)
  end
  forget_up_to(HOSTS, call.now)
  if tonumber(redis.call('ZSCORE', HOSTS, call.host) or 0) < tonumber(call.expires_at) then
    redis.call('ZADD', HOSTS, call.expires_at, call.host)
  end
  keep(HOSTS, call.ttl)
  if call.account == '' then
    return
  end
  local of = DECISIONS_OF .. call.account
  forget_up_to(of, call.expired_at)
  redis.call('ZADD', of, call.at, call.id)
  keep(of, call.ttl)
end

local function kept_row(id, now)
  local row, expires_at = unpack(redis.call('HMGET', DECISION .. id, 'row', 'expires_at'))
  return row and tonumber(expires_at) > tonumber(now) and row or false
end

function calls.record_of(call)
  return kept_row(call.id, call.now)
end

function calls.records_of(call)
  local rows = {}
  for i, id in ipairs(redis.call('ZREVRANGE', DECISIONS_OF .. call.account, call.first, call.last)) do
    rows[i] = kept_row(id, call.now)
  end
  return rows
end

-- Returns hosts that have written rows, those with the newest first.
function calls.hosts(call)
  return redis.call('ZREVRANGEBYSCORE', HOSTS, '+inf', '(' .. call.now, 'LIMIT', 0, call.most)
end

-- Returns the rows that Message-IDs lead to, and those of queue files.
function calls.named(call)
  local by_name, by_id = {}, {}
  for _, name in ipairs(call.names) do
    for _, id in ipairs(redis.call('ZRANGE', PREFIX .. name, 0, -1)) do
      table.insert(by_name, kept_row(id, call.now) or nil)
    end
  end
  for _, id in ipairs(call.ids) do
    table.insert(by_id, kept_row(id, call.now) or nil)
  end
  return {by_name, by_id}
end
