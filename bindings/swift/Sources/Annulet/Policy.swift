internal import AnnuletCore

/// How many replicas must answer before an operation is done.
public struct Level: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// Its name, the same in every language.
    public let rawValue: String

    /// A level by its name. What names none is told by the operation that is given it.
    public init(rawValue: String) {
        self.rawValue = rawValue
    }

    /// One replica: quickest, and promises nothing of how old a value may be that is read.
    public static let one = Level(rawValue: "one")
    /// A majority of all owners.
    public static let quorum = Level(rawValue: "quorum")
    /// All owners.
    public static let all = Level(rawValue: "all")
    /// A majority in the client's region.
    public static let localQuorum = Level(rawValue: "local_quorum")
    /// A majority in every region.
    public static let eachQuorum = Level(rawValue: "each_quorum")
    /// Whoever can be reached: a write succeeds also where no owner can be.
    public static let available = Level(rawValue: "available")

    /// So many replicas of a read, so many of a write.
    public static func explicit(read: Int, write: Int) -> Level {
        Level(rawValue: "r=\(read),w=\(write)")
    }

    public var description: String { rawValue }
}

/// What becomes of concurrent writes of one key.
public struct Mode: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// Its name, the same in every language.
    public let rawValue: String

    /// A mode by its name.
    public init(rawValue: String) {
        self.rawValue = rawValue
    }

    /// The last write wins.
    public static let lww = Mode(rawValue: "lww")
    /// They stand beside each other until they are merged.
    public static let siblings = Mode(rawValue: "siblings")
    /// One comes after the other: the bucket is linearizable.
    public static let strong = Mode(rawValue: "strong")

    public var description: String { rawValue }
}

/// When a write is acknowledged.
public struct Durability: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// Its name, the same in every language.
    public let rawValue: String

    /// A durability by its name.
    public init(rawValue: String) {
        self.rawValue = rawValue
    }

    /// Once it is on the disks, of many writes together.
    public static let group = Durability(rawValue: "group")
    /// Once the servers have it.
    public static let async = Durability(rawValue: "async")

    public var description: String { rawValue }
}

/// What readers make of concurrent values by themselves.
public struct Merge: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// Its name, the same in every language.
    public let rawValue: String

    /// A merge by its name.
    public init(rawValue: String) {
        self.rawValue = rawValue
    }

    /// All elements of all sets.
    public static let union = Merge(rawValue: "union")
    /// The largest.
    public static let max = Merge(rawValue: "max")
    /// The sum of what was counted.
    public static let counter = Merge(rawValue: "counter")
    /// The one written last.
    public static let lww = Merge(rawValue: "lww")

    public var description: String { rawValue }
}

/// A bucket of a cluster.
public struct BucketPolicy: Hashable, Sendable {
    /// Its name.
    public let name: String
    /// What becomes of concurrent writes.
    public let mode: Mode
    /// Owners of each key in each region.
    public let replicas: Int
    /// When a write is acknowledged.
    public let durability: Durability
    /// Level of reads that name none.
    public let readLevel: Level
    /// Level of writes that name none.
    public let writeLevel: Level
    /// How long a value lives if its writer does not say; `nil`: for good.
    public let ttl: Duration?
    /// What readers make of concurrent values; `nil`: they stand until the application merges them.
    public let merge: Merge?
}

extension BucketPolicy {
    init(_ native: AnnuletCore.BucketPolicy) {
        name = native.name
        mode = Mode(rawValue: native.mode)
        replicas = Int(native.replicas)
        durability = Durability(rawValue: native.durability)
        readLevel = Level(rawValue: native.readLevel)
        writeLevel = Level(rawValue: native.writeLevel)
        ttl = native.ttlMs.map { .milliseconds($0) }
        merge = native.merge.map(Merge.init(rawValue:))
    }
}
