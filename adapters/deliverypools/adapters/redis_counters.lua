-- Counters: one hash for each stream, bucket -> amount, and "h" and a number -> what sixty buckets hold together: a day of
-- minutes is summed up from some 140 fields instead of 1,440. Buckets and times come with the call, from the caller's
-- clock. An entry is {key, bucket, amount, buckets kept, seconds until the server may drop the key}; a window is {keys,
-- first bucket, last bucket}.

local calls = {}

-- Buckets so far ahead were written by a clock that was wrong, not by another host's that is a little ahead.
local AHEAD = 60
-- Old buckets are dropped when there are so many more than needed: now and then, not with every message.
local SPARE = 64

-- Streams that this call has read: most windows of a message are of the same few, and so are messages of one account.
local streams = {}
-- Those that were read as a whole, because they are short.
local is_whole = {}

local TOGETHER = 60
local FEW = 128

local function name_of_sixty(bucket)
  return 'h' .. math.floor(bucket / TOGETHER)
end

local names_known = {}

-- Returns the fields that hold what was counted from one bucket to another.
local function names_between(first, last)
  local range = first .. '-' .. last
  if not names_known[range] then
    local names, bucket = {}, first
    while bucket <= last do
      if bucket % TOGETHER == 0 and bucket + TOGETHER - 1 <= last then
        table.insert(names, name_of_sixty(bucket))
        bucket = bucket + TOGETHER
      else
        table.insert(names, tostring(bucket))
        bucket = bucket + 1
      end
    end
    names_known[range] = names
  end
  return names_known[range]
end

local function begin_reading(key)
  streams[key] = {}
  if redis.call('HLEN', key) <= FEW then
    local fields = redis.call('HGETALL', key)
    for i = 1, #fields, 2 do
      streams[key][fields[i]] = tonumber(fields[i + 1])
    end
    is_whole[key] = true
  end
end

local function read(key, names)
  if not streams[key] then
    begin_reading(key)
  end
  local known, missing = streams[key], {}
  for _, name in ipairs(is_whole[key] and {} or names) do
    if not known[name] then
      table.insert(missing, name)
    end
  end
  if #missing > 0 then
    for i, amount in ipairs(redis.call('HMGET', key, unpack(missing))) do
      known[missing[i]] = tonumber(amount or 0)
    end
  end
  return known
end

local function held(window)
  local keys, first, last = unpack(window)
  local names, total = names_between(first, last), 0
  for _, key in ipairs(keys) do
    local known = read(key, names)
    for _, name in ipairs(names) do
      total = total + (known[name] or 0)
    end
  end
  return total
end

local function oldest(window)
  local keys, first, last = unpack(window)
  local found = nil
  for _, key in ipairs(keys) do
    for _, field in ipairs(redis.call('HKEYS', key)) do
      local bucket = tonumber(field)
      if bucket and first <= bucket and bucket <= last then
        found = math.min(found or bucket, bucket)
      end
    end
  end
  return found
end

local function change(key, bucket, amount)
  for _, name in ipairs({tostring(bucket), name_of_sixty(bucket)}) do
    local sum = redis.call('HINCRBY', key, name, amount)
    if sum <= 0 then
      redis.call('HDEL', key, name)
    end
    if streams[key] then
      streams[key][name] = sum
    end
  end
end

-- A bucket may have been dropped since.
local function take_back(entry)
  local key, bucket, amount = unpack(entry)
  local there = tonumber(redis.call('HGET', key, bucket) or 0)
  if there > 0 then
    change(key, bucket, -math.min(amount, there))
  end
end

local function drop_far_buckets(key, bucket, buckets)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local far = (tonumber(field) or bucket) - bucket
    if far < -buckets or far > AHEAD then
      take_back({key, tonumber(field), math.huge})
    end
  end
end

local function add(entry)
  local key, bucket, amount, buckets, ttl = unpack(entry)
  change(key, bucket, amount)
  redis.call('EXPIRE', key, ttl)
  if redis.call('HLEN', key) > buckets * (1 + 2 / TOGETHER) + AHEAD + SPARE then
    drop_far_buckets(key, bucket, buckets)
  end
end

local function sums(windows)
  local used = {}
  for i, window in ipairs(windows) do
    used[i] = held(window)
  end
  return used
end

-- Returns what the windows held before.
local function count(tally)
  local used = sums(tally.windows)
  for _, entry in ipairs(tally.entries) do
    add(entry)
  end
  return used
end

function calls.acquire(call)
  if held(call.window) + call.entry[3] > call.most then
    return 0
  end
  add(call.entry)
  return 1
end

function calls.increase(call)
  add(call.entry)
  return held(call.window)
end

function calls.window(call)
  return {held(call.window), oldest(call.window) or false}
end
