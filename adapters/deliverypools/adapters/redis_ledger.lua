-- The drop ledger, after redis_state.lua.

local DROPPED = PREFIX .. 'dropped'                       -- hash: entry -> row
local DROPPED_BY_TIME = PREFIX .. 'dropped-by-time'       -- sorted set: entries, by time
local DROPPED_ENDING = PREFIX .. 'dropped-ending'         -- sorted set: entries, by when they are forgotten

local function forget_dropped(ids)
  if #ids > 0 then
    redis.call('HDEL', DROPPED, unpack(ids))
    redis.call('ZREM', DROPPED_BY_TIME, unpack(ids))
    redis.call('ZREM', DROPPED_ENDING, unpack(ids))
  end
  return #ids
end

local function forget_expired(now)
  return forget_dropped(redis.call('ZRANGEBYSCORE', DROPPED_ENDING, '-inf', now, 'LIMIT', 0, MOST_FORGOTTEN))
end

function calls.drop(call)
  redis.call('HSET', DROPPED, call.id, call.row)
  redis.call('ZADD', DROPPED_BY_TIME, call.at, call.id)
  redis.call('ZADD', DROPPED_ENDING, call.expires_at, call.id)
  for _, key in ipairs({DROPPED, DROPPED_BY_TIME, DROPPED_ENDING}) do
    keep(key, call.ttl)
  end
  forget_expired(call.now)
  local excess = redis.call('ZCARD', DROPPED_BY_TIME) - call.most
  if excess > 0 then
    forget_dropped(redis.call('ZRANGE', DROPPED_BY_TIME, 0, math.min(excess, MOST_FORGOTTEN) - 1))
  end
end

-- Returns how many were forgotten.
function calls.forget_dropped(call)
  return forget_expired(call.now)
end

function calls.dropped(call)
  local ids = redis.call('ZREVRANGEBYSCORE', DROPPED_BY_TIME, call.before, call.since, 'LIMIT', call.first, call.most)
  return #ids > 0 and redis.call('HMGET', DROPPED, unpack(ids)) or {}
end

function calls.count_dropped(call)
  return redis.call('ZCOUNT', DROPPED_BY_TIME, call.since, call.before)
end
