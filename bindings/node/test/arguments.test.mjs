// Wrong types and odd values: a TypeError or one of Annulet's errors, and nothing else.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { AnnuletError, connect } from 'annulet'
import { profile } from './scene.mjs'

let client
let bucket
before(async () => {
  client = await connect({ profile })
  bucket = client.bucket('plain')
})
after(() => client.close())

test('wrong types are type errors that say what is expected', async () => {
  const wrong = [
    [() => bucket.get(7), /a key is a string or a Uint8Array, not number/],
    [() => bucket.get(), /not undefined/],
    [() => bucket.put('k', 'text'), /a value is a Buffer or a Uint8Array, not string: encode it/],
    [() => bucket.put('k', null), /not null/],
    [() => bucket.put('k', [1, 2]), /not Array/],
    [() => bucket.put('k', Buffer.from('v'), { ttl: 5 }), /no option `ttl` here; there are: ttlMs/],
    [() => bucket.put('k', Buffer.from('v'), { ttlMs: '5' }), /ttlMs is a number, not string/],
    [() => bucket.put('k', Buffer.from('v'), 5), /options are an object, not number/],
    [() => bucket.get('k', { level: 1 }), /level is a string/],
    [() => bucket.get('k', { stale: 'yes' }), /stale is true or false/],
    [() => bucket.get('k', { signal: {} }), /signal is an AbortSignal/],
    [() => bucket.putIfVersion('k', Buffer.from('v')), /a version is a string/],
    [() => bucket.update('k', 'v'), /change is a function/],
    [() => bucket.multiGet('key'), /keys are several/],
    [() => bucket.put('k', new Proxy(new Uint8Array(1), {})), /a value is a Buffer/],
    [() => bucket.get(Object.setPrototypeOf(new Float64Array(1), Uint8Array.prototype)), /a key is/],
    [() => bucket.multiPut([['k']]), /an entry is a pair/],
    [() => client.createBucket('b', { replicas: 256 }), AnnuletError, /256 replicas: that is more/],
    [() => client.createBucket('b', { replicas: -1 }), AnnuletError, /there must be at least 1/],
    [() => connect({ profile, connectionsMax: 0 }), AnnuletError, /there must be at least 1/],
    [async () => client.bucket(7), /a name is a string/],
    [async () => client.sessionFrom('token'), /a value is a Buffer/],
    [async () => bucket.scan({ pageEntries: 1.5 }), RangeError, /a whole number/],
    [() => connect(profile), /options are an object/],
    [() => connect({ profile: 5 }), /profile is a string/],
  ]
  for (const [call, ...expected] of wrong) {
    const kind = expected.length === 2 ? expected[0] : TypeError
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof kind, `${call}: ${error?.stack}`)
      assert.match(error.message, expected.at(-1))
      return true
    })
  }
})

test('everything of bytes is taken', async () => {
  const long = Buffer.alloc(200_000, 'abc')
  for (const value of [Buffer.from('v'), new Uint8Array([118]), new Uint8Array([0, 118, 0]).subarray(1, 2)]) {
    await bucket.put(new Uint8Array([107]), value)
    assert.equal((await bucket.get(Buffer.from('k'))).value.toString(), 'v')
  }
  await bucket.put('long', long)
  assert.ok((await bucket.get('long')).value.equals(long))
  await bucket.put('dated', Buffer.from('v'), { expiresAtMs: new Date('2100-01-01') })
  assert.equal((await bucket.get('dated')).expiresAtMs, Date.parse('2100-01-01'))
  // A value that is changed while it is on its way.
  const changing = Buffer.alloc(100_000, 'a')
  const put = bucket.put('changing', changing)
  changing.fill('b')
  await put
  assert.ok((await bucket.get('changing')).value.equals(Buffer.alloc(100_000, 'a')))
})

/** Numbers that look random, the same for the same seed (mulberry32). */
function draws(seed) {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

test('odd arguments at random harm nobody', async () => {
  const seed = Math.floor(Math.random() * 2 ** 31)
  const draw = draws(seed)
  const odd = [
    undefined, null, true, 0, 1, -1, 2 ** 31, 2 ** 32, 2 ** 53, 0.5, NaN, Infinity, -Infinity, 1e308, 10n,
    '', 'k', 'ü', '\ud800', 'x'.repeat(5_000), 'one', 'r=9,w=9', Buffer.alloc(0), Buffer.from('k'),
    Buffer.alloc(5_000), new Uint8Array([1]), new ArrayBuffer(3), new Float64Array(2), new DataView(new ArrayBuffer(2)),
    [], ['k'], [null], [['k', Buffer.from('v')]], [['k']], {}, new Map(), new Map([['k', Buffer.from('v')]]), new Set(['k']),
    Symbol('s'), () => null, class {}, new Date(), new Date(NaN), /k/, new Proxy({}, {}), Object.create(null),
  ]
  const names = [
    'level', 'timeoutMs', 'stale', 'ttlMs', 'expiresAtMs', 'context', 'pageEntries', 'cursor', 'mode', 'replicas',
    'durability', 'readLevel', 'writeLevel', 'merge', 'signal', 'nothing',
  ]
  const objects = [bucket, client.bucket('strong'), client.bucket('carts'), client, client.session()]
  const spared = new Set(['constructor', 'close', 'createBucket', 'deleteBucket', 'name'])
  const calls = objects.flatMap((of) =>
    Object.getOwnPropertyNames(Object.getPrototypeOf(of))
      .filter((name) => !spared.has(name))
      .map((name) => [of, name]),
  )
  assert.ok(calls.length > 50)
  let [refused, done] = [0, 0]
  for (let turn = 0; turn < 4_000; turn++) {
    const [of, name] = calls[draw(calls.length)]
    const given = Array.from({ length: draw(4) }, () => odd[draw(odd.length)])
    if (draw(2) === 0) given.push({ [names[draw(names.length)]]: odd[draw(odd.length)] })
    try {
      await of[name](...given)
      done += 1
    } catch (error) {
      const known = error instanceof AnnuletError || error instanceof TypeError || error instanceof RangeError
      assert.ok(known, `seed ${seed}: ${name}: ${error?.stack}`)
      refused += 1
    }
  }
  assert.ok(refused > 1_000 && done > 10, `${refused} ${done}`)
  await bucket.put('still', Buffer.from('there'))
  assert.equal((await bucket.get('still')).value.toString(), 'there')
})
