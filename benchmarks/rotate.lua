-- POST prepared bodies in turn and, at the end, print what happened as one line of JSON.
-- Arguments: the file of bodies (each led by a line with its length), then headers as "Name: value".

local requests, next_request = {}, 0

function init(args)
  local headers = {}
  for place = 2, #args do
    local name, value = args[place]:match("^(.-): (.*)$")
    headers[name] = value
  end
  local file = assert(io.open(args[1], "rb"))
  for line in function() return file:read("*l") end do
    requests[#requests + 1] = wrk.format("POST", nil, headers, file:read(tonumber(line)))
  end
  file:close()
end

function request()
  next_request = next_request % #requests + 1
  return requests[next_request]
end

function done(summary, latency, _)
  local errors = summary.errors
  print(string.format(
    '\n{"answers":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50_ms":%.3f,"p95_ms":%.3f,"p99_ms":%.3f,"worst_ms":%.3f}',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
