// What is particular to Swift: cancellation, many tasks, actors, sequences.

import Annulet
import Foundation
import Testing

private let patience = Duration.seconds(30)

private func withClient<Value: Sendable>(
    _ profile: String = "main", _ body: @Sendable (Client) async throws -> Value
) async throws -> Value {
    let client = try await connect(profile: Scene.profile(profile))
    let result: Result<Value, any Error>
    do {
        result = .success(try await body(client))
    } catch {
        result = .failure(error)
    }
    await client.shutdown()
    return try result.get()
}

@Test func aCallOfACancelledTaskStopsAndTheClientGoesOn() async throws {
    try await withClient("lonely") { client in
        let bucket = client.bucket("single")
        try await bucket.put("cancelled", bytes("v"))
        Scene.send(SIGSTOP, to: "lonely")
        defer { Scene.send(SIGCONT, to: "lonely") }
        let began = ContinuousClock.now
        let calls = (0..<20).map { _ in
            Task { try await bucket.get("cancelled", timeout: .seconds(60)) }
        }
        try await Task.sleep(for: .milliseconds(50))
        for call in calls { call.cancel() }
        for call in calls {
            await #expect(throws: CancellationError.self) { try await call.value }
        }
        let write = Task { try await bucket.put("cancelled", bytes("w"), timeout: .seconds(60)) }
        write.cancel()
        await #expect(throws: CancellationError.self) { try await write.value }
        let error = await failure { try await bucket.get("cancelled", timeout: .milliseconds(200)) }
        #expect(error?.kind == .timeout)
        #expect(error?.isRetryable == true)
        #expect(error?.outcome == nil)
        let unsure = await failure {
            try await bucket.put("cancelled", bytes("w"), timeout: .milliseconds(200))
        }
        #expect(unsure?.outcome == .unknown)
        #expect(ContinuousClock.now - began < .seconds(20))
        Scene.send(SIGCONT, to: "lonely")
        let entry = try await bucket.get("cancelled", timeout: patience)
        #expect(entry != nil)
    }
}

@Test func nothingIsDoneForATaskThatWasCancelledBefore() async throws {
    try await withClient { client in
        let bucket = client.bucket("plain")
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            try await bucket.put("swift-never", bytes("v"))
        }
        await #expect(throws: CancellationError.self) { try await task.value }
        let exists = try await bucket.exists("swift-never")
        #expect(!exists)
    }
}

@Test func manyTasksAtOnceEachGetTheirOwnResult() async throws {
    try await withClient { client in
        let bucket = client.bucket("plain")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<2_000 {
                group.addTask {
                    let key = "swift-many/\(number)"
                    try await bucket.put(key, bytes(key), timeout: patience)
                    let entry = try await bucket.get(key, timeout: patience)
                    #expect(entry?.value == bytes(key))
                }
            }
            try await group.waitForAll()
        }
    }
}

private actor Tally {
    private var calls = 0

    /// Changes a value by what only this actor may touch.
    func add(to bucket: Bucket) async throws -> Int {
        try await bucket.update("swift-sum", timeout: .seconds(60)) { old in
            calls += 1
            let sum = old.flatMap { Int(String(decoding: $0, as: UTF8.self)) } ?? 0
            await Task.yield()
            return bytes("\(sum + 1)")
        }
        return calls
    }
}

@Test func changesMayWaitAndTouchTheirActorAndWhatTheyThrowIsThrown() async throws {
    struct NotToday: Error {}
    try await withClient { client in
        let strong = client.bucket("strong")
        try await strong.delete("swift-sum")
        try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<20 { group.addTask { try await Tally().add(to: strong) } }
            for try await calls in group { #expect(calls >= 1) }
        }
        #expect(try await strong.get("swift-sum")?.value == bytes("20"))
        await #expect(throws: NotToday.self) {
            try await strong.update("swift-sum") { _ in throw NotToday() }
        }
        #expect(try await strong.update("swift-sum") { _ in nil } != nil)
        #expect(try await strong.exists("swift-sum") == false)

        let carts = client.bucket("carts")
        try await carts.put("swift-merge", bytes("a"))
        try await carts.put("swift-merge", bytes("b"))
        await #expect(throws: NotToday.self) {
            try await carts.getMerged("swift-merge") { _ in throw NotToday() }
        }
        let merged = try await carts.getMerged("swift-merge") { values in
            bytes(values.map { String(decoding: $0, as: UTF8.self) }.sorted().joined(separator: "+"))
        }
        #expect(merged?.value == bytes("a+b"))
        #expect(merged?.siblings.count == 2)
        let context = try #require(merged?.context)
        try await carts.put("swift-merge", bytes("ab"), context: context)
        #expect(try await carts.get("swift-merge")?.siblings == [bytes("ab")])
    }
}

@Test func aScanMayBeLeftSharedAndGoneOnWith() async throws {
    try await withClient { client in
        let name = "swift-scanned"
        try await client.createBucket(name)
        let bucket = client.bucket(name)
        let wanted = Set((0..<50).map { bytes("key/\($0)") })
        try await bucket.multiPut(wanted.map { ($0, Data("v".utf8)) })

        let first = bucket.scan(pageEntries: 7)
        var found: [Data] = []
        for try await key in first {
            found.append(key)
            if found.count == 14 { break }
        }
        #expect(!first.isOver)
        for try await key in bucket.scan(cursor: first.cursor) { found.append(key) }
        #expect(found.count >= 50)
        #expect(Set(found) == wanted)

        let shared = bucket.scanEntries(pageEntries: 7)
        let taken = try await withThrowingTaskGroup(of: [Data].self) { group in
            for _ in 0..<3 {
                group.addTask {
                    var mine: [Data] = []
                    for try await entry in shared {
                        #expect(entry.value == bytes("v"))
                        mine.append(entry.key)
                    }
                    return mine
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(taken.count == 50)
        #expect(Set(taken) == wanted)
        #expect(shared.isOver && shared.cursor == nil)

        // What is wrong with a scan is told where it is waited for.
        let wrong = await failure { for try await _ in bucket.scan(pageEntries: 0) {} }
        #expect(wrong?.kind == .invalidInput)
        try await client.deleteBucket(name)
    }
}

@Test func aScanThatIsCancelledGoesOn() async throws {
    try await withClient { client in
        let name = "swift-interrupted"
        try await client.createBucket(name)
        let bucket = client.bucket(name)
        let wanted = Set((0..<40).map { bytes("key/\($0)") })
        try await bucket.multiPut(Dictionary(uniqueKeysWithValues: wanted.map { ($0, $0) }))
        let scan = bucket.scan(pageEntries: 5)
        var (found, cancelled): ([Data], Int) = ([], 0)
        while !scan.isOver {
            let task = Task {
                var iterator = scan.makeAsyncIterator()
                return try await iterator.next()
            }
            // Now and then before its page has come, which nobody has taken then.
            if cancelled < 200 && Bool.random() { task.cancel() }
            do {
                if let key = try await task.value { found.append(key) }
            } catch is CancellationError {
                cancelled += 1
            }
        }
        #expect(found.count == 40)
        #expect(Set(found) == wanted)
        try await client.deleteBucket(name)
    }
}

@Test func clientsMayBeDroppedWithCallsUnderWay() async throws {
    for _ in 0..<20 {
        let client = try await connect(profile: Scene.profile("main"))
        let bucket = client.bucket("plain")
        let calls = (0..<20).map { number in
            Task { try await bucket.put("swift-dropped/\(number)", bytes("v")) }
        }
        calls[0].cancel()
        for call in calls.dropFirst(10) { _ = try await call.value }
    }
}

@Test func aServerThatGoesAwayUnderLoadEndsNoProgram() async throws {
    let client = try await connect(profile: Scene.profile("spare"))
    let bucket = client.bucket("single")
    try await bucket.put("k", Data(count: 10_000))
    let kinds = await withTaskGroup(of: AnnuletError.Kind?.self) { group in
        for _ in 0..<16 {
            group.addTask {
                while true {
                    let error = await failure {
                        try await bucket.put("k", Data(count: 10_000), timeout: .milliseconds(300))
                    }
                    if let error { return error.kind }
                }
            }
        }
        try? await Task.sleep(for: .milliseconds(300))
        Scene.send(SIGKILL, to: "spare")
        return await group.reduce(into: Set()) { $0.insert($1) }
    }
    #expect(kinds.isSubset(of: [.unavailable, .timeout]))
    let gone = await failure { try await bucket.get("k", timeout: .milliseconds(300)) }
    #expect(gone != nil)
    await client.shutdown()
}

@Test func timesAndLevelsAreWhatTheySay() async throws {
    try await withClient { client in
        let bucket = client.bucket("short")
        let until = Date(timeIntervalSince1970: 4_102_444_800.125)
        try await bucket.put("swift-until", bytes("v"), expiresAt: until)
        let entry = try #require(try await bucket.get("swift-until"))
        #expect(abs(try #require(entry.expiresAt).timeIntervalSince(until)) < 0.001)
        try await bucket.touch("swift-until", ttl: .forever)
        #expect(try await bucket.get("swift-until")?.expiresAt == nil)
        let level = Level.explicit(read: 2, write: 3)
        let written = try await bucket.put("swift-level", bytes("v"), level: level)
        #expect(try await bucket.get("swift-level", level: level)?.version == written.version)
        #expect(Level(rawValue: "each_quorum") == .eachQuorum)
    }
}

@Test func keysAreOfAnyKindOfBytes() async throws {
    try await withClient { client in
        let bucket = client.bucket("plain")
        try await bucket.put("swift-Köln", bytes("v"))
        #expect(try await bucket.exists(Data("swift-Köln".utf8)))
        #expect(try await bucket.exists(Array("swift-Köln".utf8)))
        #expect(try await bucket.exists("a swift-Köln".dropFirst(2)))
        let slice = bytes("xxswift-Kölnxx").dropFirst(2).dropLast(2)
        #expect(try await bucket.exists(slice))
        let long = Data(repeating: 7, count: 1_000_000)
        try await bucket.put("swift-long", long.dropFirst(1))
        #expect(try await bucket.get("swift-long")?.value == long.dropFirst(1))
        let mixed: [any Key] = ["swift-Köln", slice]
        let each = try await bucket.multiGet(mixed.map(\.keyBytes))
        #expect(try each.allSatisfy { try $0.get() != nil })
    }
}

@Test func errorsReadWellAndMayBeMade() async throws {
    let error = await failure { try await connect(profile: Scene.profile("missing")) }
    #expect(error?.kind == .invalidInput)
    #expect(error?.localizedDescription.hasPrefix("InvalidInput: ") == true)
    let made = AnnuletError(.timeout, "too late", outcome: .unknown, isRetryable: true)
    #expect("\(made)" == "Timeout: too late (outcome unknown)")
    try await withClient { client in
        let each = try await client.bucket("nowhere").multiGet(["a", "b"])
        #expect(each.count == 2)
        #expect(throws: AnnuletError.self) { try each[1].get() }
        let lost = client.bucket("plain")
        await client.shutdown()
        await client.shutdown()
        #expect(await failure { try await lost.get("k") }?.kind == .closed)
        let late = await failure { try await lost.put("k", Data()) }
        #expect(late?.kind == .closed)
        #expect(late?.outcome == .notApplied)
    }
}

/// The error that a call throws, if it is one of ours.
private func failure<Value>(_ call: () async throws -> Value) async -> AnnuletError? {
    do {
        _ = try await call()
        return nil
    } catch {
        return error as? AnnuletError
    }
}
