-- Requests for the ids of a file, one after the other; the summary as one line of JSON.
-- Environment: PERF_IDS (file: a line is an id, and may have a space and a token of its own),
-- PERF_PATH ("/post/%s"), PERF_TOKEN, PERF_DELAY_MS,
-- PERF_HEADER ("Name: value", may be empty), PERF_METHOD ("GET") and PERF_BODY (JSON, may be missing).
local requests, at, delay_ms = {}, 0, tonumber(os.getenv("PERF_DELAY_MS") or "0")
local threads = 0

function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(arguments)
  local headers = { ["Authorization"] = "Bearer " .. os.getenv("PERF_TOKEN") }
  local name, value = string.match(os.getenv("PERF_HEADER") or "", "^([^:]+): (.*)$")
  if name then headers[name] = value end
  local path, method, body = os.getenv("PERF_PATH"), os.getenv("PERF_METHOD") or "GET", os.getenv("PERF_BODY")
  if body then headers["Content-Type"] = "application/json" end
  for line in io.lines(os.getenv("PERF_IDS")) do
    local what, token = string.match(line, "^(%S+) ?(%S*)$")
    if token ~= "" then headers["Authorization"] = "Bearer " .. token end
    requests[#requests + 1] = wrk.format(method, string.format(path, what), headers, body)
  end
  at = id * 37
end

function request()
  at = at % #requests + 1
  return requests[at]
end

if delay_ms > 0 then
  function delay()
    return math.random(0, 2 * delay_ms)
  end
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, ' ..
    '"p999_ms": %f, "max_ms": %f, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3, latency.max / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
