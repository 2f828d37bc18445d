/// <reference types="node" />

/**
 * Annulet, a distributed key-value store whose consistency is chosen per bucket and per request.
 *
 * ```js
 * const client = await connect()
 * const carts = client.bucket('default')
 * await carts.put('user:1', Buffer.from('three apples'))
 * const entry = await carts.get('user:1')
 * await client.close()
 * ```
 */

/** A key: a string, which stands for its UTF-8, or bytes; 1 to 4,096 of them. */
export type Key = string | Uint8Array

/** How many replicas must answer: a name, or explicit as `r=2,w=2`. */
export type Level =
  | 'one'
  | 'quorum'
  | 'all'
  | 'local_quorum'
  | 'each_quorum'
  | 'available'
  | `r=${number},w=${number}`

/** What becomes of concurrent writes. */
export type Mode = 'lww' | 'siblings' | 'strong'
/** When a write is acknowledged. */
export type Durability = 'group' | 'async'
/** What readers make of concurrent values by themselves. */
export type Merge = 'union' | 'max' | 'counter' | 'lww'

/** What a caller can do about an error; see `AnnuletError`. */
export type ErrorCode =
  | 'InvalidInput'
  | 'Conflict'
  | 'Unavailable'
  | 'Timeout'
  | 'Overloaded'
  | 'Unauthorized'
  | 'Closed'
  | 'Internal'

/**
 * An operation that failed.
 *
 * | code | what to do |
 * |---|---|
 * | `InvalidInput` | change the request |
 * | `Conflict` | read again, then decide anew |
 * | `Unavailable` | try again later, or at a lower level |
 * | `Timeout` | try again, or give it more time |
 * | `Overloaded` | try again later and slower |
 * | `Unauthorized` | change the profile |
 * | `Closed` | connect a new client |
 * | `Internal` | report it |
 *
 * A wrong type is a `TypeError`.
 */
export declare class AnnuletError extends Error {
  private constructor()
  readonly name: 'AnnuletError'
  readonly code: ErrorCode
  /** What became of a write: never applied, or perhaps; `null` of anything but writes. */
  readonly outcome: 'not_applied' | 'unknown' | null
  /** Whether the same call may succeed later. */
  readonly retryable: boolean
  /** The name of a write of unknown outcome, for `Bucket.resolve`. */
  readonly opId: string | null
}

/** A value that was found. */
export declare class Entry {
  private constructor()
  /** The value. Of concurrent values that stand unmerged, the one written last. */
  readonly value: Buffer
  /** All concurrent values. */
  readonly siblings: Buffer[]
  /** Whether `value` is all there is. */
  readonly isMerged: boolean
  /** What was seen, to be handed back with the next write, in a bucket of mode `siblings`. */
  readonly context: Buffer
  readonly version: string
  /** When it expires, in milliseconds since 1970; `null`: never. */
  readonly expiresAtMs: number | null
}

/** A write that was done. */
export declare class Written {
  private constructor()
  readonly version: string
  /** Whether a newer version was there already, so that readers see that one. */
  readonly superseded: boolean
  /** What to hand back with the next write; `null` where other values stand beside this one. */
  readonly context: Buffer | null
  /** How many concurrent values there are now, in a bucket of mode `siblings`. */
  readonly siblings: number
}

/** A key that a scan found. */
export declare class ScanEntry {
  private constructor()
  readonly key: Buffer
  /** Its value; `null` in a scan of keys. */
  readonly value: Buffer | null
  readonly version: string
  readonly expiresAtMs: number | null
}

/** A bucket of a cluster. */
export declare class BucketPolicy {
  private constructor()
  readonly name: string
  readonly mode: Mode
  readonly replicas: number
  readonly durability: Durability
  readonly readLevel: Level
  readonly writeLevel: Level
  /** How long a value lives if its writer does not say; `null`: for good. */
  readonly ttlMs: number | null
  readonly merge: Merge | null
}

export interface CallOptions {
  /** Gives the call up when it is aborted; a write may have been applied all the same. */
  signal?: AbortSignal | undefined
}

export interface TimedOptions extends CallOptions {
  /** How long the call may take, 1 to 600,000. */
  timeoutMs?: number | undefined
}

export interface LevelOptions extends TimedOptions {
  level?: Level | undefined
}

export interface ReadOptions extends LevelOptions {
  /** In a strong bucket: what any one owner has, which is quick and may be old. */
  stale?: boolean | undefined
}

export interface ExpiryOptions {
  /** How long the value lives; `Infinity`: until it is overwritten or deleted. */
  ttlMs?: number | undefined
  /** When it expires, in milliseconds since 1970. Not together with `ttlMs`. */
  expiresAtMs?: number | Date | undefined
}

export interface WriteOptions extends LevelOptions, ExpiryOptions {
  /** What a read or a write of this key gave, in a bucket of mode `siblings`. */
  context?: Uint8Array | null | undefined
}

export interface DeleteOptions extends LevelOptions {
  context?: Uint8Array | null | undefined
}

export interface TouchOptions extends LevelOptions, ExpiryOptions {}
export interface ConditionOptions extends TimedOptions, ExpiryOptions {}

export interface ScanOptions extends LevelOptions {
  /** Entries that are fetched at a time, at most 1,024. */
  pageEntries?: number | undefined
  /** Where to begin: the cursor of an earlier scan. */
  cursor?: string | undefined
}

export interface CreateBucketOptions extends CallOptions {
  mode?: Mode | undefined
  replicas?: number | undefined
  durability?: Durability | undefined
  readLevel?: Level | undefined
  writeLevel?: Level | undefined
  ttlMs?: number | undefined
  merge?: Merge | undefined
}

export interface SetBucketOptions extends CallOptions {
  readLevel?: Level | undefined
  writeLevel?: Level | undefined
  ttlMs?: number | undefined
}

export interface ConnectOptions extends CallOptions {
  /** The profile's file; else `$ANNULET_PROFILE`, else `.annulet/profile.toml` here or above. */
  profile?: string | undefined
  /** How long an operation may take that names no timeout. */
  timeoutMs?: number | undefined
  /** The level of operations that name none. */
  level?: Level | undefined
  zone?: string | undefined
  region?: string | undefined
  connectionsMax?: number | undefined
  idleAfterMs?: number | undefined
  /** One read at level `one` in so many looks whether the other owners agree; 0: none. */
  checkOneIn?: number | undefined
}

/**
 * Connects to the cluster of a profile. Connect once in a program and keep the client.
 */
export declare function connect(options?: ConnectOptions): Promise<Client>

/** A client of one cluster. */
export declare class Client implements AsyncDisposable {
  private constructor()
  /** A bucket. Asks no server: one that does not exist is found out by the first call. */
  bucket(name: string): Bucket
  /** Somebody who is never shown anything older than what they have written or seen. */
  session(): Session
  /** A session that goes on from `toBytes` of another one. */
  sessionFrom(token: Uint8Array): Session
  /** Makes a bucket. Needs the role `admin`. */
  createBucket(name: string, options?: CreateBucketOptions): Promise<BucketPolicy>
  /** Changes a bucket's policy. Needs the role `admin`. */
  setBucket(name: string, options?: SetBucketOptions): Promise<BucketPolicy>
  /** Deletes a bucket with all that is in it, for good. Needs the role `admin`. */
  deleteBucket(name: string, options?: CallOptions): Promise<void>
  /** The buckets of the cluster. */
  buckets(options?: CallOptions): Promise<BucketPolicy[]>
  /** What this client has done so far, by names. */
  statistics(): Record<string, number>
  /** Ends the client: later calls are rejected as `Closed`, calls under way go on to their end. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** A session of a client. */
export declare class Session {
  private constructor()
  /** A bucket in which this session reads and writes. */
  bucket(name: string): Bucket
  /** What another process needs to go on, at most 64 KiB. */
  toBytes(options?: CallOptions): Promise<Buffer>
}

/** A bucket of a cluster. */
export declare class Bucket {
  private constructor()
  readonly name: string
  /** The entry under a key; `null` if there is none or it has expired. */
  get(key: Key, options?: ReadOptions): Promise<Entry | null>
  /**
   * As `get` in a bucket of mode `siblings`; where concurrent values stand unmerged, `resolve` is
   * called with all of them and gives the entry's value.
   */
  getMerged(
    key: Key,
    resolve: (values: Buffer[]) => Uint8Array | Promise<Uint8Array>,
    options?: LevelOptions,
  ): Promise<Entry | null>
  /** Whether a key has a value that has not expired. The value is not sent. */
  exists(key: Key, options?: ReadOptions): Promise<boolean>
  /** Stores a value under a key, in place of what was there. */
  put(key: Key, value: Uint8Array, options?: WriteOptions): Promise<Written>
  /** Removes what is under a key. Removing what is not there is no error. */
  delete(key: Key, options?: DeleteOptions): Promise<Written>
  /** Gives a value a new time to live without sending it; `null` if there is no value. */
  touch(key: Key, options?: TouchOptions): Promise<Written | null>
  /** Stores a value in place of one of this version, in a strong bucket. */
  putIfVersion(
    key: Key,
    value: Uint8Array,
    version: string,
    options?: ConditionOptions,
  ): Promise<Written>
  /** Stores a value under a key that has none, in a strong bucket. */
  putIfAbsent(key: Key, value: Uint8Array, options?: ConditionOptions): Promise<Written>
  /** Removes a value of this version, in a strong bucket. */
  deleteIfVersion(key: Key, version: string, options?: TimedOptions): Promise<Written>
  /**
   * Changes a value by a function of it, in a strong bucket: `change` is called anew with the
   * newest value until nobody else changed it meanwhile. `null` stands for no value, before and
   * after. The timeout is for all tries together.
   */
  update(
    key: Key,
    change: (value: Buffer | null) => Uint8Array | null | Promise<Uint8Array | null>,
    options?: ConditionOptions,
  ): Promise<Written | null>
  /** What became of a write of unknown outcome in a strong bucket. */
  resolve(
    key: Key,
    opId: string,
    options?: CallOptions,
  ): Promise<{ outcome: 'applied' | 'not_applied' | 'forgotten'; version: string | null }>
  /** Gets many keys: an entry, `null` or an error for each, in order. */
  multiGet(keys: Iterable<Key>, options?: ReadOptions): Promise<(Entry | AnnuletError | null)[]>
  /** Puts many values: what was written or an error for each, in order. */
  multiPut(
    entries: Iterable<readonly [Key, Uint8Array]>,
    options?: TouchOptions,
  ): Promise<(Written | AnnuletError)[]>
  /** Deletes many keys: what was written or an error for each, in order. */
  multiDelete(keys: Iterable<Key>, options?: LevelOptions): Promise<(Written | AnnuletError)[]>
  /** Goes through all keys of the bucket. */
  scan(options?: ScanOptions): Scan<Buffer>
  /** Goes through all keys of the bucket with their values. */
  scanEntries(options?: ScanOptions): Scan<ScanEntry>
}

/**
 * A scan. It is no snapshot: a key that is there throughout comes exactly once, one that is written
 * or deleted meanwhile may come or not.
 */
export declare class Scan<T> implements AsyncIterableIterator<T> {
  private constructor()
  /**
   * Where a later scan of this bucket goes on: at the page that this one is in the middle of, of
   * which all comes again, what was given of it too. `null`: at the beginning, or everything was
   * given: see `isOver`.
   */
  readonly cursor: string | null
  /** Whether everything was given. */
  readonly isOver: boolean
  next(): Promise<IteratorResult<T, undefined>>
  return(): Promise<IteratorResult<T, undefined>>
  [Symbol.asyncIterator](): this
}
