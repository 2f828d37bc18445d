import Foundation

/// A key: a `String`, which stands for its UTF-8, or bytes; 1 to 4,096 of them.
public protocol Key: Sendable {
    /// What is stored under.
    var keyBytes: Data { get }
}

extension String: Key {
    public var keyBytes: Data { Data(utf8) }
}

extension Substring: Key {
    public var keyBytes: Data { Data(utf8) }
}

extension Data: Key {
    public var keyBytes: Data { self }
}

extension [UInt8]: Key {
    public var keyBytes: Data { Data(self) }
}
