import Annulet
import Foundation

/// Runs the cases that all languages have in common. They share a client.
actor Runner {
    private static let run = "swift"
    private var clients: [String: Client] = [:]
    private var sessions: [String: Session] = [:]
    private var saved: [String: Part] = [:]
    private var number = 0

    func run(_ number: Int, _ steps: [Json]) async throws {
        if clients["main"] == nil {
            clients["main"] = try await connect(.object(["profile": .text("main")]))
        }
        self.number = number
        saved.removeAll()
        for step in steps {
            do {
                try await take(step)
            } catch {
                throw Unexpected("\(error)\n  in \(String("\(step)".prefix(500)))")
            }
        }
    }

    private func take(_ step: Json) async throws {
        var shown: Shown
        do {
            shown = try await act(step)
        } catch let error as AnnuletError where step["fails"] != nil {
            shown = .failed(error)
        }
        if let fails = step["fails"] {
            try expect(.object(["fails": fails]), shown)
        } else if let gives = step["gives"] {
            try expect(gives, shown)
        } else if let each = step["each"]?.list {
            guard case .each(let all) = shown, all.count == each.count else {
                throw Unexpected("expected \(each.count) results, got \(shown)")
            }
            for (expected, one) in zip(each, all) { try expect(expected, one) }
        }
        for (part, name) in step["save"]?.fields ?? [:] {
            saved[try text(name)] = try shown.part(part)
        }
    }

    private func expect(_ expected: Json, _ shown: Shown) throws {
        switch (expected, shown) {
        case (.null, .nothing): return
        case (.flag(let wanted), .flag(let found)) where wanted == found: return
        case (.object(let parts), .nothing) where parts["fails"] == nil:
            throw Unexpected("expected \(expected), got nothing")
        case (.object(let parts), _):
            var parts = parts
            if case .failed(let error) = shown {
                guard let fails = parts["fails"]?.fields else { throw error }
                parts = fails
            } else if parts["fails"] != nil {
                throw Unexpected("expected a failure, got \(shown)")
            }
            for (name, wanted) in parts {
                let found = try shown.part(name)
                guard isExpected(name, wanted, found) else {
                    let found = String("\(found)".prefix(300))
                    throw Unexpected("expected \(name) \(wanted), got \(found)")
                }
            }
        default: throw Unexpected("expected \(expected), got \(shown)")
        }
    }

    private func isExpected(_ name: String, _ wanted: Json, _ found: Part) -> Bool {
        switch (wanted, found) {
        case (.text(let text), _) where text.hasPrefix("$"):
            saved[String(text.dropFirst())] == found
        case (.null, _): found == .null
        case (.flag(let wanted), .flag(let found)): wanted == found
        case (.flag(let wanted), _): wanted == (found != .null)
        case (.list(let wanted), .values(let found)): sorted(wanted.map(written)) == sorted(found)
        case (.list(let wanted), _): wanted.contains { isExpected(name, $0, found) }
        case (_, .bytes(let found)): written(wanted) == found
        case (.text(let wanted), .text(let found)) where name == "says": found.contains(wanted)
        case (.text(let wanted), .text(let found)): named(wanted) == found
        case (.number(let wanted), .number(let found)): wanted == found
        default: false
        }
    }

    // MARK: What steps say

    private func text(_ value: Json?) throws -> String {
        guard let text = value?.text else { throw Unexpected("no text: \(String(describing: value))") }
        return text
    }

    private func named(_ name: String) -> String {
        name.replacingOccurrences(of: "{run}", with: Self.run)
    }

    private func name(_ step: Json, _ field: String) throws -> String {
        named(try text(step[field]))
    }

    private func key(_ step: Json, _ key: Json) -> Data {
        let prefix = step["exact"] == .flag(true) ? "" : "\(Self.run)/\(number)/"
        return bytes(prefix) + written(key)
    }

    private func key(_ step: Json) throws -> Data {
        guard let key = step["key"] else { throw Unexpected("no key") }
        return self.key(step, key)
    }

    private func value(_ step: Json) throws -> Data {
        guard let value = step["value"] else { throw Unexpected("no value") }
        return written(value)
    }

    /// What was saved under the name that the field gives, or what the field is itself.
    private func given(_ step: Json, _ field: String) -> Part {
        guard let text = step[field]?.text else { return .null }
        return text.hasPrefix("$") ? saved[String(text.dropFirst())] ?? .null : .text(text)
    }

    private func word(_ step: Json, _ field: String) throws -> String {
        guard case .text(let word) = given(step, field) else { throw Unexpected("no \(field)") }
        return word
    }

    private func context(_ step: Json) -> Data? {
        switch given(step, "context") {
        case .bytes(let context): context
        case .text(let context): bytes(context)
        default: nil
        }
    }

    private func whole(_ step: Json, _ field: String) -> Int? {
        step[field]?.number.map { Int($0) }
    }

    private func duration(_ step: Json, _ field: String) -> Duration? {
        step[field] == .text("infinite") ? .forever : step[field]?.number.map { .milliseconds($0) }
    }

    private func level(_ step: Json, _ field: String = "level") -> Level? {
        step[field]?.text.map(Level.init(rawValue:))
    }

    // MARK: What steps do

    private func connect(_ step: Json) async throws -> Client {
        try await Annulet.connect(
            profile: Scene.profile(text(step["profile"])), timeout: duration(step, "timeout_ms"),
            level: level(step), zone: step["zone"]?.text, region: step["region"]?.text,
            connectionsMax: whole(step, "connections_max"),
            idleAfter: duration(step, "idle_after_ms"), checkOneIn: whole(step, "check_one_in"))
    }

    private func act(_ step: Json) async throws -> Shown {
        let action = try text(step["do"])
        if action == "connect" {
            let client = try await connect(step)
            clients[try text(step["client"])] = client
            return .nothing
        }
        guard let client = clients[step["client"]?.text ?? "main"] else {
            throw Unexpected("no such client")
        }
        switch action {
        case "close":
            await client.shutdown()
            return .nothing
        case "statistics":
            return .statistics(try client.statistics())
        case "signal":
            let signals = ["STOP": SIGSTOP, "CONT": SIGCONT, "KILL": SIGKILL]
            guard let signal = signals[try text(step["signal"])] else {
                throw Unexpected("no such signal")
            }
            Scene.send(signal, to: try text(step["server"]))
            return .nothing
        case "session":
            sessions[try text(step["session"])] = client.session()
            return .nothing
        case "session_from":
            let token: Data
            switch given(step, "token") {
            case .bytes(let bytes): token = bytes
            case .text(let text): token = bytes(text)
            default: throw Unexpected("no token")
            }
            sessions[try text(step["session"])] = try client.session(from: token)
            return .nothing
        case "session_to_bytes":
            guard let session = sessions[try text(step["session"])] else {
                throw Unexpected("no such session")
            }
            return .parts(["token": .bytes(try await session.toBytes())])
        case "create_bucket", "set_bucket", "delete_bucket", "buckets":
            return try await administer(action, step, client)
        default:
            let bucket = try name(step, "bucket")
            guard let name = step["session"]?.text else {
                return try await act(action, step, client.bucket(bucket))
            }
            guard let session = sessions[name] else { throw Unexpected("no such session") }
            return try await act(action, step, session.bucket(bucket))
        }
    }

    private func administer(_ action: String, _ step: Json, _ client: Client) async throws -> Shown {
        let (read, write) = (level(step, "read_level"), level(step, "write_level"))
        let ttl = duration(step, "ttl_ms")
        switch action {
        case "create_bucket":
            return .policy(
                try await client.createBucket(
                    name(step, "name"), mode: step["mode"]?.text.map(Mode.init(rawValue:)),
                    replicas: whole(step, "replicas"),
                    durability: step["durability"]?.text.map(Durability.init(rawValue:)),
                    readLevel: read, writeLevel: write, ttl: ttl,
                    merge: step["merge"]?.text.map(Merge.init(rawValue:))))
        case "set_bucket":
            let name = try name(step, "name")
            return .policy(
                try await client.setBucket(name, readLevel: read, writeLevel: write, ttl: ttl))
        case "delete_bucket":
            try await client.deleteBucket(name(step, "name"))
            return .nothing
        default:
            let all = try await client.buckets()
            guard let lists = step["lists"] else { return .policies(all) }
            let wanted = try name(lists, "name")
            let found = all.first { $0.name == wanted }
            return found.map(Shown.policy) ?? .nothing
        }
    }

    private func act(_ action: String, _ step: Json, _ bucket: Bucket) async throws -> Shown {
        let (level, timeout) = (level(step), duration(step, "timeout_ms"))
        let ttl = duration(step, "ttl_ms")
        let expiresAt = step["expires_at_ms"]?.number.map { Date(timeIntervalSince1970: $0 / 1e3) }
        let stale = step["stale"] == .flag(true)
        switch action {
        case "get":
            let key = try key(step)
            return shown(
                try await bucket.get(key, level: level, timeout: timeout, stale: stale))
        case "get_merged":
            let between = try text(step["join"])
            let found = try await bucket.getMerged(key(step), level: level, timeout: timeout) {
                Data($0.joined(separator: bytes(between)))
            }
            return shown(found)
        case "exists":
            let key = try key(step)
            return .flag(
                try await bucket.exists(key, level: level, timeout: timeout, stale: stale))
        case "put":
            return .written(
                try await bucket.put(
                    key(step), value(step), ttl: ttl, expiresAt: expiresAt, context: context(step),
                    level: level, timeout: timeout))
        case "delete":
            return .written(
                try await bucket.delete(
                    key(step), context: context(step), level: level, timeout: timeout))
        case "touch":
            return shown(
                try await bucket.touch(
                    key(step), ttl: ttl, expiresAt: expiresAt, level: level, timeout: timeout))
        case "put_if_version":
            return .written(
                try await bucket.putIfVersion(
                    key(step), value(step), word(step, "version"), ttl: ttl, expiresAt: expiresAt,
                    timeout: timeout))
        case "put_if_absent":
            return .written(
                try await bucket.putIfAbsent(
                    key(step), value(step), ttl: ttl, expiresAt: expiresAt, timeout: timeout))
        case "delete_if_version":
            return .written(
                try await bucket.deleteIfVersion(
                    key(step), word(step, "version"), timeout: timeout))
        case "update":
            let (remove, append) = (step["remove"] == .flag(true), step["append"]?.text ?? "")
            let written = try await bucket.update(
                key(step), ttl: ttl, expiresAt: expiresAt, timeout: timeout
            ) { old in
                remove ? nil : (old ?? Data()) + bytes(append)
            }
            return shown(written)
        case "resolve":
            let resolved = try await bucket.resolve(
                key(step), operationID: word(step, "op_id"))
            switch resolved {
            case .applied: return .parts(["resolved": .text("applied")])
            case .notApplied: return .parts(["resolved": .text("not_applied")])
            case .forgotten: return .parts(["resolved": .text("forgotten")])
            }
        case "multi_get":
            let each = try await bucket.multiGet(
                keys(step), level: level, timeout: timeout, stale: stale)
            return .each(each.map { shown($0, shown) })
        case "multi_put":
            let entries = pairs(step)
            let each = try await bucket.multiPut(
                entries, ttl: ttl, expiresAt: expiresAt, level: level, timeout: timeout)
            return .each(each.map { shown($0, Shown.written) })
        case "multi_delete":
            let each = try await bucket.multiDelete(keys(step), level: level, timeout: timeout)
            return .each(each.map { shown($0, Shown.written) })
        case "scan":
            return try await scan(step, bucket)
        default:
            throw Unexpected("no such step")
        }
    }

    private func keys(_ step: Json) -> [Data] {
        (step["keys"]?.list ?? []).map { key(step, $0) }
    }

    private func pairs(_ step: Json) -> [(Data, Data)] {
        (step["entries"]?.list ?? []).compactMap(\.list).map { (key(step, $0[0]), written($0[1])) }
    }

    private func scan(_ step: Json, _ bucket: Bucket) async throws -> Shown {
        let pageEntries = whole(step, "page_entries")
        let cursor: String? = step["cursor"] == nil ? nil : try word(step, "cursor")
        let (level, timeout) = (level(step), duration(step, "timeout_ms"))
        let most = step["pages"] == nil ? Int.max : whole(step, "count") ?? Int.max
        var found: [(Data, Data)] = []
        let reached: String?
        if step["values"] == .flag(true) {
            let scan = bucket.scanEntries(
                pageEntries: pageEntries, cursor: cursor, level: level, timeout: timeout)
            for try await entry in scan {
                found.append((entry.key, entry.value))
                if found.count == most { break }
            }
            reached = scan.cursor
        } else {
            let scan = bucket.scan(
                pageEntries: pageEntries, cursor: cursor, level: level, timeout: timeout)
            for try await key in scan {
                found.append((key, Data()))
                if found.count == most { break }
            }
            reached = scan.cursor
        }
        found.sort { $0.0.lexicographicallyPrecedes($1.0) }
        if let count = whole(step, "count"), found.count != count {
            throw Unexpected("\(found.count) entries")
        }
        if step["keys"] != nil, found.map(\.0) != keys(step) {
            throw Unexpected("keys \(found.map(\.0).map { String(decoding: $0, as: UTF8.self) })")
        }
        if step["entries"] != nil {
            let wanted = pairs(step)
            guard wanted.count == found.count, zip(wanted, found).allSatisfy(==) else {
                throw Unexpected("entries \(found)")
            }
        }
        return .parts(["cursor": Part(reached)])
    }
}

private func shown(_ entry: Entry?) -> Shown { entry.map(Shown.entry) ?? .nothing }
private func shown(_ written: Written?) -> Shown { written.map(Shown.written) ?? .nothing }

private func shown<Value>(
    _ result: Result<Value, AnnuletError>, _ show: (Value) -> Shown
) -> Shown {
    switch result {
    case .success(let value): show(value)
    case .failure(let error): .failed(error)
    }
}

private func sorted(_ values: [Data]) -> [Data] {
    values.sorted { $0.lexicographicallyPrecedes($1) }
}

/// Bytes as a case writes them.
private func written(_ value: Json) -> Data {
    if let hex = value["hex"]?.text {
        var digits = Substring(hex)
        var bytes = Data()
        while let byte = UInt8(digits.prefix(2), radix: 16) {
            bytes.append(byte)
            digits = digits.dropFirst(2)
        }
        return bytes
    }
    if let part = value["repeat"]?.text, let times = value["times"]?.number {
        return bytes(String(repeating: part, count: Int(times)))
    }
    return bytes(value.text ?? "")
}
