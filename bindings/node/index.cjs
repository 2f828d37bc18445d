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
const leveled = options('level', 'timeoutMs', 'signal')
const writing = options('ttlMs', 'expiresAtMs', 'context', 'level', 'timeoutMs', 'signal')
const deleting = options('context', 'level', 'timeoutMs', 'signal')
const touching = options('ttlMs', 'expiresAtMs', 'level', 'timeoutMs', 'signal')
const condition = options('ttlMs', 'expiresAtMs', 'timeoutMs', 'signal')
const plain = options('timeoutMs', 'signal')
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

/** Options that were read already. */
const asRead = (options) => options

class Scan {
  #native
  #options
  #show
  /** Entries of pages that are here, in turn with where their pages began. */
  #ready = []
  #at = 0
  #seen = 0
  #after
  #isOver = false

  constructor(scan, options, show) {
    this.#native = scan
    this.#after = options.cursor ?? null
    this.#options = options
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
      const page = await run(asRead, this.#options, undefined, (port) => this.#native.nextPage(port, seen))
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
    this.#native.leave()
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

  get(of, given) {
    return run(reading, given, values.entry, (port, { level, timeoutMs, stale }) =>
      this.#native.get(port, key(of), level, timeoutMs, stale),
    )
  }

  async getMerged(of, resolve, given_) {
    const options = leveled(given_)
    called('resolve', resolve)
    const found = await run(asRead, options, undefined, (port, { level, timeoutMs }) =>
      this.#native.beginMerge(port, key(of), level, timeoutMs),
    )
    const unmerged = found.unmerged()
    const merged = unmerged == null ? undefined : value(await resolve(unmerged))
    return values.entry(given(found.finish(merged)))
  }

  exists(of, given) {
    return run(reading, given, undefined, (port, { level, timeoutMs, stale }) =>
      this.#native.exists(port, key(of), level, timeoutMs, stale),
    )
  }

  put(of, stored, given) {
    return run(writing, given, values.written, (port, options) => {
      const { ttlMs, expiresAtMs, context, level, timeoutMs } = options
      const at = key(of)
      return this.#native.put(
        port,
        at,
        value(stored),
        ttlMs,
        expiresAtMs,
        context,
        level,
        timeoutMs,
      )
    })
  }

  delete(of, given) {
    return run(deleting, given, values.written, (port, { context, level, timeoutMs }) =>
      this.#native.delete(port, key(of), context, level, timeoutMs),
    )
  }

  touch(of, given) {
    return run(touching, given, values.written, (port, options) => {
      const { ttlMs, expiresAtMs, level, timeoutMs } = options
      return this.#native.touch(port, key(of), ttlMs, expiresAtMs, level, timeoutMs)
    })
  }

  putIfVersion(of, stored, version, given) {
    return run(condition, given, values.written, (port, { ttlMs, expiresAtMs, timeoutMs }) => {
      const [at, bytes] = [key(of), value(stored)]
      words('a version', version)
      return this.#native.putIfVersion(port, at, bytes, version, ttlMs, expiresAtMs, timeoutMs)
    })
  }

  putIfAbsent(of, stored, given) {
    return run(condition, given, values.written, (port, { ttlMs, expiresAtMs, timeoutMs }) => {
      const [at, bytes] = [key(of), value(stored)]
      return this.#native.putIfAbsent(port, at, bytes, ttlMs, expiresAtMs, timeoutMs)
    })
  }

  deleteIfVersion(of, version, given) {
    return run(plain, given, values.written, (port, { timeoutMs }) =>
      this.#native.deleteIfVersion(port, key(of), words('a version', version), timeoutMs),
    )
  }

  async update(of, change, given) {
    const options = condition(given)
    const { ttlMs, expiresAtMs, timeoutMs } = options
    const at = key(of)
    called('change', change)
    const step = (show, start) => run(asRead, options, show, start)
    const steps = await step(undefined, (port) =>
      this.#native.beginUpdate(port, at, ttlMs, expiresAtMs, timeoutMs),
    )
    for (;;) {
      const found = await step(values.entry, (port) => steps.value(port))
      const next = await change(found === null ? null : found.value)
      const stored = next === null ? undefined : value(next)
      const [isDone, written] = await step(undefined, (port) => steps.commit(port, stored))
      if (isDone) return values.written(written)
    }
  }

  resolve(of, opId, given) {
    return run(aborting, given, values.resolved, (port) =>
      this.#native.resolve(port, key(of), words('the name of a write', opId)),
    )
  }

  multiGet(of, given) {
    return run(reading, given, show.each.entries, (port, { level, timeoutMs, stale }) =>
      this.#native.multiGet(port, keys(of), level, timeoutMs, stale),
    )
  }

  multiPut(stored, given) {
    return run(touching, given, show.each.written, (port, options) => {
      const { ttlMs, expiresAtMs, level, timeoutMs } = options
      return this.#native.multiPut(port, entries(stored), ttlMs, expiresAtMs, level, timeoutMs)
    })
  }

  multiDelete(of, given) {
    return run(leveled, given, show.each.written, (port, { level, timeoutMs }) =>
      this.#native.multiDelete(port, keys(of), level, timeoutMs),
    )
  }

  scan(given) {
    return this.#scan(true, scanning(given), (shown) => shown[0])
  }

  scanEntries(given) {
    return this.#scan(false, scanning(given), (shown) => new ScanEntry(shown))
  }

  #scan(keysOnly, options, show) {
    const { pageEntries, cursor, level, timeoutMs } = options
    const scan = this.#native.scan(keysOnly, pageEntries, cursor, level, timeoutMs)
    return new Scan(given(scan), options, show)
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

  toBytes(given) {
    return run(aborting, given, undefined, (port) => this.#native.toBytes(port))
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

  createBucket(name, given) {
    return run(creating, given, values.policy, (port, options) => {
      const { mode, replicas, durability, readLevel, writeLevel, ttlMs, merge } = options
      return this.#native.createBucket(
        port,
        words('a name', name),
        mode,
        replicas,
        durability,
        readLevel,
        writeLevel,
        ttlMs,
        merge,
      )
    })
  }

  setBucket(name, given) {
    return run(setting, given, values.policy, (port, { readLevel, writeLevel, ttlMs }) =>
      this.#native.setBucket(port, words('a name', name), readLevel, writeLevel, ttlMs),
    )
  }

  deleteBucket(name, given) {
    return run(aborting, given, values.nothing, (port) =>
      this.#native.deleteBucket(port, words('a name', name)),
    )
  }

  buckets(given) {
    return run(aborting, given, values.policies, (port) => this.#native.buckets(port))
  }

  statistics() {
    return Object.fromEntries(given(this.#native.statistics()))
  }

  close() {
    return run(aborting, undefined, values.nothing, (port) => this.#native.close(port))
  }
}

Client.prototype[Symbol.asyncDispose] = Client.prototype.close

const connected = (client) => new Client(client)

function connect(given) {
  return run(connecting, given, connected, (port, options) => {
    const { profile, timeoutMs, level, zone, region } = options
    const { connectionsMax, idleAfterMs, checkOneIn } = options
    return native.connect(
      port,
      profile,
      timeoutMs,
      level,
      zone,
      region,
      connectionsMax,
      idleAfterMs,
      checkOneIn,
    )
  })
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
