// Measures the client of Swift for `make bench-bindings`: one line of JSON a cell. Each cell is a
// closed loop of so many callers for some seconds, after a warm-up of a fifth of it; or, given a
// number of operations, what the process holds as they are done.
//
//     bench PROFILE SECONDS
//     bench PROFILE memory OPERATIONS

import Annulet
import Foundation

let value = Data(repeating: 0x78, count: 100)

@Sendable func key(_ number: Int) -> String {
    "bench/\(number % 10_000)"
}

func cpuSeconds() -> Double {
    Double(clock()) / Double(CLOCKS_PER_SEC)
}

/// What the process holds of the machine's memory, in MB.
func residentMegabytes() throws -> Double {
    let statistics = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
    let pages = Double(statistics.split(separator: " ")[1]) ?? 0
    return pages * Double(sysconf(Int32(_SC_PAGESIZE))) / 1e6
}

/// So many callers, each of which calls until the time is over; how many calls they made.
func loop(
    _ callers: Int, until end: ContinuousClock.Instant,
    _ call: @escaping @Sendable (Int) async throws -> Void
) async throws -> Int {
    try await withThrowingTaskGroup(of: Int.self) { group in
        for first in 0..<callers {
            group.addTask {
                var number = first
                while ContinuousClock.now < end {
                    try await call(number)
                    number += callers
                }
                return (number - first) / callers
            }
        }
        return try await group.reduce(0, +)
    }
}

func measure(
    _ cell: String, _ callers: Int, _ seconds: Double,
    _ call: @escaping @Sendable (Int) async throws -> Void
) async throws {
    _ = try await loop(callers, until: .now + .seconds(seconds / 5), call)
    let (began, cpu) = (ContinuousClock.now, cpuSeconds())
    let calls = try await loop(callers, until: began + .seconds(seconds), call)
    let spent = (ContinuousClock.now - began) / .seconds(1)
    let cpuMicroseconds = (cpuSeconds() - cpu) / Double(calls) * 1e6
    let mean = spent / Double(calls) * Double(callers) * 1e6
    print(
        #"{"cell": "\#(cell)", "rate": \#(Double(calls) / spent), "cpu_us": \#(cpuMicroseconds), "#
            + #""mean_us": \#(mean)}"#)
}

let words = CommandLine.arguments
let client = try await Annulet.connect(profile: words[1])
let bucket = client.bucket("async")
if words[2] == "memory" {
    let operations = Int(words[3]) ?? 0
    var resident: [String] = []
    // Ten parts, of which the first warms up.
    for part in 0..<10 {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for caller in 0..<256 {
                group.addTask {
                    for number in stride(from: caller, to: operations / 20, by: 256) {
                        try await bucket.put(key(number), value)
                        _ = try await bucket.get(key(number + part))
                    }
                }
            }
            try await group.waitForAll()
        }
        resident.append(String(format: "%.1f", try residentMegabytes()))
    }
    print(#"{"cell": "swift memory", "resident_mb": [\#(resident.joined(separator: ", "))]}"#)
} else {
    let seconds = Double(words[2]) ?? 5
    try await bucket.multiPut((0..<10_000).map { (key($0), value) })
    try await measure("swift annulet get, one caller", 1, seconds) {
        _ = try await bucket.get(key($0), level: .one)
    }
    try await measure("swift annulet get", 256, seconds) {
        _ = try await bucket.get(key($0), level: .one)
    }
    try await measure("swift annulet put", 256, seconds) { try await bucket.put(key($0), value) }
}
await client.shutdown()
