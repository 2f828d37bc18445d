'use strict'
// What users get, made of the arrays that the native module gives.

/** An operation that failed: `code` says what to do, the message is for people. */
class AnnuletError extends Error {
  constructor([code, message, outcome, retryable, opId]) {
    super(outcome == null ? message : `${message} (outcome ${outcome})`)
    this.code = code
    this.outcome = outcome ?? null
    this.retryable = retryable
    this.opId = opId ?? null
  }

  get name() {
    return 'AnnuletError'
  }
}

const NOTHING = Buffer.alloc(0)

/** A value that was found; of most of them there is but the value and its version. */
class Entry {
  constructor(shown) {
    this.value = shown[0]
    this.version = shown[1]
    this.expiresAtMs = shown[2] ?? null
    this.isMerged = shown[3] ?? true
    this.siblings = shown[4] ?? [shown[0]]
    this.context = shown[5] ?? NOTHING
  }
}

/** A write that was done. */
class Written {
  constructor([version, superseded, context, siblings]) {
    this.version = version
    this.superseded = superseded
    this.context = context ?? null
    this.siblings = siblings
  }
}

/** A key that a scan found. */
class ScanEntry {
  constructor([key, value, version, expiresAtMs]) {
    this.key = key
    this.value = value ?? null
    this.version = version
    this.expiresAtMs = expiresAtMs ?? null
  }
}

/** A bucket of a cluster. */
class BucketPolicy {
  constructor([name, mode, replicas, durability, readLevel, writeLevel, ttlMs, merge]) {
    this.name = name
    this.mode = mode
    this.replicas = replicas
    this.durability = durability
    this.readLevel = readLevel
    this.writeLevel = writeLevel
    this.ttlMs = ttlMs ?? null
    this.merge = merge ?? null
  }
}

const entry = (shown) => (shown === null ? null : new Entry(shown))
const written = (shown) => (shown === null ? null : new Written(shown))
const policy = (shown) => new BucketPolicy(shown)
const policies = (shown) => shown.map(policy)
const nothing = () => undefined

/** Several results, an error standing in its place. */
const each = (show) => (shown) =>
  shown.map(([isDone, one]) => (isDone ? show(one) : new AnnuletError(one)))

const resolved = ([outcome, version]) => ({ outcome, version: version ?? null })

module.exports = {
  AnnuletError,
  BucketPolicy,
  Entry,
  ScanEntry,
  Written,
  each,
  entry,
  nothing,
  policies,
  policy,
  resolved,
  written,
}
