-- GCRA in nanoseconds by the clock of Redis, for any number of callers in their order.
-- KEYS[i]: the theoretical arrival time, as whole seconds, a dot and nanoseconds: one number would not fit a double.
-- ARGV, three for each key: the nanoseconds that one takes to become free again, the burst, the cost (at most the burst).
-- Answers three for each key: 1 if allowed, how many more may come at once, milliseconds until this may come.
local time = redis.call('TIME')
local now_s, now_ns = tonumber(time[1]), tonumber(time[2]) * 1000
-- What stands under each key, read once, and which of it is to be written.
local aheads, changed = {}, {}
local answers = {}

for i, key in ipairs(KEYS) do
  local period, burst, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local window = period * burst
  local ahead = aheads[key]
  if not ahead then
    ahead = 0
    local s, ns = string.match(redis.call('GET', key) or '', '^(%d+)%.(%d+)$')
    if s then
      ahead = math.max((tonumber(s) - now_s) * 1e9 + (tonumber(ns) - now_ns), 0)
    end
  end
  -- Beyond the window is only what another clock or another limit has left; it would lock the caller out.
  if ahead > window then
    ahead, changed[key] = window, true
  end
  local after = ahead + period * cost
  local allowed = after <= window
  if allowed then
    ahead, changed[key] = after, true
  end
  aheads[key] = ahead
  answers[3 * i - 2] = allowed and 1 or 0
  answers[3 * i - 1] = allowed and math.floor((window - after) / period) or 0
  answers[3 * i] = allowed and 0 or math.ceil((after - window) / 1e6)
end

for key in pairs(changed) do
  local at = now_ns + aheads[key]
  local arrival = string.format('%d.%d', now_s + math.floor(at / 1e9), at % 1e9)
  redis.call('SET', key, arrival, 'PX', string.format('%d', math.ceil(aheads[key] / 1e6)))
end
return answers
