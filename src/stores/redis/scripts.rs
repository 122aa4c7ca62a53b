//! The scripts, in Lua. Each runs alone in the server, from its first look to its last write.

/// What is compared, then what is read, then what is set, each behind its number, then what is deleted.
/// All fields are set by one command, so a server whose memory is full refuses all or none.
pub(super) const COMPARE_AND_SET: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then return {'gone', {}} end
local at = 2
for _ = 1, tonumber(ARGV[1]) do
    local held = redis.call('HGET', KEYS[1], ARGV[at])
    if ARGV[at + 1] == '0' then
        if held then return {'other', {}} end
    elseif held ~= ARGV[at + 2] then
        return {'other', {}}
    end
    at = at + 3
end
local reads = tonumber(ARGV[at])
local before = redis.call('HMGET', KEYS[1], unpack(ARGV, at + 1, at + reads))
at = at + reads + 1
local sets = 2 * tonumber(ARGV[at])
if sets > 0 then redis.call('HSET', KEYS[1], unpack(ARGV, at + 1, at + sets)) end
at = at + sets + 1
if at <= #ARGV then redis.call('HDEL', KEYS[1], unpack(ARGV, at, #ARGV)) end
return {'written', before}
";
/// Sets one field of a hash that is there, if it holds something else.
pub(super) const MARK: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
";
/// Makes a hash where there is no key.
pub(super) const ADD: &str = r"
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
";
