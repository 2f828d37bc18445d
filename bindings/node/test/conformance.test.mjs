// What every language's client does alike, case by case.

import { after, test } from 'node:test'
import { testCases } from './conformance.mjs'
import { cases, scene } from './scene.mjs'

testCases({ test, after }, scene, cases, 'node')
