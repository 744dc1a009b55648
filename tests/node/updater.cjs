// A program that keeps a catalogue's statuses true, in the calls that such programs make: sign in, read every page of what
// is not archived, find a listing by its link, write down what a check found, archive what has long been offline.
//
// `updater.cjs ADDRESS` with {"email", "password", "live": [links], "archive": [links], "missing": {a new listing}} on
// standard input. Prints what it read and did, as JSON.

const { readFileSync } = require("node:fs")

const address = process.argv[2]
const given = JSON.parse(readFileSync(0))

class Catalogue {
  constructor() {
    this.token = null
    this.delayMs = 100
    this.signIns = 0
  }

  async signIn() {
    this.signIns += 1
    const response = await fetch(`${address}/api/v1/users/login`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ email: given.email, password: given.password }),
    })
    const data = await response.json()
    if (!response.ok) throw new Error(data.error)
    this.token = data.token
  }

  async request(path, options = {}, again = true) {
    const response = await fetch(`${address}/api/v1${path}`, {
      ...options,
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${this.token}` },
    })
    if (response.status === 401 && again) {
      await this.signIn()
      return this.request(path, options, false)
    }
    if (response.status === 429) {
      await new Promise((resolve) => setTimeout(resolve, this.delayMs))
      this.delayMs *= 2
      return this.request(path, options, again)
    }
    const data = await response.json()
    if (!response.ok) throw new Error(data.error)
    return data
  }

  async all() {
    const streams = []
    for (let page = 1, pages = 1; page <= pages; page++) {
      const data = await this.request(`/streams?page=${page}&per_page=100&is_archived=false`)
      streams.push(...data.streams)
      pages = data.meta.total_pages
    }
    return streams
  }

  async byLink(link) {
    const data = await this.request(`/streams?${new URLSearchParams({ link, per_page: 1 })}`)
    return data.streams[0] ?? null
  }

  change(id, fields) {
    return this.request(`/streams/${id}`, { method: "PATCH", body: JSON.stringify(fields) })
  }
}

async function main() {
  const catalogue = new Catalogue()
  catalogue.token = "of.last.week"
  const streams = await catalogue.all()

  const checked = []
  for (const stream of streams) {
    if (!["TikTok", "Twitch", "YouTube"].includes(stream.platform)) continue
    const now = new Date().toISOString()
    const fields = { status: "offline", last_checked_at: now }
    if (given.live.includes(stream.link)) Object.assign(fields, { status: "live", last_live_at: now })
    const after = await catalogue.change(stream.id, fields)
    checked.push({ ...after, wrote: fields })
  }

  const archived = []
  for (const link of given.archive) {
    const stream = await catalogue.byLink(link)
    if (stream.link !== link) throw new Error(`asked for ${link}, got ${stream.link}`)
    if (stream.status !== "live") archived.push(await catalogue.change(stream.id, { is_archived: true }))
  }

  let created = null
  if ((await catalogue.byLink(given.missing.link)) === null) {
    created = await catalogue.request("/streams", { method: "POST", body: JSON.stringify(given.missing) })
  }
  const left = (await catalogue.all()).map((stream) => stream.link)
  console.log(JSON.stringify({ signIns: catalogue.signIns, streams, checked, archived, created, left }))
}

main().catch((error) => { console.error(error); process.exit(1) })
