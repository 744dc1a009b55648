// The reference client of ActionCable at a shared sheet: `cable.cjs ADDRESS` with {"ada", "bob", "expired", "stream"} on
// standard input. Prints what each of them was told, as JSON.

const { readFileSync } = require("node:fs")

// What the client finds in every browser.
globalThis.addEventListener = globalThis.removeEventListener = () => {}
globalThis.document = { visibilityState: "visible" }

const { createConsumer } = require("@rails/actioncable")

const WAIT_MS = 15_000
const address = process.argv[2]
const given = JSON.parse(readFileSync(0))

class Person {
  constructor(token) {
    this.told = []
    this.states = []
    this.waiting = []
    this.consumer = createConsumer(`${address}?token=${token}`)
    this.sheet = this.consumer.subscriptions.create("CollaborativeStreamsChannel", {
      connected: () => this.note(this.states, "connected"),
      disconnected: () => this.note(this.states, "disconnected"),
      rejected: () => this.note(this.states, "rejected"),
      received: (message) => this.note(this.told, message),
    })
  }

  note(list, entry) {
    list.push(entry)
    for (const look of [...this.waiting]) look()
  }

  until(what, fits) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`no ${what}; told ${JSON.stringify(this.told)}`)), WAIT_MS)
      const again = setInterval(() => look(), 20)
      const look = () => {
        if (!fits()) return
        clearTimeout(late)
        clearInterval(again)
        this.waiting = this.waiting.filter((other) => other !== look)
        resolve()
      }
      this.waiting.push(look)
      look()
    })
  }

  is(state) {
    return this.until(state, () => this.states.includes(state))
  }

  hears(action, cell) {
    return this.until(action, () => this.told.some((message) => message.action === action && (!cell || message.cell_id === cell)))
  }

  refused() {
    return this.until("error", () => this.told.some((message) => "error" in message))
  }
}

async function main() {
  const [title, city] = [`stream_${given.stream}_title`, `stream_${given.stream}_city`]
  const ada = new Person(given.ada)
  await ada.is("connected")
  const bob = new Person(given.bob)
  await bob.is("connected")
  await ada.until("two people", () => ada.told.some((message) => message.users?.length === 2))

  ada.sheet.perform("lock_cell", { cell_id: title })
  await bob.hears("cell_locked", title)
  bob.sheet.perform("lock_cell", { cell_id: title })
  await bob.refused()

  ada.sheet.perform("update_cell", { cell_id: title, stream_id: given.stream, field: "title", value: "By hand" })
  await bob.hears("cell_updated", title)
  await bob.hears("cell_unlocked", title)

  bob.sheet.perform("lock_cell", { cell_id: city })
  await ada.hears("cell_locked", city)
  bob.consumer.disconnect()
  await ada.hears("cell_unlocked", city)
  await ada.hears("user_left")

  const late = new Person(given.expired)
  const monitor = late.consumer.connection.monitor
  await late.until("end", () => monitor.stoppedAt)
  ada.consumer.disconnect()
  console.log(JSON.stringify({ ada: ada.told, bob: bob.told, late: late.told, retries: monitor.isRunning() }))
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1) })
