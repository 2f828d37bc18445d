'use strict'

/** The platform as npm packages name it: system, processor, and on Linux the C library. */
function platform() {
  const { platform, arch } = process
  if (platform !== 'linux') return `${platform}-${arch}`
  // Without it the names of all open sockets would be looked up.
  const { excludeNetwork } = process.report
  process.report.excludeNetwork = true
  const { header } = process.report.getReport()
  process.report.excludeNetwork = excludeNetwork
  return `${platform}-${arch}-${header.glibcVersionRuntime ? 'gnu' : 'musl'}`
}

module.exports = { platform }
