// Runs the cases that all languages have in common.

import assert from 'node:assert/strict'
import { AnnuletError, connect } from 'annulet'
import { send } from './scene.mjs'

/** Bytes as a case writes them. */
function written(value) {
  if (typeof value === 'string') return Buffer.from(value)
  if (value.hex !== undefined) return Buffer.from(value.hex, 'hex')
  return Buffer.from(value.repeat.repeat(value.times))
}

const milliseconds = (ms) => (ms === 'infinite' ? Infinity : ms)
const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase())
const sorted = (all) => [...all].sort(Buffer.compare)

function isExpected(runner, name, wanted, found) {
  if (typeof wanted === 'string' && wanted.startsWith('$')) {
    const saved = runner.saved.get(wanted.slice(1))
    return Buffer.isBuffer(saved) ? saved.equals(found) : saved === found
  }
  if (wanted === null) return found === null
  if (typeof wanted === 'boolean') {
    return (typeof found === 'boolean' ? found : found !== null) === wanted
  }
  if (Array.isArray(wanted) && Array.isArray(found)) {
    const [left, right] = [sorted(wanted.map(written)), sorted(found)]
    return left.length === right.length && left.every((one, at) => one.equals(right[at]))
  }
  if (Array.isArray(wanted)) return wanted.some((one) => isExpected(runner, name, one, found))
  if (Buffer.isBuffer(found)) return written(wanted).equals(found)
  if (name === 'says') return found.includes(wanted)
  if (typeof found === 'string') return wanted.replace('{run}', runner.run) === found
  return wanted === found
}

/** A part of what is shown, in the terms of the cases. */
function item(shown, name) {
  if (name === 'expires') return shown.expiresAtMs !== null
  if (name === 'says') return shown.message
  if (name === 'kind') return shown.code
  const part = shown[camel(name)]
  assert.notEqual(part, undefined, `there is no ${name} in ${shown}`)
  return part
}

class Runner {
  constructor(scene, run) {
    this.scene = scene
    this.run = run
    this.clients = new Map()
    this.sessions = new Map()
    this.saved = new Map()
  }

  async step(step) {
    let shown
    try {
      shown = await this.act(step)
    } catch (error) {
      if (!(error instanceof AnnuletError) || step.fails === undefined) throw error
      shown = error
    }
    if (step.fails !== undefined) this.expect({ fails: step.fails }, shown)
    else if (step.gives !== undefined) this.expect(step.gives, shown)
    else if (step.each !== undefined) {
      assert.equal(shown.length, step.each.length)
      step.each.forEach((expected, at) => this.expect(expected, shown[at]))
    }
    for (const [part, name] of Object.entries(step.save ?? {})) {
      this.saved.set(name, item(shown, part))
    }
  }

  expect(expected, shown) {
    if (expected === null || typeof expected !== 'object') {
      assert.equal(shown, expected)
      return
    }
    const fails = expected.fails !== undefined
    assert.equal(shown instanceof AnnuletError, fails, `${shown?.stack ?? shown}`)
    assert.notEqual(shown, null, `expected ${JSON.stringify(expected)}`)
    for (const [name, wanted] of Object.entries(fails ? expected.fails : expected)) {
      const found = item(shown, name)
      const about = `expected ${name} ${JSON.stringify(wanted)}, got ${String(found).slice(0, 300)}`
      assert.ok(isExpected(this, name, wanted, found), about)
    }
  }

  /** What was saved under the name that the field gives, or what the field is itself. */
  given(step, field) {
    const value = step[field]
    return value?.startsWith?.('$') ? this.saved.get(value.slice(1)) : value
  }

  name(step, field) {
    return step[field].replace('{run}', this.run)
  }

  key(step, key) {
    const bytes = written(key)
    return step.exact ? bytes : Buffer.concat([Buffer.from(`${this.run}/${this.case}/`), bytes])
  }

  /** The options of these names that the step has. */
  options(step, ...names) {
    const given = {}
    for (const name of names) {
      if (step[name] !== undefined) given[camel(name)] = milliseconds(this.given(step, name))
    }
    return given
  }

  connect(step) {
    const names = ['timeout_ms', 'level', 'zone', 'region', 'connections_max', 'idle_after_ms']
    const options = this.options(step, ...names, 'check_one_in')
    return connect({ ...options, profile: this.scene.profiles[step.profile] })
  }

  async act(step) {
    if (step.do === 'connect') {
      this.clients.set(step.client, await this.connect(step))
      return undefined
    }
    const client = this.clients.get(step.client ?? 'main')
    switch (step.do) {
      case 'close':
        return client.close()
      case 'statistics':
        return client.statistics()
      case 'signal':
        send(this.scene.servers[step.server], step.signal)
        return undefined
      case 'session':
        this.sessions.set(step.session, client.session())
        return undefined
      case 'session_from': {
        const token = this.given(step, 'token')
        this.sessions.set(step.session, client.sessionFrom(Buffer.from(token)))
        return undefined
      }
      case 'session_to_bytes':
        return { token: await this.sessions.get(step.session).toBytes() }
      case 'create_bucket':
      case 'set_bucket': {
        const names = ['mode', 'replicas', 'durability', 'read_level', 'write_level', 'ttl_ms']
        const options = this.options(step, ...names, 'merge')
        return client[camel(step.do)](this.name(step, 'name'), options)
      }
      case 'delete_bucket':
        return client.deleteBucket(this.name(step, 'name'))
      case 'buckets': {
        const all = await client.buckets()
        if (step.lists === undefined) return all
        return all.find((bucket) => bucket.name === this.name(step.lists, 'name'))
      }
      default: {
        const of = step.session === undefined ? client : this.sessions.get(step.session)
        return this.inBucket(step, of.bucket(this.name(step, 'bucket')))
      }
    }
  }

  async inBucket(step, bucket) {
    const names = ['level', 'timeout_ms', 'stale', 'ttl_ms', 'expires_at_ms', 'context']
    if (step.do === 'scan') return this.scan(step, bucket)
    const call = bucket[camel(step.do)].bind(bucket)
    const options = this.options(step, ...names)
    if (step.do === 'multi_put') {
      const entries = step.entries.map(([key, value]) => [this.key(step, key), written(value)])
      return call(entries, options)
    }
    if (step.keys !== undefined) {
      return call(
        step.keys.map((key) => this.key(step, key)),
        options,
      )
    }
    const given = [this.key(step, step.key)]
    if (step.do === 'update') {
      given.push((value) =>
        step.remove ? null : Buffer.concat([value ?? Buffer.alloc(0), Buffer.from(step.append)]),
      )
    }
    if (step.do === 'get_merged') given.push((values) => Buffer.from(values.join(step.join)))
    if (step.do === 'resolve') {
      return { resolved: (await call(given[0], this.given(step, 'op_id'))).outcome }
    }
    if (step.value !== undefined) given.push(written(step.value))
    if (step.version !== undefined) given.push(this.given(step, 'version'))
    return call(...given, options)
  }

  async scan(step, bucket) {
    const options = this.options(step, 'page_entries', 'cursor', 'level', 'timeout_ms')
    const scan = step.values ? bucket.scanEntries(options) : bucket.scan(options)
    const most = step.pages === undefined ? Infinity : step.count
    const found = []
    while (found.length < most) {
      const { done, value } = await scan.next()
      if (done) break
      found.push(value)
    }
    if (step.count !== undefined) assert.equal(found.length, step.count)
    if (step.keys !== undefined) {
      const keys = step.keys.map((key) => this.key(step, key))
      assert.deepEqual(sorted(found), keys)
    }
    if (step.entries !== undefined) {
      const pairs = found.map(({ key, value }) => `${key} ${value}`).sort()
      const entries = step.entries.map(([key, value]) => `${this.key(step, key)} ${written(value)}`)
      assert.deepEqual(pairs, entries)
    }
    return { cursor: scan.cursor }
  }
}

/** Makes a test of each case; they share a client. */
export function testCases({ test, after }, scene, cases, run) {
  const runner = new Runner(scene, run)
  for (const [number, { name, steps }] of cases.entries()) {
    test(name, async () => {
      if (!runner.clients.has('main')) {
        runner.clients.set('main', await runner.connect({ profile: 'main' }))
      }
      runner.case = number
      runner.saved.clear()
      for (const step of steps) {
        try {
          await runner.step(step)
        } catch (cause) {
          throw new Error(`${JSON.stringify(step).slice(0, 300)}: ${cause?.message}`, { cause })
        }
      }
    })
  }
  after(() => runner.clients.get('main')?.close())
}
