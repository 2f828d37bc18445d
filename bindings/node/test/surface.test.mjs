// What the types say is there, and nothing else is.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import * as annulet from 'annulet'
import { profile } from './scene.mjs'

const types = readFileSync(new URL('../index.d.ts', import.meta.url), 'utf8')

/** The options of each interface, its parents' among them. */
const interfaces = new Map()
const declarations = /export interface (\w+)(?: extends ([\w, ]+))? {([^}]*)}/g
for (const [, name, parents = '', body] of types.matchAll(declarations)) {
  const own = [...body.matchAll(/^ {2}(\w+)\?: /gm)].map(([, option]) => option)
  const inherited = parents.split(', ').flatMap((parent) => [...(interfaces.get(parent) ?? [])])
  interfaces.set(name, new Set([...own, ...inherited]))
}

/** The methods of a class, each with the type of its options. */
function declared(name) {
  const [, rest] = types.split(`export declare class ${name} `)
  const body = rest.slice(0, rest.indexOf('\n}'))
  const methods = new Map()
  for (const [, method, parameters] of body.matchAll(/^ {2}(\w+)\(([\s\S]*?)\): /gm)) {
    methods.set(method, /options\?: (\w+)/.exec(parameters)?.[1])
  }
  return methods
}

/** What comes before the options. */
const BEFORE = {
  buckets: [],
  deleteIfVersion: ['k', 'v'],
  getMerged: ['k', () => Buffer.alloc(0)],
  multiDelete: [[]],
  multiGet: [[]],
  multiPut: [[]],
  put: ['k', Buffer.alloc(0)],
  putIfAbsent: ['k', Buffer.alloc(0)],
  putIfVersion: ['k', Buffer.alloc(0), 'v'],
  resolve: ['k', 'name'],
  scan: [],
  scanEntries: [],
  update: ['k', () => null],
}

let client
before(async () => {
  client = await annulet.connect({ profile })
})
after(() => client.close())

test('classes have the methods that their types have, and no others', () => {
  for (const name of ['Client', 'Session', 'Bucket']) {
    const there = Object.getOwnPropertyNames(annulet[name].prototype)
    const methods = there.filter((method) => !['constructor', 'name'].includes(method))
    assert.deepEqual(methods.sort(), [...declared(name).keys()].sort(), name)
  }
})

test('methods take the options that their types have, and no others', async () => {
  let checked = 0
  for (const [of, name] of [[client.bucket('plain'), 'Bucket'], [client, 'Client']]) {
    for (const [method, type] of declared(name)) {
      if (type === undefined) continue
      // The refusal of an option that there is not names those that there are.
      const call = async () => of[method](...(BEFORE[method] ?? ['k']), { nothing: 1 })
      const error = await call().catch((error) => error)
      assert.ok(error instanceof TypeError, `${method}: ${error}`)
      const [, named] = /there are: (.*)$/.exec(error.message)
      assert.deepEqual(named.split(', ').sort(), [...interfaces.get(type)].sort(), method)
      checked += 1
    }
  }
  assert.ok(checked > 15, `${checked}`)
})
