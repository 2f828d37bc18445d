// What users write, as the compiler sees it; `tsc` checks it, nothing runs it.

import { AnnuletError, connect, type Bucket, type Entry, type Written } from 'annulet'

export async function carts(signal: AbortSignal): Promise<void> {
  await using client = await connect({ profile: 'profile.toml', timeoutMs: 500 })
  const carts: Bucket = client.bucket('carts')
  const written: Written = await carts.put('user:1', Buffer.from('v'), {
    ttlMs: Infinity,
    level: 'quorum',
    timeoutMs: 500,
    signal,
  })
  const entry: Entry | null = await carts.get('user:1', { level: 'r=2,w=2' })
  if (entry !== null) {
    await carts.put('user:1', entry.value, { context: entry.context })
    await carts.putIfVersion('user:1', new Uint8Array(1), entry.version)
  }
  await carts.put('user:1', Buffer.from('v'), { context: written.context })
  for await (const key of carts.scan({ pageEntries: 10 })) key.readUInt8(0)
  for await (const { key, value } of carts.scanEntries()) key.equals(value ?? key)
  for (const one of await carts.multiGet(['a', Buffer.from('b')])) {
    if (one instanceof AnnuletError) throw one
    one?.value.toString()
  }
  await carts.update('n', (value) => (value === null ? null : Buffer.concat([value])))
  await carts.update('n', async () => null)
  const { outcome } = await carts.resolve('n', 'name')
  if (outcome === 'applied') return
  try {
    await carts.delete('user:1')
  } catch (error) {
    if (error instanceof AnnuletError && error.code === 'Unavailable' && error.retryable) return
    throw error
  }
  // @ts-expect-error: a value is bytes
  await carts.put('k', 'text')
  // @ts-expect-error: a change that forgets to give the new value
  await carts.update('n', () => {})
  // @ts-expect-error: a misspelt level
  await carts.get('k', { level: 'quorom' })
  // @ts-expect-error: a misspelt option
  await carts.put('k', Buffer.from('v'), { ttl: 5 })
  // @ts-expect-error: a kind that there is not
  if (new Error() instanceof AnnuletError && ({} as AnnuletError).code === 'Busy') return
}
