internal import AnnuletCore
import Foundation

/// An operation that failed.
///
/// ``kind`` says what to do about it; ``message`` is for people, and may change.
///
/// ```swift
/// do {
///     try await flags.putIfVersion("dark", Data("on".utf8), version)
/// } catch let error as AnnuletError where error.kind == .conflict {
///     // Somebody else was faster: read it again.
/// }
/// ```
///
/// Operations of a task that was cancelled throw a `CancellationError` in its place.
public struct AnnuletError: Error, Hashable, Sendable {
    /// What a caller can do about an error.
    public enum Kind: String, CaseIterable, Sendable {
        /// The request itself cannot be: a key or value over a limit, an unknown bucket, a level
        /// that needs more replicas than there are. Change the request.
        case invalidInput = "InvalidInput"
        /// The condition of a conditional write did not hold. Read again, then decide anew.
        case conflict = "Conflict"
        /// Too few replicas could be reached, or they refused. Try again later, or at a lower
        /// level.
        case unavailable = "Unavailable"
        /// The deadline passed. Try again, or give it more time; a write may have been applied.
        case timeout = "Timeout"
        /// The servers have too much to do. Try again later and slower.
        case overloaded = "Overloaded"
        /// The servers do not accept this client's certificate or role. Change the profile.
        case unauthorized = "Unauthorized"
        /// The client was shut down. Connect a new one.
        case closed = "Closed"
        /// A fault of Annulet's own. Report it.
        case `internal` = "Internal"
    }

    /// What became of a write that failed.
    public enum Outcome: String, Sendable {
        /// It was not applied anywhere and never will be.
        case notApplied = "not_applied"
        /// It may have been applied, or be applied later.
        case unknown
    }

    /// What to do about it.
    public let kind: Kind
    /// What happened, for people.
    public let message: String
    /// What became of the write; `nil` of anything but writes.
    public let outcome: Outcome?
    /// Whether the same call may succeed later.
    public let isRetryable: Bool
    /// The name of a write of unknown outcome in a strong bucket: ``Bucket/resolve(_:operationID:)``
    /// tells what became of it.
    public let operationID: String?

    /// An error, for tests of what handles it.
    public init(
        _ kind: Kind, _ message: String, outcome: Outcome? = nil, isRetryable: Bool = false,
        operationID: String? = nil
    ) {
        self.kind = kind
        self.message = message
        self.outcome = outcome
        self.isRetryable = isRetryable
        self.operationID = operationID
    }
}

extension AnnuletError: CustomStringConvertible, LocalizedError {
    public var description: String {
        let of = outcome.map { " (outcome \($0.rawValue))" } ?? ""
        return "\(kind.rawValue): \(message)\(of)"
    }

    public var errorDescription: String? { description }
}

extension AnnuletError {
    init(_ problem: Problem) {
        self.init(
            Kind(rawValue: problem.kind) ?? .internal, problem.message,
            outcome: problem.outcome.flatMap(Outcome.init), isRetryable: problem.isRetryable,
            operationID: problem.opId)
    }

    /// What the native library threw.
    static func told(by error: any Error) -> AnnuletError {
        switch error {
        case let error as AnnuletError: error
        case Failure.Failed(let problem): AnnuletError(problem)
        default: AnnuletError(.internal, "a fault in an operation, report it: \(error)")
        }
    }
}
