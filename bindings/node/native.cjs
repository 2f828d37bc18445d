'use strict'
// Finds the native module: one built here, or the package of this platform.

const { existsSync } = require('node:fs')
const { join } = require('node:path')
const { platform } = require('./platform.cjs')

const name = platform()
const local = join(__dirname, `annulet.${name}.node`)
if (existsSync(local)) {
  module.exports = require(local)
} else {
  try {
    module.exports = require(`annulet-${name}`)
  } catch (cause) {
    const why =
      cause.code === 'MODULE_NOT_FOUND'
        ? `has no native module for ${name}: install the package annulet-${name}, which npm leaves ` +
          'out with --omit=optional'
        : `cannot load its native module for ${name}: ${cause.message}`
    throw new Error(`annulet ${why}`, { cause })
  }
}
