import Foundation

/// A value that one thread at a time may touch.
final class Locked<Value>: @unchecked Sendable {
    // The lock is what makes it safe to share.
    private let lock = NSLock()
    private var value: Value

    init(_ value: Value) {
        self.value = value
    }

    func with<Given>(_ body: (inout Value) throws -> Given) rethrows -> Given {
        lock.lock()
        defer { lock.unlock() }
        return try body(&value)
    }
}
