// A program that posts links it sees in chats, in the calls that such programs make: sign in, learn every link that is
// known, post each new one once.
//
// `monitor.cjs ADDRESS` with {"email", "password", "seen": [{"link", "source", "platform", "city", "state"}]} on standard
// input. Prints what it knew and what it made, as JSON.

const { readFileSync } = require("node:fs")

const address = process.argv[2]
const given = JSON.parse(readFileSync(0))

async function call(method, path, token, body) {
  const response = await fetch(`${address}/api/v1${path}`, {
    method,
    headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) },
    body: body && JSON.stringify(body),
  })
  const data = await response.json()
  if (!response.ok) throw new Error(`${method} ${path}: ${data.error}`)
  return data
}

async function main() {
  const { token } = await call("POST", "/users/login", null, { email: given.email, password: given.password })
  const known = new Set()
  for (let page = 1; ; page++) {
    const { streams, meta } = await call("GET", `/streams?page=${page}&per_page=100`, token)
    for (const stream of streams) known.add(stream.link)
    if (page >= meta.total_pages) break
  }
  const before = [...known]
  const made = []
  for (const seen of given.seen) {
    if (known.has(seen.link)) continue
    known.add(seen.link)
    const response = await call("POST", "/streams", token, {
      source: seen.source,
      link: seen.link,
      status: "offline",
      platform: seen.platform,
      city: seen.city,
      state: seen.state,
      notes: [],
      postedBy: "somebody in a chat",
    })
    made.push({ id: response.id, platform: response.platform, posted_by: response.posted_by, notes: response.notes })
  }
  const { streams: found } = await call("GET", `/streams?${new URLSearchParams({ search: given.seen[0].link, per_page: 1 })}`, token)
  const cities = await call("GET", "/locations/known_cities", token)
  console.log(JSON.stringify({ before, made, found: found.map((stream) => stream.link), cities }))
}

main().catch((error) => { console.error(error); process.exit(1) })
