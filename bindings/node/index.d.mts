// The same types for `import`, which has no default export.
export * from './index.js'
