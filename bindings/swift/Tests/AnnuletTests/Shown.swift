import Annulet
import Foundation

/// What a step of a case gave.
enum Shown {
    case nothing
    case flag(Bool)
    case entry(Entry)
    case written(Written)
    case policy(BucketPolicy)
    case policies([BucketPolicy])
    case statistics([String: UInt64])
    case parts([String: Part])
    case failed(AnnuletError)
    case each([Shown])

    /// A part of it, in the terms of the cases.
    func part(_ name: String) throws -> Part {
        let parts: [String: Part] =
            switch self {
            case .entry(let entry): entry.parts
            case .written(let written): written.parts
            case .policy(let policy): policy.parts
            case .statistics(let counts): counts.mapValues { .number(Double($0)) }
            case .parts(let parts): parts
            case .failed(let error): error.parts
            case .nothing, .flag, .policies, .each: [:]
            }
        guard let part = parts[name] else { throw Unexpected("there is no \(name) in \(self)") }
        return part
    }
}

/// A part of what a step gave.
enum Part: Equatable {
    case null
    case flag(Bool)
    case number(Double)
    case text(String)
    case bytes(Data)
    case values([Data])

    init(_ text: String?) { self = text.map(Part.text) ?? .null }
    init(_ bytes: Data?) { self = bytes.map(Part.bytes) ?? .null }
}

struct Unexpected: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

extension Entry {
    fileprivate var parts: [String: Part] {
        [
            "value": .bytes(value), "siblings": .values(siblings), "is_merged": .flag(isMerged),
            "context": .bytes(context), "version": .text(version),
            "expires": .flag(expiresAt != nil),
            "expires_at_ms": expiresAt.map { .number($0.timeIntervalSince1970 * 1e3) } ?? .null,
        ]
    }
}

extension Written {
    fileprivate var parts: [String: Part] {
        [
            "version": .text(version), "superseded": .flag(isSuperseded), "context": Part(context),
            "siblings": .number(Double(siblings)),
        ]
    }
}

extension BucketPolicy {
    fileprivate var parts: [String: Part] {
        let ttlMs = ttl.map { $0 / .milliseconds(1) }
        return [
            "name": .text(name), "mode": .text(mode.rawValue),
            "replicas": .number(Double(replicas)), "durability": .text(durability.rawValue),
            "read_level": .text(readLevel.rawValue), "write_level": .text(writeLevel.rawValue),
            "ttl_ms": ttlMs.map(Part.number) ?? .null, "merge": Part(merge?.rawValue),
        ]
    }
}

extension AnnuletError {
    fileprivate var parts: [String: Part] {
        [
            "kind": .text(kind.rawValue), "says": .text(message),
            "outcome": Part(outcome?.rawValue), "retryable": .flag(isRetryable),
            "op_id": Part(operationID),
        ]
    }
}
