internal import AnnuletCore
import Foundation

/// Connects to the cluster of a profile. Connect once in a program and keep the client.
///
/// ```swift
/// let client = try await Annulet.connect()
/// let carts = client.bucket("default")
/// try await carts.put("user:1", Data("three apples".utf8))
/// await client.shutdown()
/// ```
///
/// - Parameters:
///   - profile: The profile's file; else the one that `ANNULET_PROFILE` names, else
///     `.annulet/profile.toml` here or above.
///   - timeout: How long an operation may take that names no timeout, at most 10 minutes.
///   - level: The level of operations that name none; else the bucket's.
///   - zone: The client's zone, in place of the profile's.
///   - region: The client's region, in place of the profile's.
///   - connectionsMax: The most connections that are open at a time.
///   - idleAfter: How long a connection stays open that nobody uses, at least a second.
///   - checkOneIn: One read at level ``Level/one`` in so many looks whether the other owners agree;
///     0: none.
/// - Throws: ``AnnuletError`` of kind `invalidInput` if an option or the profile cannot be used,
///   `unavailable` if no server can be reached, `unauthorized` if they do not accept the profile.
public func connect(
    profile: String? = nil, timeout: Duration? = nil, level: Level? = nil, zone: String? = nil,
    region: String? = nil, connectionsMax: Int? = nil, idleAfter: Duration? = nil,
    checkOneIn: Int? = nil
) async throws -> Client {
    let options = ConnectOptions(
        profile: profile, timeoutMs: timeout?.milliseconds, level: level?.rawValue, zone: zone,
        region: region, connectionsMax: connectionsMax.map(Int64.init),
        idleAfterMs: idleAfter?.milliseconds, checkOneIn: checkOneIn.map(Int64.init))
    return Client(try await run { try await AnnuletCore.connect(token: $0, options: options) })
}

/// A client of one cluster, for any number of tasks at a time.
public final class Client: Sendable {
    private let native: AnnuletCore.Client

    init(_ native: AnnuletCore.Client) {
        self.native = native
    }

    /// A bucket. Asks no server: one that does not exist is found out by the first call.
    public func bucket(_ name: String) -> Bucket {
        Bucket(native.bucket(name: name), name: name)
    }

    /// Somebody who is never shown anything older than what they have written or seen.
    public func session() -> Session {
        Session(native.session())
    }

    /// A session that goes on from ``Session/toBytes()`` of another one.
    ///
    /// - Throws: ``AnnuletError`` of kind `invalidInput` if the token is none.
    public func session(from token: Data) throws -> Session {
        Session(try given { try native.sessionFrom(token: token) })
    }

    /// Makes a bucket. Needs the role `admin`.
    ///
    /// - Parameters:
    ///   - name: Its name, 1 to 64 characters.
    ///   - mode: What becomes of concurrent writes; else ``Mode/lww``.
    ///   - replicas: Owners of each key in each region, 1 to 7; else 3.
    ///   - durability: When a write is acknowledged; else ``Durability/group``.
    ///   - readLevel: Level of reads that name none; else ``Level/quorum``.
    ///   - writeLevel: Level of writes that name none; else ``Level/quorum``.
    ///   - ttl: How long a value lives if its writer does not say; else for good.
    ///   - merge: What readers make of concurrent values by themselves.
    /// - Returns: The bucket as it is.
    @discardableResult
    public func createBucket(
        _ name: String, mode: Mode? = nil, replicas: Int? = nil, durability: Durability? = nil,
        readLevel: Level? = nil, writeLevel: Level? = nil, ttl: Duration? = nil,
        merge: Merge? = nil
    ) async throws -> BucketPolicy {
        let options = BucketOptions(
            mode: mode?.rawValue, replicas: replicas.map(Int64.init),
            durability: durability?.rawValue, readLevel: readLevel?.rawValue,
            writeLevel: writeLevel?.rawValue, ttlMs: ttl?.milliseconds, merge: merge?.rawValue)
        let made = try await run {
            try await self.native.createBucket(token: $0, name: name, options: options)
        }
        return BucketPolicy(made)
    }

    /// Changes a bucket's policy; what is not given stays, and a `ttl` of `.forever` takes it away.
    /// Needs the role `admin`.
    ///
    /// - Returns: The bucket as it is now.
    @discardableResult
    public func setBucket(
        _ name: String, readLevel: Level? = nil, writeLevel: Level? = nil, ttl: Duration? = nil
    ) async throws -> BucketPolicy {
        let changes = BucketChanges(
            readLevel: readLevel?.rawValue, writeLevel: writeLevel?.rawValue,
            ttlMs: ttl?.milliseconds)
        let set = try await run {
            try await self.native.setBucket(token: $0, name: name, changes: changes)
        }
        return BucketPolicy(set)
    }

    /// Deletes a bucket with all that is in it, for good. Needs the role `admin`.
    public func deleteBucket(_ name: String) async throws {
        try await run { try await self.native.deleteBucket(token: $0, name: name) }
    }

    /// The buckets of the cluster.
    public func buckets() async throws -> [BucketPolicy] {
        try await run { try await self.native.buckets(token: $0) }.map(BucketPolicy.init)
    }

    /// What this client has done so far, by names.
    public func statistics() throws -> [String: UInt64] {
        try given { try native.statistics() }
    }

    /// Ends the client: later calls throw an error of kind `closed`, calls under way go on to their
    /// end. A second call does nothing.
    public func shutdown() async {
        // Nothing can be done about what fails here, and nothing needs to be.
        _ = try? await native.shutdown(token: Token())
    }
}

/// A session of a client.
public final class Session: Sendable {
    private let native: AnnuletCore.Session

    init(_ native: AnnuletCore.Session) {
        self.native = native
    }

    /// A bucket in which this session reads and writes.
    public func bucket(_ name: String) -> Bucket {
        Bucket(native.bucket(name: name), name: name)
    }

    /// What another process needs to go on, at most 64 KiB, for ``Client/session(from:)``.
    public func toBytes() async throws -> Data {
        try await run { try await self.native.toBytes(token: $0) }
    }
}
