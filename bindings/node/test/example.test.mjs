// The example does what it says, by real HTTP.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync, symlinkSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { profile } from './scene.mjs'

const here = fileURLToPath(new URL('.', import.meta.url))

/** The example in a folder of its own, which has the package as a user's would. */
function installed(t) {
  const folder = mkdtempSync(join(tmpdir(), 'annulet-example-'))
  t.after(() => rmSync(folder, { recursive: true }))
  cpSync(join(here, '../../../examples/node/sessions.mjs'), join(folder, 'sessions.mjs'))
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(join(here, '..'), join(folder, 'node_modules', 'annulet'))
  return join(folder, 'sessions.mjs')
}

async function served(example) {
  const env = { ...process.env, ANNULET_PROFILE: profile }
  const child = spawn(process.execPath, [example, '0', 'plain'], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  const { value: line } = await lines.next()
  assert.match(line, /^listening on /)
  const stop = async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGTERM')
    assert.equal((await lines.next()).value, 'goodbye')
    assert.equal(await ended, 0)
  }
  return { base: line.slice('listening on '.length), stop }
}

test('sessions of a web app outlive a server of it', async (t) => {
  const example = installed(t)
  let cookie = ''
  const ask = async (base, path, form) => {
    const headers = { cookie, connection: 'close' }
    const given = form === undefined ? {} : { method: 'POST', body: new URLSearchParams(form) }
    const answer = await fetch(base + path, { headers, ...given })
    cookie = answer.headers.get('set-cookie')?.split(';')[0] ?? cookie
    return [answer.status, await answer.text()]
  }
  const first = await served(example)
  assert.deepEqual(await ask(first.base, '/'), [401, 'who are you?'])
  assert.deepEqual(await ask(first.base, '/login', { name: 'Ada' }), [200, 'welcome'])
  assert.deepEqual(await ask(first.base, '/'), [200, 'hello Ada'])
  assert.deepEqual(await ask(first.base, '/nowhere', {}), [404, 'there is no such page'])
  await first.stop()
  const second = await served(example)
  assert.deepEqual(await ask(second.base, '/'), [200, 'hello Ada'])
  assert.deepEqual(await ask(second.base, '/logout', {}), [200, 'goodbye'])
  assert.deepEqual(await ask(second.base, '/'), [401, 'who are you?'])
  await second.stop()
})
