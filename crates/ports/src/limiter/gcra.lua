-- GCRA in nanoseconds by the clock of Redis.
-- KEYS[1]: the theoretical arrival time, as whole seconds, a dot and nanoseconds: one number would not fit a double.
-- ARGV: the nanoseconds that one takes to become free again, the burst, the cost (at most the burst).
-- Answers {1 if allowed, how many more may come at once, milliseconds until this may come}.
local period, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now_s, now_ns = tonumber(time[1]), tonumber(time[2]) * 1000
local window = period * burst

local ahead = 0
local s, ns = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+)%.(%d+)$')
if s then
  ahead = math.max((tonumber(s) - now_s) * 1e9 + (tonumber(ns) - now_ns), 0)
end
-- Beyond the window is only what another clock or another limit has left; it would lock the caller out.
local strange = ahead > window
ahead = math.min(ahead, window)

local after = ahead + period * cost
local allowed = after <= window
if allowed then
  ahead = after
end
if allowed or strange then
  local at = now_ns + ahead
  local arrival = string.format('%d.%d', now_s + math.floor(at / 1e9), at % 1e9)
  redis.call('SET', KEYS[1], arrival, 'PX', string.format('%d', math.ceil(ahead / 1e6)))
end
if not allowed then
  return {0, 0, math.ceil((after - window) / 1e6)}
end
return {1, math.floor((window - after) / period), 0}
