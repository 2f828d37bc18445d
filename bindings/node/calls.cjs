'use strict'
// Operations of this thread that run, and their promises. Results come many with one wake-up.

const native = require('./native.cjs')
const { AnnuletError } = require('./values.cjs')

/** By the numbers of their operations. */
const pending = new Map()
const port = new native.Port(deliver)
// The native side does not keep the process alive; operations under way do. The longest interval
// there is, so that it fires every 24 days.
const alive = setInterval(() => {}, 0x7fffffff)
alive.unref()

function deliver() {
  const taken = port.take()
  for (let at = 0; at < taken.length; at += 3) {
    const call = pending.get(taken[at])
    pending.delete(taken[at])
    call.signal?.removeEventListener('abort', call.abort)
    if (taken[at + 1]) {
      call.resolve(call.show === undefined ? taken[at + 2] : call.show(taken[at + 2]))
    } else {
      call.reject(new AnnuletError(taken[at + 2]))
    }
  }
  if (pending.size === 0) alive.unref()
}

/**
 * Lets an operation run that `start` begins: a promise of what it gives, made by `show` of what
 * comes from the native side. When the signal is aborted the operation is given up.
 */
function run(signal, show, start) {
  return new Promise((resolve, reject) => {
    if (signal !== undefined) signal.throwIfAborted()
    const id = start(port)
    const call = { resolve, reject, show, signal, abort: undefined }
    if (signal !== undefined) {
      call.abort = () => {
        port.cancel(id)
        reject(signal.reason)
      }
      signal.addEventListener('abort', call.abort, { once: true })
    }
    if (pending.size === 0) alive.ref()
    pending.set(id, call)
  })
}

/** What a call gives that is not awaited. */
function given([isDone, shown]) {
  if (isDone) return shown
  throw new AnnuletError(shown)
}

module.exports = { given, run }
