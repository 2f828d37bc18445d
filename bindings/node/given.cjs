'use strict'
// What users give, checked for its type; what it may be is the core's business.

const { isDate, isUint8Array } = require('node:util').types

function kind(given) {
  if (given === null) return 'null'
  return typeof given === 'object' ? (given.constructor?.name ?? 'an object') : typeof given
}

function wrong(what, given) {
  return new TypeError(`${what}, not ${kind(given)}`)
}

/** A key: a string, which stands for its UTF-8, or bytes. */
function key(given) {
  if (typeof given === 'string') return Buffer.from(given)
  if (isUint8Array(given)) return given
  throw wrong('a key is a string or a Uint8Array', given)
}

function keys(given) {
  if (typeof given === 'string' || isUint8Array(given) || given?.[Symbol.iterator] === undefined) {
    throw wrong('keys are several: give an array of them', given)
  }
  return Array.from(given, key)
}

/** A value: bytes. */
function value(given) {
  if (isUint8Array(given)) return given
  const hint = typeof given === 'string' ? ': encode it first' : ''
  throw new TypeError(`a value is a Buffer or a Uint8Array, not ${kind(given)}${hint}`)
}

/** Keys and values in turn, of a `Map` or pairs. */
function entries(given) {
  if (given?.[Symbol.iterator] === undefined || typeof given === 'string') {
    throw wrong('entries are a Map or an array of pairs', given)
  }
  const turns = []
  for (const pair of given) {
    if (!Array.isArray(pair) || pair.length !== 2) {
      throw wrong('an entry is a pair of a key and a value', pair)
    }
    turns.push(key(pair[0]), value(pair[1]))
  }
  return turns
}

function text(name, given) {
  if (given === undefined || typeof given === 'string') return given
  throw wrong(`${name} is a string`, given)
}

function words(name, given) {
  if (typeof given === 'string') return given
  throw wrong(`${name} is a string`, given)
}

function number(name, given) {
  if (given === undefined || typeof given === 'number') return given
  throw wrong(`${name} is a number`, given)
}

function whole(name, given) {
  if (given === undefined || Number.isSafeInteger(given)) return given
  if (typeof given === 'number') throw new RangeError(`${name} is a whole number, not ${given}`)
  throw wrong(`${name} is a whole number`, given)
}

function moment(name, given) {
  return isDate(given) ? given.getTime() : number(name, given)
}

function flag(name, given) {
  if (given === undefined) return false
  if (typeof given === 'boolean') return given
  throw wrong(`${name} is true or false`, given)
}

function bytes(name, given) {
  if (given === undefined || given === null) return undefined
  if (isUint8Array(given)) return given
  throw wrong(`${name} is a Buffer or a Uint8Array`, given)
}

function signal(name, given) {
  if (given === undefined || given instanceof AbortSignal) return given
  throw wrong(`${name} is an AbortSignal`, given)
}

function called(name, given) {
  if (typeof given === 'function') return given
  throw wrong(`${name} is a function`, given)
}

const TAKERS = {
  checkOneIn: whole,
  connectionsMax: whole,
  context: bytes,
  cursor: text,
  durability: text,
  expiresAtMs: moment,
  idleAfterMs: number,
  level: text,
  merge: text,
  mode: text,
  pageEntries: whole,
  profile: text,
  readLevel: text,
  region: text,
  replicas: whole,
  signal,
  stale: flag,
  timeoutMs: number,
  ttlMs: number,
  writeLevel: text,
  zone: text,
}

/** Makes what takes an object of these options, and refuses others: a misspelt one is no default. */
function options(...names) {
  const known = new Set(names)
  const takers = names.map((name) => [name, TAKERS[name]])
  const none = {}
  for (const [name, take] of takers) none[name] = take(name, undefined)
  Object.freeze(none)
  return (given) => {
    if (given === undefined) return none
    if (given === null || typeof given !== 'object') throw wrong('options are an object', given)
    for (const name in given) {
      if (!known.has(name)) {
        throw new TypeError(`there is no option \`${name}\` here; there are: ${names.join(', ')}`)
      }
    }
    const taken = {}
    for (const [name, take] of takers) taken[name] = take(name, given[name])
    return taken
  }
}

module.exports = { called, entries, key, keys, options, value, words }
