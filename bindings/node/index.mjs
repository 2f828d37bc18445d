// The same classes for `import`, so that both ways of loading share one set of connections.
export {
  AnnuletError,
  Bucket,
  BucketPolicy,
  Client,
  Entry,
  Scan,
  ScanEntry,
  Session,
  Written,
  connect,
} from './index.cjs'
