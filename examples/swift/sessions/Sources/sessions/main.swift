// A web app that keeps its sessions in Annulet: log in, be greeted, log out.
//
//     annulet dev &
//     swift run sessions 8080
//     curl -c jar -d name=Ada http://127.0.0.1:8080/login
//     curl -b jar http://127.0.0.1:8080/
//
// A session lives for half an hour after its last request, on whichever server of the app that
// comes to: all of them share the cluster, and any of them may be restarted.

import Annulet
import Dispatch
import Foundation

/// Sessions by their ids: what is known of a visitor, as JSON.
struct Sessions: Sendable {
    struct Known: Codable {
        let name: String
    }

    private static let halfAnHour = Duration.seconds(1_800)
    let bucket: Bucket

    func begin(_ known: Known) async throws -> String {
        let session = (0..<3).map { _ in String(UInt64.random(in: .min ... .max), radix: 36) }
            .joined()
        let value = try JSONEncoder().encode(known)
        try await bucket.put("session/\(session)", value, ttl: Self.halfAnHour)
        return session
    }

    /// What is known, and the session goes on; `nil` if there is none, or it is over.
    func find(_ session: String) async throws -> Known? {
        guard !session.isEmpty, session.count <= 64 else { return nil }
        let key = "session/\(session)"
        guard try await bucket.touch(key, ttl: Self.halfAnHour) != nil,
            let entry = try await bucket.get(key)
        else { return nil }
        return try JSONDecoder().decode(Known.self, from: entry.value)
    }

    func end(_ session: String) async throws {
        if !session.isEmpty { try await bucket.delete("session/\(session)") }
    }
}

func answer(_ request: Request, _ sessions: Sessions) async throws -> Answer {
    let session = request.cookies["session"] ?? ""
    if request.method == "GET" {
        guard let known = try await sessions.find(session) else {
            return Answer(status: 401, text: "who are you?")
        }
        return Answer(status: 200, text: "hello \(known.name)")
    }
    if request.path == "/login", let name = request.form["name"] {
        let begun = try await sessions.begin(Sessions.Known(name: name))
        let cookie = "session=\(begun); HttpOnly; SameSite=Lax; Max-Age=1800"
        return Answer(status: 200, text: "welcome", cookie: cookie)
    }
    if request.path == "/logout" {
        try await sessions.end(session)
        return Answer(status: 200, text: "goodbye", cookie: "session=; Max-Age=0")
    }
    return Answer(status: 404, text: "there is no such page")
}

func say(_ line: String) {
    FileHandle.standardOutput.write(Data("\(line)\n".utf8))
}

// A visitor who has gone is no reason to end.
signal(SIGPIPE, SIG_IGN)
let words = CommandLine.arguments
// The profile is found by itself: ANNULET_PROFILE, or `.annulet/profile.toml`.
let client = try await Annulet.connect()
let sessions = Sessions(bucket: client.bucket(words.count > 2 ? words[2] : "default"))
let server = try Server(port: UInt16(words.count > 1 ? words[1] : "") ?? 8080) { request in
    do {
        return try await answer(request, sessions)
    } catch let error as AnnuletError {
        // What may be over in a moment is worth another try of the browser's.
        return Answer(status: error.isRetryable ? 503 : 500, text: error.kind.rawValue)
    } catch {
        return Answer(status: 500, text: "something is wrong here")
    }
}
say("listening on http://127.0.0.1:\(server.port)")
// Ended alike by who types Ctrl-C and by who stops a service.
let (stopped, stop) = AsyncStream<Void>.makeStream()
let signals = [SIGINT, SIGTERM].map { number in
    signal(number, SIG_IGN)
    let source = DispatchSource.makeSignalSource(signal: number, queue: .main)
    source.setEventHandler { stop.finish() }
    source.resume()
    return source
}
for await _ in stopped {}
await client.shutdown()
say("goodbye")
exit(0)
