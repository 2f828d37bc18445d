import Foundation
import Testing

#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

/// The example does what it says, by real HTTP.
@Test func sessionsOfAWebAppOutliveAServerOfIt() async throws {
    var visitor = Visitor()
    let first = try App()
    #expect(try await visitor.ask(first, "/") == "401 who are you?")
    #expect(try await visitor.ask(first, "/login", form: "name=Ada+L%C3%B6w") == "200 welcome")
    #expect(try await visitor.ask(first, "/") == "200 hello Ada Löw")
    #expect(try await visitor.ask(first, "/nowhere", form: "") == "404 there is no such page")
    let long = String(repeating: "x", count: 20_000)
    #expect(try await visitor.ask(first, "/login", form: long) == "413 that is too long")
    try first.stop()
    let second = try App()
    #expect(try await visitor.ask(second, "/") == "200 hello Ada Löw")
    #expect(try await visitor.ask(second, "/logout", form: "") == "200 goodbye")
    #expect(try await visitor.ask(second, "/") == "401 who are you?")
    try second.stop()
}

/// The example, as a process.
private final class App {
    private let process = Process()
    private let output = Pipe()
    let base: String

    init() throws {
        guard let example = ProcessInfo.processInfo.environment["ANNULET_EXAMPLE"] else {
            throw Unexpected("ANNULET_EXAMPLE is missing: run these by `make test-swift`")
        }
        process.executableURL = URL(fileURLWithPath: example)
        process.arguments = ["0", "plain"]
        process.environment = ["ANNULET_PROFILE": Scene.profile("main")]
        process.standardOutput = output
        try process.run()
        let line = Self.line(output)
        guard line.hasPrefix("listening on ") else { throw Unexpected(line) }
        base = String(line.dropFirst("listening on ".count))
    }

    private static func line(_ output: Pipe) -> String {
        var line = Data()
        while let byte = try? output.fileHandleForReading.read(upToCount: 1), byte != Data("\n".utf8) {
            if byte.isEmpty { break }
            line += byte
        }
        return String(decoding: line, as: UTF8.self)
    }

    func stop() throws {
        process.terminate()
        #expect(Self.line(output) == "goodbye")
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
    }
}

private struct Visitor {
    private var cookie = ""

    mutating func ask(_ app: App, _ path: String, form: String? = nil) async throws -> String {
        guard let url = URL(string: app.base + path) else { throw Unexpected(app.base) }
        var request = URLRequest(url: url)
        request.httpShouldHandleCookies = false
        request.setValue(cookie, forHTTPHeaderField: "Cookie")
        if let form {
            request.httpMethod = "POST"
            request.httpBody = Data(form.utf8)
        }
        let (data, response) = try await URLSession.shared.data(for: request)
        guard let response = response as? HTTPURLResponse else { throw Unexpected("no answer") }
        if let changed = response.value(forHTTPHeaderField: "Set-Cookie") {
            cookie = String(changed.prefix { $0 != ";" })
        }
        return "\(response.statusCode) \(String(decoding: data, as: UTF8.self))"
    }
}
