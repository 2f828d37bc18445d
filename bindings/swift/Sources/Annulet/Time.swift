import Foundation

extension Duration {
    /// The time to live of a value that lives until it is overwritten or deleted, also in a bucket
    /// that says otherwise. It is no timeout.
    public static var forever: Duration {
        Duration(secondsComponent: .max, attosecondsComponent: 0)
    }

    var milliseconds: Double {
        if self == .forever {
            return .infinity
        }
        return Double(components.seconds) * 1e3 + Double(components.attoseconds) / 1e15
    }
}

extension Date {
    /// Milliseconds since 1970.
    var milliseconds: Double { (timeIntervalSince1970 * 1e3).rounded() }

    init(milliseconds: UInt64) {
        self.init(timeIntervalSince1970: Double(milliseconds) / 1e3)
    }
}
