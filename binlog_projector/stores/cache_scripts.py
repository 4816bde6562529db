"""The Lua scripts that change the cache, each in one atomic step."""

from __future__ import annotations

# KEYS: watermark, keys with a value at hand, then all others of the batch. ARGV: lineage that the watermark
# must have, new watermark, number of keys with a value, then each value, its TTL, and 1 if it is stored even
# without an entry, a channel, and the messages to publish there. allow-oom: the watermark must move even when
# memory is full.
# A present entry is replaced, or deleted if it looks newer than the value. None is left alone: an entry
# filled ahead of the watermark may come from a history that MongoDB has lost (restored from a backup).
# Most keys are neither present nor have a value. A DEL of many such keys costs Redis next to nothing.
# DEL and SET: two writes make every APPLY a transaction in Redis' append-only file. Redis 8.0 drops
# transactions when it loads that file and the default user may do nothing (redis/redis#14541). The watermark
# must go with the entries.
# Publishing may be refused to the account: pcall, because an error would leave an APPLY that is half done.
APPLY = """#!lua flags=allow-oom
local current = redis.call('GET', KEYS[1]) or ''
if string.sub(current, 1, #ARGV[1]) ~= ARGV[1] then return {current} end
local valued, updated, deleted = tonumber(ARGV[3]), 0, 0
for i = 1, valued do
  local key, value, ttl = KEYS[i + 1], ARGV[3 * i + 1], ARGV[3 * i + 2]
  local head = redis.call('GETRANGE', key, 0, 16)
  if head ~= '' or ARGV[3 * i + 3] == '1' then
    local newer = string.sub(head, 1, 1) ~= 'L' and string.sub(head, 2, 17) > string.sub(value, 2, 17)
    local stored = not newer and redis.pcall('SET', key, value, 'PX', ttl)
    if stored and not stored.err then
      updated = updated + 1
    else
      deleted = deleted + redis.call('DEL', key)
    end
  end
end
for i = valued + 2, #KEYS, 1000 do
  deleted = deleted + redis.call('DEL', unpack(KEYS, i, math.min(i + 999, #KEYS)))
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[2])
local failure = ''
for i = 3 * valued + 5, #ARGV do
  local published = redis.pcall('SPUBLISH', ARGV[3 * valued + 4], ARGV[i])
  if type(published) == 'table' and published.err then failure = published.err end
end
return {'', updated, deleted, #KEYS - 1 - updated - deleted, failure}
"""


# Places (from one) of the keys that are present. The script changes nothing, so keys may be asked in parts.
PRESENT = """#!lua flags=no-writes
local present = {}
for i = 1, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then present[#present + 1] = i end
end
return present
"""


# Compare-and-set of the whole watermark; the expected one is empty if there must be none.
SET_WATERMARK = """#!lua flags=allow-oom
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


# Whether the account that runs this may publish on the channel. Nothing is published.
MAY_PUBLISH = "#!lua flags=no-writes\nreturn redis.acl_check_cmd('SPUBLISH', ARGV[1], '')"
