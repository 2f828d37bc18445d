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
    throw new Error(
      `annulet has no native module for ${name}: install the package annulet-${name}, which npm ` +
        'leaves out with --omit=optional',
      { cause },
    )
  }
}
