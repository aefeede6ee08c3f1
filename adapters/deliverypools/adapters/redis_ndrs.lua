-- The events that surges are made of, after redis_state.lua.

local NDRS = PREFIX .. 'ndrs'                             -- hash: event -> row
local NDRS_BY_TIME = PREFIX .. 'ndrs-by-time'             -- sorted set: events, by time

local function forget_ndrs(ids)
  if #ids > 0 then
    redis.call('HDEL', NDRS, unpack(ids))
    redis.call('ZREM', NDRS_BY_TIME, unpack(ids))
  end
end

function calls.note_ndr(call)
  if redis.call('HSETNX', NDRS, call.id, call.row) == 0 then
    return
  end
  redis.call('ZADD', NDRS_BY_TIME, call.at, call.id)
  keep(NDRS, call.ttl)
  keep(NDRS_BY_TIME, call.ttl)
  forget_ndrs(redis.call('ZRANGEBYSCORE', NDRS_BY_TIME, '-inf', call.expired_at, 'LIMIT', 0, MOST_FORGOTTEN))
  local excess = redis.call('ZCARD', NDRS_BY_TIME) - call.most
  if excess > 0 then
    forget_ndrs(redis.call('ZRANGE', NDRS_BY_TIME, 0, math.min(excess, MOST_FORGOTTEN) - 1))
  end
end

function calls.ndrs(call)
  local ids = redis.call('ZREVRANGEBYSCORE', NDRS_BY_TIME, '+inf', call.since, 'LIMIT', call.first, call.most)
  return #ids > 0 and redis.call('HMGET', NDRS, unpack(ids)) or {}
end
