internal import AnnuletCore
import Foundation

/// A value that was found.
public struct Entry: Hashable, Sendable {
    /// The value. Of concurrent values that stand unmerged, the one written last: look at
    /// ``siblings`` before it is taken for all there is.
    public let value: Data
    /// All concurrent values; one where there is no conflict.
    public let siblings: [Data]
    /// Whether ``value`` is all there is: there is one value, or they were merged.
    public let isMerged: Bool
    /// What was seen, to be handed back with the next write; empty outside of mode `siblings`.
    public let context: Data
    /// Its version, opaque: two reads of one version give one value.
    public let version: String
    /// When it expires; `nil`: never.
    public let expiresAt: Date?

    /// An entry, for tests of what handles it.
    public init(
        value: Data, siblings: [Data]? = nil, isMerged: Bool = true, context: Data = Data(),
        version: String = "", expiresAt: Date? = nil
    ) {
        self.value = value
        self.siblings = siblings ?? [value]
        self.isMerged = isMerged
        self.context = context
        self.version = version
        self.expiresAt = expiresAt
    }
}

/// A write that was done.
public struct Written: Hashable, Sendable {
    /// The version written, opaque; empty for a delete of concurrent values, which leaves none.
    public let version: String
    /// Whether a newer version was there already, so that readers see that one. It happens when
    /// two clients write one key at the same time, or their clocks differ.
    public let isSuperseded: Bool
    /// In a bucket of mode `siblings`: what to hand back with the next write. `nil` where other
    /// values stand beside this one: read the key first.
    public let context: Data?
    /// In a bucket of mode `siblings`: how many concurrent values there are now.
    public let siblings: Int

    /// A write, for tests of what handles it.
    public init(
        version: String, isSuperseded: Bool = false, context: Data? = nil, siblings: Int = 0
    ) {
        self.version = version
        self.isSuperseded = isSuperseded
        self.context = context
        self.siblings = siblings
    }
}

/// A key that a scan found.
public struct ScanEntry: Hashable, Sendable {
    /// The key.
    public let key: Data
    /// Its value.
    public let value: Data
    /// The version of the value, opaque.
    public let version: String
    /// When it expires; `nil`: never.
    public let expiresAt: Date?

    /// An entry, for tests of what handles it.
    public init(key: Data, value: Data, version: String = "", expiresAt: Date? = nil) {
        self.key = key
        self.value = value
        self.version = version
        self.expiresAt = expiresAt
    }
}

/// What became of a write of unknown outcome.
public enum Resolution: Hashable, Sendable {
    /// It was applied, as this version.
    case applied(version: String)
    /// It was not applied and never will be.
    case notApplied
    /// Nobody remembers: it is too long ago.
    case forgotten
}

extension Entry {
    init(_ native: AnnuletCore.Entry) {
        self.init(
            value: native.value, siblings: native.siblings, isMerged: native.isMerged,
            context: native.context, version: native.version,
            expiresAt: native.expiresAtMs.map(Date.init(milliseconds:)))
    }
}

extension Written {
    init(_ native: AnnuletCore.Written) {
        self.init(
            version: native.version, isSuperseded: native.superseded, context: native.context,
            siblings: Int(native.siblings))
    }
}

extension ScanEntry {
    init(_ native: AnnuletCore.ScanEntry) {
        self.init(
            key: native.key, value: native.value ?? Data(), version: native.version,
            expiresAt: native.expiresAtMs.map(Date.init(milliseconds:)))
    }
}

extension Resolution {
    init(_ native: Resolved) {
        switch native {
        case .applied(let version): self = .applied(version: version)
        case .notApplied: self = .notApplied
        case .forgotten: self = .forgotten
        }
    }
}
