// The clusters that `annulet-scene` has started: `make test-node`.

import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'

export const scene = JSON.parse(readFileSync(process.env.ANNULET_SCENE, 'utf8'))
export const cases = JSON.parse(readFileSync(scene.cases, 'utf8')).cases
export const profile = scene.profiles.main

/** Does something while the server that is by itself does not answer. */
export async function whileStopped(act) {
  process.kill(scene.servers.lonely, 'SIGSTOP')
  try {
    return await act()
  } finally {
    process.kill(scene.servers.lonely, 'SIGCONT')
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
