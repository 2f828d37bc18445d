import Annulet
import Foundation
import Testing

/// Numbers that look random, the same for the same seed (SplitMix64).
private struct Draws: RandomNumberGenerator {
    var seed: UInt64

    mutating func next() -> UInt64 {
        seed &+= 0x9e37_79b9_7f4a_7c15
        var mixed = (seed ^ (seed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    mutating func one<Value>(_ values: [Value]) -> Value {
        values.randomElement(using: &self)!
    }
}

private let texts = [
    "", "k", "ü", "\u{0}", "🗝️", "one", "r=9,w=9", "r=-1,w=0", "quorum ", "strong",
    String(repeating: "x", count: 5_000),
]
private let keys = texts.map { Data($0.utf8) } + [Data([0xff, 0x00]), Data(count: 4_096)]
private let durations: [Duration?] = [
    nil, nil, nil, .zero, .seconds(-1), .milliseconds(1), .seconds(1), .nanoseconds(1),
    .seconds(1 << 40), .seconds(Int64.max - 1), .seconds(Int64.min), .forever,
]
private let dates: [Date?] = [
    nil, nil, nil, .distantPast, .distantFuture, Date(), Date(timeIntervalSince1970: .nan),
    Date(timeIntervalSince1970: .infinity), Date(timeIntervalSince1970: -1),
]
private let numbers: [Int?] = [nil, 0, 1, -1, 7, 255, 256, 1 << 32, .max, .min]

/// Any of its arguments may be odd: one of Annulet's errors, and nothing else.
@Test func oddArgumentsAtRandomHarmNobody() async throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    var draws = Draws(seed: seed)
    let client = try await connect(profile: Scene.profile("main"))
    var (refused, done) = (0, 0)
    for _ in 0..<3_000 {
        let bucket = client.bucket(
            draws.one(["plain", "strong", "carts", "latest", draws.one(texts)]))
        let odd = Odd(&draws)
        do {
            try await odd.call(Int.random(in: 0..<18, using: &draws), client, bucket)
            done += 1
        } catch is AnnuletError {
            refused += 1
        } catch {
            Issue.record("seed \(seed): \(error)")
        }
    }
    #expect(refused > 500 && done > 100, "\(refused) \(done)")
    let bucket = client.bucket("plain")
    try await bucket.put("swift-still", bytes("there"))
    #expect(try await bucket.get("swift-still")?.value == bytes("there"))
    await client.shutdown()
}

private struct Odd {
    let key: Data
    let value: Data
    let text: String
    let ttl: Duration?
    let expiresAt: Date?
    let timeout: Duration?
    let level: Level?
    let number: Int?
    let stale: Bool

    init(_ draws: inout Draws) {
        key = draws.one(keys)
        value = draws.one(keys)
        text = draws.one(texts)
        ttl = draws.one(durations)
        expiresAt = draws.one(dates)
        timeout = draws.one(durations)
        level = draws.one([nil, .one, .all, .available, Level(rawValue: draws.one(texts))])
        number = draws.one(numbers)
        stale = Bool.random(using: &draws)
    }

    func call(_ which: Int, _ client: Client, _ bucket: Bucket) async throws {
        switch which {
        case 0: _ = try await bucket.get(key, level: level, timeout: timeout, stale: stale)
        case 1: _ = try await bucket.getMerged(key, level: level, timeout: timeout) { $0[0] }
        case 2: _ = try await bucket.exists(key, level: level, timeout: timeout, stale: stale)
        case 3:
            try await bucket.put(
                key, value, ttl: ttl, expiresAt: expiresAt, level: level, timeout: timeout)
        case 4: try await bucket.put(key, value, context: value, level: level, timeout: timeout)
        case 5: try await bucket.delete(key, context: value, level: level, timeout: timeout)
        case 6: try await bucket.touch(key, ttl: ttl, expiresAt: expiresAt, timeout: timeout)
        case 7: try await bucket.putIfVersion(key, value, text, ttl: ttl, timeout: timeout)
        case 8: try await bucket.putIfAbsent(key, value, expiresAt: expiresAt, timeout: timeout)
        case 9: try await bucket.deleteIfVersion(key, text, timeout: timeout)
        case 10: try await bucket.update(key, ttl: ttl, timeout: timeout) { _ in value }
        case 11: _ = try await bucket.resolve(key, operationID: text)
        case 12: _ = try await bucket.multiGet([key, value], level: level, timeout: timeout)
        case 13: try await bucket.multiPut([(key, value)], ttl: ttl, level: level, timeout: timeout)
        case 14: try await bucket.multiDelete([key, value], level: level, timeout: timeout)
        case 15:
            let cursor = stale ? nil : text
            for try await _ in bucket.scan(pageEntries: number, cursor: cursor, level: level) {
                break
            }
        case 16:
            let session = stale ? client.session() : try client.session(from: value)
            _ = try await session.bucket(bucket.name).get(key)
            _ = try await session.toBytes()
        default:
            _ = try await client.setBucket(text, readLevel: level, ttl: ttl)
        }
    }
}
