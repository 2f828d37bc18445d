internal import AnnuletCore
import Foundation

/// A bucket of a cluster, for any number of tasks at a time.
///
/// Every operation throws an ``AnnuletError``, or a `CancellationError` when its task is cancelled:
/// nothing more is sent for it then, but a write may have been applied all the same.
/// A `timeout` is for the call as a whole, tries included: 1 ms to 10 minutes.
public final class Bucket: Sendable {
    /// Its name.
    public let name: String
    private let native: AnnuletCore.Bucket

    init(_ native: AnnuletCore.Bucket, name: String) {
        self.native = native
        self.name = name
    }

    /// The entry under a key; `nil` if there is none or it has expired.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - level: How many replicas must answer; else the client's or the bucket's.
    ///   - timeout: How long the call may take.
    ///   - stale: In a strong bucket: what any one owner has, which is quick and may be old.
    public func get(
        _ key: some Key, level: Level? = nil, timeout: Duration? = nil, stale: Bool = false
    ) async throws -> Entry? {
        let (key, options) = (key.keyBytes, reading(level, timeout, stale))
        let found = try await run {
            try await self.native.get(token: $0, key: key, options: options)
        }
        return found.map(Entry.init)
    }

    /// As ``get(_:level:timeout:stale:)`` in a bucket of mode `siblings`; where concurrent values
    /// stand unmerged, `resolve` is called with all of them and gives the entry's value.
    ///
    /// ```swift
    /// let cart = try await carts.getMerged("user:1") { $0.max { $0.count < $1.count }! }
    /// ```
    public func getMerged(
        _ key: some Key, level: Level? = nil, timeout: Duration? = nil,
        isolation: isolated (any Actor)? = #isolation,
        resolve: ([Data]) async throws -> Data
    ) async throws -> Entry? {
        let (key, options) = (key.keyBytes, reading(level, timeout, false))
        let native = native
        let merging = try await run {
            try await native.beginMerge(token: $0, key: key, options: options)
        }
        var merged: Data?
        if let values = merging.unmerged() {
            merged = try await resolve(values)
        }
        return try given { try merging.finish(merged: merged) }.map(Entry.init)
    }

    /// Whether a key has a value that has not expired. The value is not sent.
    public func exists(
        _ key: some Key, level: Level? = nil, timeout: Duration? = nil, stale: Bool = false
    ) async throws -> Bool {
        let (key, options) = (key.keyBytes, reading(level, timeout, stale))
        return try await run {
            try await self.native.exists(token: $0, key: key, options: options)
        }
    }

    /// Stores a value under a key, in place of what was there.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - value: The value, up to 16 MiB unless the cluster is set up for more.
    ///   - ttl: How long the value lives, or `.forever`; else as the bucket says.
    ///   - expiresAt: When it expires. Not together with `ttl`.
    ///   - context: What a read or a write of this key gave, in a bucket of mode `siblings`.
    ///   - level: How many replicas must answer; else the client's or the bucket's.
    ///   - timeout: How long the call may take.
    @discardableResult
    public func put(
        _ key: some Key, _ value: Data, ttl: Duration? = nil, expiresAt: Date? = nil,
        context: Data? = nil, level: Level? = nil, timeout: Duration? = nil
    ) async throws -> Written {
        let key = key.keyBytes
        try checkFits([key.count, value.count, context?.count ?? 0])
        let options = writing(level, timeout, ttl, expiresAt, context: context)
        let written = try await run {
            try await self.native.put(token: $0, key: key, value: value, options: options)
        }
        return Written(written)
    }

    /// Removes what is under a key. Removing what is not there is no error.
    @discardableResult
    public func delete(
        _ key: some Key, context: Data? = nil, level: Level? = nil, timeout: Duration? = nil
    ) async throws -> Written {
        let key = key.keyBytes
        let options = writing(level, timeout, context: context)
        let written = try await run {
            try await self.native.delete(token: $0, key: key, options: options)
        }
        return Written(written)
    }

    /// Gives a value a new time to live without sending it; `nil` if there is no value.
    @discardableResult
    public func touch(
        _ key: some Key, ttl: Duration? = nil, expiresAt: Date? = nil, level: Level? = nil,
        timeout: Duration? = nil
    ) async throws -> Written? {
        let (key, options) = (key.keyBytes, writing(level, timeout, ttl, expiresAt))
        let written = try await run {
            try await self.native.touch(token: $0, key: key, options: options)
        }
        return written.map(Written.init)
    }

    /// Stores a value in place of one of this version, in a strong bucket.
    ///
    /// - Throws: ``AnnuletError`` of kind `conflict` if another version is there.
    @discardableResult
    public func putIfVersion(
        _ key: some Key, _ value: Data, _ version: String, ttl: Duration? = nil,
        expiresAt: Date? = nil, timeout: Duration? = nil
    ) async throws -> Written {
        let (key, options) = (key.keyBytes, writing(nil, timeout, ttl, expiresAt))
        try checkFits([key.count, value.count])
        let written = try await run {
            try await self.native.putIfVersion(
                token: $0, key: key, value: value, version: version, options: options)
        }
        return Written(written)
    }

    /// Stores a value under a key that has none, in a strong bucket.
    ///
    /// - Throws: ``AnnuletError`` of kind `conflict` if there is a value.
    @discardableResult
    public func putIfAbsent(
        _ key: some Key, _ value: Data, ttl: Duration? = nil, expiresAt: Date? = nil,
        timeout: Duration? = nil
    ) async throws -> Written {
        let (key, options) = (key.keyBytes, writing(nil, timeout, ttl, expiresAt))
        try checkFits([key.count, value.count])
        let written = try await run {
            try await self.native.putIfAbsent(
                token: $0, key: key, value: value, options: options)
        }
        return Written(written)
    }

    /// Removes a value of this version, in a strong bucket.
    ///
    /// - Throws: ``AnnuletError`` of kind `conflict` if another version is there.
    @discardableResult
    public func deleteIfVersion(
        _ key: some Key, _ version: String, timeout: Duration? = nil
    ) async throws -> Written {
        let (key, options) = (key.keyBytes, writing(nil, timeout))
        let written = try await run {
            try await self.native.deleteIfVersion(
                token: $0, key: key, version: version, options: options)
        }
        return Written(written)
    }

    /// Changes a value by a function of it, in a strong bucket.
    ///
    /// `change` is called anew with the newest value until nobody else changed it meanwhile. `nil`
    /// stands for no value, before and after. The timeout is for all tries together.
    ///
    /// ```swift
    /// try await counts.update("visits") { old in
    ///     let count = old.flatMap { Int(String(decoding: $0, as: UTF8.self)) } ?? 0
    ///     return Data("\(count + 1)".utf8)
    /// }
    /// ```
    ///
    /// - Returns: What was written; `nil` if there was no value and there is to be none.
    @discardableResult
    public func update(
        _ key: some Key, ttl: Duration? = nil, expiresAt: Date? = nil, timeout: Duration? = nil,
        isolation: isolated (any Actor)? = #isolation,
        _ change: (Data?) async throws -> Data?
    ) async throws -> Written? {
        let (key, options) = (key.keyBytes, writing(nil, timeout, ttl, expiresAt))
        let native = native
        let update = try await run {
            try await native.beginUpdate(token: $0, key: key, options: options)
        }
        while true {
            let found = try await run { try await update.value(token: $0) }
            let next = try await change(found?.value)
            let committed = try await run { try await update.commit(token: $0, value: next) }
            if case .done(let written) = committed {
                return written.map(Written.init)
            }
        }
    }

    /// What became of a write of unknown outcome in a strong bucket.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - operationID: What the error of the write said, see ``AnnuletError/operationID``.
    public func resolve(_ key: some Key, operationID: String) async throws -> Resolution {
        let key = key.keyBytes
        let resolved = try await run {
            try await self.native.resolve(token: $0, key: key, opId: operationID)
        }
        return Resolution(resolved)
    }

    /// Gets many keys: an entry, `nil` or an error for each, in order.
    ///
    /// - Throws: What concerns the call as a whole, as an option that cannot be; what concerns a key
    ///   stands in its result.
    public func multiGet(
        _ keys: some Sequence<some Key>, level: Level? = nil, timeout: Duration? = nil,
        stale: Bool = false
    ) async throws -> [Result<Entry?, AnnuletError>] {
        let (keys, options) = (keys.map(\.keyBytes), reading(level, timeout, stale))
        let each = try await run {
            try await self.native.multiGet(token: $0, keys: keys, options: options)
        }
        return each.map { one in
            switch one {
            case .done(let entry): .success(entry.map(Entry.init))
            case .failed(let problem): .failure(AnnuletError(problem))
            }
        }
    }

    /// Puts many values: what was written or an error for each, in order. Two values for one key
    /// end as the later of the two.
    ///
    /// - Throws: What concerns the call as a whole, as an option that cannot be; what concerns a key
    ///   stands in its result. Of a call that was cancelled any value may have been stored.
    @discardableResult
    public func multiPut(
        _ entries: some Sequence<(some Key, Data)>, ttl: Duration? = nil, expiresAt: Date? = nil,
        level: Level? = nil, timeout: Duration? = nil
    ) async throws -> [Result<Written, AnnuletError>] {
        let pairs = entries.map { key, value in Pair(key: key.keyBytes, value: value) }
        try checkFits(pairs.lazy.map { $0.key.count + $0.value.count })
        let options = writing(level, timeout, ttl, expiresAt)
        return results(
            try await run {
                try await self.native.multiPut(token: $0, entries: pairs, options: options)
            })
    }

    /// Puts the values of a dictionary, see ``multiPut(_:ttl:expiresAt:level:timeout:)``: what was
    /// written or an error for each, in the dictionary's order.
    @discardableResult
    public func multiPut<K: Key>(
        _ entries: some Sequence<(key: K, value: Data)>, ttl: Duration? = nil,
        expiresAt: Date? = nil, level: Level? = nil, timeout: Duration? = nil
    ) async throws -> [Result<Written, AnnuletError>] {
        try await multiPut(
            entries.map { ($0.key, $0.value) }, ttl: ttl, expiresAt: expiresAt, level: level,
            timeout: timeout)
    }

    /// Deletes many keys: what was written or an error for each, in order.
    ///
    /// - Throws: What concerns the call as a whole, as an option that cannot be; what concerns a key
    ///   stands in its result.
    @discardableResult
    public func multiDelete(
        _ keys: some Sequence<some Key>, level: Level? = nil, timeout: Duration? = nil
    ) async throws -> [Result<Written, AnnuletError>] {
        let (keys, options) = (keys.map(\.keyBytes), writing(level, timeout))
        return results(
            try await run {
                try await self.native.multiDelete(token: $0, keys: keys, options: options)
            })
    }

    /// Goes through all keys of the bucket.
    ///
    /// - Parameters:
    ///   - pageEntries: How many are fetched at a time, at most 1,024.
    ///   - cursor: Where to begin, see ``Scan/cursor``.
    ///   - level: How many replicas must answer; else the client's or the bucket's.
    ///   - timeout: How long each request for a part of a page may take.
    public func scan(
        pageEntries: Int? = nil, cursor: String? = nil, level: Level? = nil,
        timeout: Duration? = nil
    ) -> Scan<Data> {
        let options = scanning(true, pageEntries, cursor, level, timeout)
        return Scan(native, options) { $0.key }
    }

    /// Goes through all keys of the bucket with their values, see
    /// ``scan(pageEntries:cursor:level:timeout:)``.
    public func scanEntries(
        pageEntries: Int? = nil, cursor: String? = nil, level: Level? = nil,
        timeout: Duration? = nil
    ) -> Scan<ScanEntry> {
        let options = scanning(false, pageEntries, cursor, level, timeout)
        return Scan(native, options) { ScanEntry($0) }
    }
}

/// What crosses over to the native library is counted in 32 bits there; more ends the program.
private func checkFits(_ counts: some Sequence<Int>) throws {
    let most = 1 << 30
    let bytes = counts.reduce(0, +)
    if bytes > most {
        throw AnnuletError(
            .invalidInput,
            "\(bytes) bytes in one call: a value has 16777216 unless the cluster is set up for more,"
                + " and several go in calls of at most \(most)",
            outcome: .notApplied)
    }
}

private func reading(_ level: Level?, _ timeout: Duration?, _ stale: Bool) -> ReadOptions {
    ReadOptions(level: level?.rawValue, timeoutMs: timeout?.milliseconds, stale: stale)
}

private func writing(
    _ level: Level?, _ timeout: Duration?, _ ttl: Duration? = nil, _ expiresAt: Date? = nil,
    context: Data? = nil
) -> WriteOptions {
    WriteOptions(
        level: level?.rawValue, timeoutMs: timeout?.milliseconds, ttlMs: ttl?.milliseconds,
        expiresAtMs: expiresAt?.milliseconds, context: context)
}

private func scanning(
    _ keysOnly: Bool, _ pageEntries: Int?, _ cursor: String?, _ level: Level?, _ timeout: Duration?
) -> ScanOptions {
    ScanOptions(
        keysOnly: keysOnly, pageEntries: pageEntries.map(Int64.init), cursor: cursor,
        level: level?.rawValue, timeoutMs: timeout?.milliseconds)
}

private func results(_ each: [Write]) -> [Result<Written, AnnuletError>] {
    each.map { one in
        switch one {
        case .done(let written): .success(Written(written))
        case .failed(let problem): .failure(AnnuletError(problem))
        }
    }
}
