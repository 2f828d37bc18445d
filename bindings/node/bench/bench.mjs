// Measures the clients of Node for `make bench-bindings`: one line of JSON a cell. Each cell is a
// closed loop of so many callers for some seconds, after a warm-up of a fifth of it. `memory` is what
// the process holds while so many operations are done (`make bench-memory`, with --expose-gc).

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { parseArgs } from 'node:util'

const { values: options, positionals: clients } = parseArgs({
  allowPositionals: true,
  options: {
    profile: { type: 'string' },
    redis: { type: 'string' },
    ca: { type: 'string' },
    seconds: { type: 'string', default: '5' },
    operations: { type: 'string', default: '2000000' },
  },
})
const seconds = Number(options.seconds)
const value = Buffer.alloc(100, 'x')
const key = (number) => `bench/${number % 10_000}`
const many = (number) => Array.from({ length: 100 }, (_, at) => key(number * 100 + at))

async function loop(cell, callers, call, each = 1) {
  let measured
  for (const limit of [seconds / 5, seconds]) {
    let calls = 0
    const [began, cpu] = [performance.now(), process.cpuUsage()]
    const until = began + limit * 1000
    const caller = async (first) => {
      for (let number = first; performance.now() < until; number += callers) {
        await call(number)
        calls += each
      }
    }
    await Promise.all(Array.from({ length: callers }, (_, first) => caller(first)))
    const used = process.cpuUsage(cpu)
    const spent = (performance.now() - began) / 1000
    measured = { cell, rate: calls / spent, cpu_us: (used.user + used.system) / calls }
  }
  console.log(JSON.stringify(measured))
}

const run = {
  async annulet() {
    const { connect } = await import('annulet')
    const client = await connect({ profile: options.profile })
    const bucket = client.bucket('async')
    await bucket.multiPut(Array.from({ length: 10_000 }, (_, number) => [key(number), value]))
    await loop('annulet get', 256, (n) => bucket.get(key(n), { level: 'one' }))
    await loop('annulet put', 256, (n) => bucket.put(key(n), value))
    await loop('annulet multiGet', 4, (n) => bucket.multiGet(many(n), { level: 'one' }), 100)
    await client.close()
  },
  async memory() {
    const { connect } = await import('annulet')
    const client = await connect({ profile: options.profile })
    const bucket = client.bucket('async')
    const resident = []
    // Ten parts, of which the first warms up.
    for (let part = 0; part < 10; part++) {
      const caller = async (first) => {
        for (let number = first; number < Number(options.operations) / 20; number += 256) {
          await bucket.put(key(number), value)
          await bucket.get(key(number + part))
        }
      }
      await Promise.all(Array.from({ length: 256 }, (_, first) => caller(first)))
      globalThis.gc()
      resident.push(Math.round(process.memoryUsage.rss() / 1e5) / 10)
    }
    console.log(JSON.stringify({ cell: 'memory', resident_mb: resident }))
    await client.close()
  },
  async glide() {
    const { GlideClient } = createRequire(import.meta.url)('@valkey/valkey-glide')
    const client = await GlideClient.createClient({
      addresses: [{ host: '127.0.0.1', port: Number(options.redis) }],
      useTLS: true,
      requestTimeout: 10_000,
      advancedConfiguration: { tlsAdvancedConfiguration: { rootCertificates: readFileSync(options.ca) } },
    })
    for (let number = 0; number < 10_000; number++) await client.set(key(number), value)
    await loop('glide get', 256, (n) => client.get(key(n)))
    await loop('glide put', 256, (n) => client.set(key(n), value))
    client.close()
  },
  async ioredis() {
    const { Redis } = createRequire(import.meta.url)('ioredis')
    const tls = { ca: readFileSync(options.ca), servername: '127.0.0.1', checkServerIdentity: () => undefined }
    const client = new Redis({ host: '127.0.0.1', port: Number(options.redis), tls })
    await loop('ioredis get', 256, (n) => client.getBuffer(key(n)))
    await loop('ioredis put', 256, (n) => client.set(key(n), value))
    await loop('ioredis mget', 4, (n) => client.mgetBuffer(many(n)), 100)
    await client.quit()
  },
}

for (const client of clients) await run[client]()
