'use strict'
// Operations of this thread that run, and their promises. Results come many with one wake-up.

const native = require('./native.cjs')
const { AnnuletError } = require('./values.cjs')

/** Calls by the numbers of their operations, which are used again. */
const pending = []
let running = 0
const port = new native.Port(deliver)
// The native side does not keep the process alive; operations under way do. The longest interval
// there is, so that it fires every 24 days.
const alive = setInterval(() => {}, 0x7fffffff)
alive.unref()

/** Calls under way by their signals: one listener serves all calls of a signal. */
const watched = new WeakMap()

function deliver() {
  const taken = port.take()
  // Their numbers are free from here on, and settling a call may begin another one.
  const calls = []
  for (let at = 0; at < taken.length; at += 3) {
    calls.push(pending[taken[at]])
    pending[taken[at]] = undefined
  }
  running -= calls.length
  if (running === 0) alive.unref()
  calls.forEach((call, at) => settle(call, taken[3 * at + 1], taken[3 * at + 2]))
}

function settle(call, isDone, shown) {
  try {
    if (call.signal !== undefined) unwatch(call)
    if (isDone) call.resolve(call.show === undefined ? shown : call.show(shown))
    else call.reject(new AnnuletError(shown))
  } catch (error) {
    // What is the matter with one call is no other's business.
    call.reject(error)
  }
}

function watch(call) {
  const { signal } = call
  let watch = watched.get(signal)
  if (watch === undefined) {
    const calls = new Set()
    const abort = () => {
      for (const { id, reject } of calls) {
        port.cancel(id)
        reject(signal.reason)
      }
    }
    watch = { calls, abort }
    watched.set(signal, watch)
  }
  if (watch.calls.size === 0) signal.addEventListener('abort', watch.abort)
  watch.calls.add(call)
  // What the call was given may have aborted it meanwhile.
  if (signal.aborted) watch.abort()
}

function unwatch(call) {
  const watch = watched.get(call.signal)
  if (watch !== undefined && watch.calls.delete(call) && watch.calls.size === 0) {
    call.signal.removeEventListener('abort', watch.abort)
  }
}

/**
 * Lets an operation run that `start` begins, with the options that `read` makes of what was given:
 * a promise of what it gives, made by `show` of what comes from the native side. When the signal is
 * aborted the operation is given up.
 */
function run(read, given, show, start) {
  return new Promise((resolve, reject) => {
    const options = read(given)
    const { signal } = options
    if (signal !== undefined) signal.throwIfAborted()
    const id = start(port, options)
    const call = { id, resolve, reject, show, signal }
    // Before anything else that may fail: its result will come.
    pending[id] = call
    if (running === 0) alive.ref()
    running += 1
    if (signal !== undefined) watch(call)
  })
}

/** What a call gives that is not awaited. */
function given([isDone, shown]) {
  if (isDone) return shown
  throw new AnnuletError(shown)
}

module.exports = { given, run }
