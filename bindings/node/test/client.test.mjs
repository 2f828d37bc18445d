// What is particular to Node: promises, aborting, workers, the end of the process, odd arguments.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { after, before, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import * as annulet from 'annulet'
import { AnnuletError, connect } from 'annulet'
import { profile, runScript, scene, whileStopped } from './scene.mjs'

let client
before(async () => {
  client = await connect({ profile })
})
after(() => client.close())

test('both ways of loading give the same classes', () => {
  const required = createRequire(import.meta.url)('annulet')
  assert.deepEqual(Object.keys(required).sort(), Object.keys(annulet).filter((n) => n !== 'default' && n !== 'module.exports').sort())
  for (const name of Object.keys(required)) assert.equal(required[name], annulet[name])
})

test('a call that is aborted stops, and the client goes on', async () => {
  const lonely = await connect({ profile: scene.profiles.lonely })
  const bucket = lonely.bucket('single')
  await bucket.put('aborted', Buffer.from('v'))
  await whileStopped(async () => {
    const began = performance.now()
    const controller = new AbortController()
    const call = bucket.get('aborted', { timeoutMs: 60_000, signal: controller.signal })
    setTimeout(() => controller.abort(), 100)
    await assert.rejects(call, { name: 'AbortError' })
    const limit = bucket.get('aborted', { timeoutMs: 60_000, signal: AbortSignal.timeout(100) })
    await assert.rejects(limit, { name: 'TimeoutError' })
    const aborted = AbortSignal.abort(new Error('never mind'))
    await assert.rejects(bucket.get('aborted', { signal: aborted }), { message: 'never mind' })
    await assert.rejects(bucket.get('aborted', { timeoutMs: 200 }), {
      name: 'AnnuletError',
      code: 'Timeout',
      retryable: true,
      outcome: null,
    })
    assert.ok(performance.now() - began < 5_000)
  })
  const entry = await bucket.get('aborted', { timeoutMs: 10_000 })
  assert.equal(entry.value.toString(), 'v')
  await lonely.close()
})

test('calls may share a signal, and begin others when they are settled', async (t) => {
  const warned = t.mock.method(process, 'emitWarning')
  const bucket = client.bucket('plain')
  await bucket.put('shared', Buffer.from('v'))
  const controller = new AbortController()
  const { signal } = controller
  const calls = Array.from({ length: 50 }, () => bucket.get('shared', { signal }))
  for (const entry of await Promise.all(calls)) assert.equal(entry.value.toString(), 'v')
  assert.equal(warned.mock.callCount(), 0)
  // A signal whose listeners cannot be taken off harms its own call only.
  const odd = new AbortController().signal
  odd.removeEventListener = () => {
    throw new Error('odd')
  }
  const results = await Promise.allSettled([
    bucket.get('shared', { signal: odd }),
    ...Array.from({ length: 20 }, () => bucket.get('shared')),
  ])
  assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 20)
  // Aborted by what the call was given.
  const keys = {
    *[Symbol.iterator]() {
      controller.abort(new Error('by its keys'))
      yield 'shared'
    },
  }
  await assert.rejects(bucket.multiGet(keys, { signal }), { message: 'by its keys' })
  assert.ok(await bucket.exists('shared'))
})

test('many calls at once each get their own result', async () => {
  const bucket = client.bucket('plain')
  const keys = Array.from({ length: 2_000 }, (_, number) => `many/${number}`)
  const patient = { timeoutMs: 30_000 }
  await Promise.all(keys.map((key) => bucket.put(key, Buffer.from(key), patient)))
  const entries = await Promise.all(keys.map((key) => bucket.get(key, patient)))
  keys.forEach((key, at) => assert.equal(entries[at].value.toString(), key))
})

test('errors are values of several results and thrown otherwise', async () => {
  const [one, two] = await client.bucket('nowhere').multiGet(['a', 'b'])
  assert.ok(one instanceof AnnuletError && two instanceof AnnuletError)
  const error = await client.bucket('plain').put('', Buffer.alloc(0)).catch((error) => error)
  assert.equal(error.code, 'InvalidInput')
  assert.equal(error.outcome, 'not_applied')
  assert.match(error.message, /outcome not_applied/)
  assert.match(error.stack, /^AnnuletError: /)
})

test('changes and merges may be promises, and what they throw is thrown', async () => {
  const strong = client.bucket('strong')
  const add = async (value) => {
    await null
    return Buffer.from(String(Number(value ?? 0) + 1))
  }
  const patient = { timeoutMs: 60_000 }
  await Promise.all(Array.from({ length: 20 }, () => strong.update('node-sum', add, patient)))
  assert.equal((await strong.get('node-sum')).value.toString(), '20')
  const fail = () => {
    throw new Error('not today')
  }
  await assert.rejects(strong.update('node-sum', fail), { message: 'not today' })
  const carts = client.bucket('carts')
  await carts.put('node-merge', Buffer.from('a'))
  await carts.put('node-merge', Buffer.from('b'))
  const join = async (values) => Buffer.from(values.map(String).sort().join('+'))
  assert.equal((await carts.getMerged('node-merge', join)).value.toString(), 'a+b')
})

test('what a change forgets to give is no deletion', async () => {
  const strong = client.bucket('strong')
  await strong.put('node-forgotten', Buffer.from('v'))
  await assert.rejects(strong.update('node-forgotten', () => {}), TypeError)
  assert.ok(await strong.exists('node-forgotten'))
  assert.ok(await strong.update('node-forgotten', () => null))
  assert.ok(!(await strong.exists('node-forgotten')))
})

test('consumers who share a scan are given everything once', async () => {
  const bucket = client.bucket('plain')
  await bucket.multiPut(Array.from({ length: 50 }, (_, n) => [`page/${n}`, Buffer.from('v')]))
  const wanted = []
  for await (const key of bucket.scan()) wanted.push(key)
  const scan = bucket.scan({ pageEntries: 7 })
  const found = []
  const take = async () => {
    for await (const key of scan) found.push(key)
  }
  await Promise.all([take(), take(), take()])
  assert.deepEqual(found.sort(Buffer.compare), wanted.sort(Buffer.compare))
  assert.ok(scan.isOver && scan.cursor === null)
})

test('a scan is gone through by for await, and may be left early', async () => {
  const bucket = client.bucket('plain')
  await bucket.multiPut(new Map([['walk/1', Buffer.from('1')], ['walk/2', Buffer.from('2')]]))
  let count = 0
  for await (const key of bucket.scan()) {
    assert.ok(Buffer.isBuffer(key))
    if (++count === 2) break
  }
  assert.equal(count, 2)
  for await (const { key, value } of bucket.scanEntries()) {
    if (key.toString() === 'walk/1') assert.equal(value.toString(), '1')
  }
})

test('workers have clients of their own and end with calls under way', async () => {
  const script = `
    import { workerData, parentPort } from 'node:worker_threads'
    import { connect } from 'annulet'
    const client = await connect({ profile: workerData.profile })
    const bucket = client.bucket('plain')
    for (let turn = 0; turn < 100; turn++) {
      await Promise.all(Array.from({ length: 8 }, (_, n) => bucket.put('worker/' + n, Buffer.from('v'))))
    }
    parentPort.postMessage('done')
    if (workerData.stays) for (;;) await Promise.all(Array.from({ length: 64 }, () => bucket.get('worker/1')))
    await client.close()
  `
  const start = (stays) =>
    new Worker(new URL(`data:text/javascript,${encodeURIComponent(script.replace("'annulet'", `'${import.meta.resolve('annulet')}'`))}`), {
      workerData: { profile, stays },
    })
  const ended = (worker) =>
    new Promise((resolve, reject) => {
      worker.on('error', reject)
      worker.on('exit', resolve)
    })
  const said = (worker) => new Promise((resolve) => worker.on('message', resolve))
  const workers = [start(false), start(false), start(true)]
  const ends = workers.map(ended)
  await Promise.all(workers.map(said))
  await workers[2].terminate()
  assert.deepEqual(await Promise.all(ends), [0, 0, 1])
  assert.ok(await client.bucket('plain').exists('worker/1'))
})

test('the process ends when nothing is under way, closed or not', async () => {
  const said = await runScript(
    `
    import { connect } from 'annulet'
    const client = await connect()
    await client.bucket('plain').put('ends', Buffer.from('v'))
    await connect()
    // Nobody waits for it in code, and yet it is done.
    client.bucket('plain').get('ends').then((entry) => console.log(entry.value.toString()))
    `,
    profile,
  )
  assert.equal(said, 'v\n')
})

test('the process ends at once by process.exit with calls under way', async () => {
  const said = await whileStopped(() =>
    runScript(
      `
      import { connect } from 'annulet'
      process.kill(${scene.servers.lonely}, 'SIGCONT')
      const client = await connect()
      const bucket = client.bucket('single')
      await bucket.put('k', Buffer.from('v'))
      process.kill(${scene.servers.lonely}, 'SIGSTOP')
      for (let n = 0; n < 100; n++) bucket.get('k', { timeoutMs: 600_000 }).catch(() => {})
      setTimeout(() => { console.log('done'); process.exit(0) }, 200)
      `,
      scene.profiles.lonely,
    ),
  )
  assert.equal(said, 'done\n')
})

test('await using closes a client', async () => {
  const disposed = await connect({ profile })
  await disposed[Symbol.asyncDispose]()
  await assert.rejects(disposed.bucket('plain').get('k'), { code: 'Closed' })
})
