// The clusters that `annulet-scene` has started: `make test-node`.

import { execFile } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { promisify } from 'node:util'

export const scene = JSON.parse(readFileSync(process.env.ANNULET_SCENE, 'utf8'))
export const cases = JSON.parse(readFileSync(scene.cases, 'utf8')).cases
export const profile = scene.profiles.main

/**
 * Sends a signal; a process that is to stop has stopped when this returns. The system stops its
 * threads one after the other, each where it is in a moment.
 */
export function send(process_, name) {
  process.kill(process_, `SIG${name}`)
  const threads = `/proc/${process_}/task`
  // Behind the name, which may have anything in it.
  const state = (thread) => readFileSync(`${threads}/${thread}/stat`, 'utf8').split(') ').at(-1)[0]
  while (name === 'STOP' && !readdirSync(threads).every((thread) => state(thread) === 'T'));
}

/** Does something while the server that is by itself does not answer. */
export async function whileStopped(act) {
  send(scene.servers.lonely, 'STOP')
  try {
    return await act()
  } finally {
    send(scene.servers.lonely, 'CONT')
  }
}

/** Runs a module to its end, which must be a good one, and gives what it printed. */
export async function runScript(script, profile) {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--input-type=module', '--eval', script],
    {
      cwd: import.meta.dirname ?? new URL('.', import.meta.url).pathname,
      env: { ...process.env, ANNULET_PROFILE: profile },
      // Far above what a busy machine needs, so that only what hangs takes so long.
      timeout: 60_000,
    },
  )
  return stdout
}
