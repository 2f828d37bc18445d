'use strict'
// The client. What each call does is said in index.d.ts.

const native = require('./native.cjs')
const { given, run } = require('./calls.cjs')
const { called, entries, key, keys, options, value, words } = require('./given.cjs')
const values = require('./values.cjs')

const { AnnuletError, BucketPolicy, Entry, ScanEntry, Written } = values
const show = {
  each: { entries: values.each(values.entry), written: values.each(values.written) },
}

const reading = options('level', 'timeoutMs', 'stale', 'signal')
const merging = options('level', 'timeoutMs', 'signal')
const writing = options('ttlMs', 'expiresAtMs', 'context', 'level', 'timeoutMs', 'signal')
const deleting = options('context', 'level', 'timeoutMs', 'signal')
const touching = options('ttlMs', 'expiresAtMs', 'level', 'timeoutMs', 'signal')
const condition = options('ttlMs', 'expiresAtMs', 'timeoutMs', 'signal')
const plain = options('timeoutMs', 'signal')
const many = options('level', 'timeoutMs', 'signal')
const scanning = options('pageEntries', 'cursor', 'level', 'timeoutMs', 'signal')
const aborting = options('signal')
const creating = options(
  'mode',
  'replicas',
  'durability',
  'readLevel',
  'writeLevel',
  'ttlMs',
  'merge',
  'signal',
)
const setting = options('readLevel', 'writeLevel', 'ttlMs', 'signal')
const connecting = options(
  'profile',
  'timeoutMs',
  'level',
  'zone',
  'region',
  'connectionsMax',
  'idleAfterMs',
  'checkOneIn',
  'signal',
)

class Scan {
  #native
  #signal
  #show
  /** Entries of pages that are here, in turn with where their pages began. */
  #ready = []
  #at = 0
  #seen = 0
  #after
  #isOver = false

  constructor(scan, cursor, signal, show) {
    this.#native = scan
    this.#after = cursor ?? null
    this.#signal = signal
    this.#show = show
  }

  get cursor() {
    return this.#at < this.#ready.length ? this.#ready[this.#at + 1] : this.#after
  }

  get isOver() {
    return this.#isOver && this.#at === this.#ready.length
  }

  async next() {
    while (this.#at === this.#ready.length) {
      if (this.#isOver) return { done: true, value: undefined }
      const seen = this.#seen
      const page = await run(this.#signal, undefined, (port) => this.#native.nextPage(port, seen))
      this.#take(...page)
    }
    const entry = this.#ready[this.#at]
    this.#at += 2
    return { done: false, value: this.#show(entry) }
  }

  /** Takes a page, unless another caller who asked for it has taken it before. */
  #take(number, entries, cursor) {
    if (number !== this.#seen + 1) return
    this.#seen = number
    if (entries === null) {
      this.#isOver = true
      return
    }
    this.#ready = this.#ready.slice(this.#at)
    this.#at = 0
    for (const entry of entries) this.#ready.push(entry, this.#after)
    this.#after = cursor ?? null
  }

  async return(value) {
    return { done: true, value }
  }

  [Symbol.asyncIterator]() {
    return this
  }
}

class Bucket {
  #native
  #name

  constructor(bucket, name) {
    this.#native = bucket
    this.#name = name
  }

  get name() {
    return this.#name
  }

  async get(of, given) {
    const { level, timeoutMs, stale, signal } = reading(given)
    const at = key(of)
    return run(signal, values.entry, (port) => this.#native.get(port, at, level, timeoutMs, stale))
  }

  async getMerged(of, resolve, given_) {
    const { level, timeoutMs, signal } = merging(given_)
    const at = key(of)
    called('resolve', resolve)
    const found = await run(signal, undefined, (port) =>
      this.#native.beginMerge(port, at, level, timeoutMs),
    )
    const unmerged = found.unmerged()
    const merged = unmerged == null ? undefined : value(await resolve(unmerged))
    return values.entry(given(found.finish(merged)))
  }

  async exists(of, given) {
    const { level, timeoutMs, stale, signal } = reading(given)
    const at = key(of)
    return run(signal, undefined, (port) =>
      this.#native.exists(port, at, level, timeoutMs, stale),
    )
  }

  async put(of, stored, given) {
    const { ttlMs, expiresAtMs, context, level, timeoutMs, signal } = writing(given)
    const at = key(of)
    value(stored)
    return run(signal, values.written, (port) =>
      this.#native.put(port, at, stored, ttlMs, expiresAtMs, context, level, timeoutMs),
    )
  }

  async delete(of, given) {
    const { context, level, timeoutMs, signal } = deleting(given)
    const at = key(of)
    return run(signal, values.written, (port) =>
      this.#native.delete(port, at, context, level, timeoutMs),
    )
  }

  async touch(of, given) {
    const { ttlMs, expiresAtMs, level, timeoutMs, signal } = touching(given)
    const at = key(of)
    return run(signal, values.written, (port) =>
      this.#native.touch(port, at, ttlMs, expiresAtMs, level, timeoutMs),
    )
  }

  async putIfVersion(of, stored, version, given) {
    const { ttlMs, expiresAtMs, timeoutMs, signal } = condition(given)
    const at = key(of)
    value(stored)
    words('a version', version)
    return run(signal, values.written, (port) =>
      this.#native.putIfVersion(port, at, stored, version, ttlMs, expiresAtMs, timeoutMs),
    )
  }

  async putIfAbsent(of, stored, given) {
    const { ttlMs, expiresAtMs, timeoutMs, signal } = condition(given)
    const at = key(of)
    value(stored)
    return run(signal, values.written, (port) =>
      this.#native.putIfAbsent(port, at, stored, ttlMs, expiresAtMs, timeoutMs),
    )
  }

  async deleteIfVersion(of, version, given) {
    const { timeoutMs, signal } = plain(given)
    const at = key(of)
    words('a version', version)
    return run(signal, values.written, (port) =>
      this.#native.deleteIfVersion(port, at, version, timeoutMs),
    )
  }

  async update(of, change, given) {
    const { ttlMs, expiresAtMs, timeoutMs, signal } = condition(given)
    const at = key(of)
    called('change', change)
    const steps = await run(signal, undefined, (port) =>
      this.#native.beginUpdate(port, at, ttlMs, expiresAtMs, timeoutMs),
    )
    for (;;) {
      const found = await run(signal, values.entry, (port) => steps.value(port))
      const next = await change(found === null ? null : found.value)
      const stored = next === null ? undefined : value(next)
      const [isDone, written] = await run(signal, undefined, (port) => steps.commit(port, stored))
      if (isDone) return values.written(written)
    }
  }

  async resolve(of, opId, given) {
    const { signal } = aborting(given)
    const at = key(of)
    words('the name of a write', opId)
    return run(signal, values.resolved, (port) => this.#native.resolve(port, at, opId))
  }

  async multiGet(of, given) {
    const { level, timeoutMs, stale, signal } = reading(given)
    const all = keys(of)
    return run(signal, show.each.entries, (port) =>
      this.#native.multiGet(port, all, level, timeoutMs, stale),
    )
  }

  async multiPut(stored, given) {
    const { ttlMs, expiresAtMs, level, timeoutMs, signal } = touching(given)
    const all = entries(stored)
    return run(signal, show.each.written, (port) =>
      this.#native.multiPut(port, all, ttlMs, expiresAtMs, level, timeoutMs),
    )
  }

  async multiDelete(of, given) {
    const { level, timeoutMs, signal } = many(given)
    const all = keys(of)
    return run(signal, show.each.written, (port) =>
      this.#native.multiDelete(port, all, level, timeoutMs),
    )
  }

  scan(given) {
    return this.#scan(true, scanning(given), (shown) => shown[0])
  }

  scanEntries(given) {
    return this.#scan(false, scanning(given), (shown) => new ScanEntry(shown))
  }

  #scan(keysOnly, { pageEntries, cursor, level, timeoutMs, signal }, show) {
    const scan = this.#native.scan(keysOnly, pageEntries, cursor, level, timeoutMs)
    return new Scan(given(scan), cursor, signal, show)
  }
}

class Session {
  #native

  constructor(session) {
    this.#native = session
  }

  bucket(name) {
    return new Bucket(given(this.#native.bucket(words('a name', name))), name)
  }

  async toBytes(given) {
    const { signal } = aborting(given)
    return run(signal, undefined, (port) => this.#native.toBytes(port))
  }
}

class Client {
  #native

  constructor(client) {
    this.#native = client
  }

  bucket(name) {
    return new Bucket(given(this.#native.bucket(words('a name', name))), name)
  }

  session() {
    return new Session(given(this.#native.session()))
  }

  sessionFrom(token) {
    return new Session(given(this.#native.sessionFrom(value(token))))
  }

  async createBucket(name, given) {
    const { mode, replicas, durability, readLevel, writeLevel, ttlMs, merge, signal } =
      creating(given)
    words('a name', name)
    return run(signal, values.policy, (port) =>
      this.#native.createBucket(
        port,
        name,
        mode,
        replicas,
        durability,
        readLevel,
        writeLevel,
        ttlMs,
        merge,
      ),
    )
  }

  async setBucket(name, given) {
    const { readLevel, writeLevel, ttlMs, signal } = setting(given)
    words('a name', name)
    return run(signal, values.policy, (port) =>
      this.#native.setBucket(port, name, readLevel, writeLevel, ttlMs),
    )
  }

  async deleteBucket(name, given) {
    const { signal } = aborting(given)
    words('a name', name)
    return run(signal, values.nothing, (port) => this.#native.deleteBucket(port, name))
  }

  async buckets(given) {
    const { signal } = aborting(given)
    return run(signal, values.policies, (port) => this.#native.buckets(port))
  }

  statistics() {
    return Object.fromEntries(given(this.#native.statistics()))
  }

  async close() {
    return run(undefined, values.nothing, (port) => this.#native.close(port))
  }
}

// Engines before 20.4 have no such symbol.
if (Symbol.asyncDispose !== undefined) {
  Client.prototype[Symbol.asyncDispose] = Client.prototype.close
}

async function connect(given) {
  const {
    profile,
    timeoutMs,
    level,
    zone,
    region,
    connectionsMax,
    idleAfterMs,
    checkOneIn,
    signal,
  } = connecting(given)
  return run(
    signal,
    (client) => new Client(client),
    (port) =>
      native.connect(
        port,
        profile,
        timeoutMs,
        level,
        zone,
        region,
        connectionsMax,
        idleAfterMs,
        checkOneIn,
      ),
  )
}

module.exports = {
  AnnuletError,
  Bucket,
  BucketPolicy,
  Client,
  Entry,
  Scan,
  ScanEntry,
  Session,
  Written,
  connect,
}
