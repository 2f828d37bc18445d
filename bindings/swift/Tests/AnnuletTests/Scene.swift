import Annulet
import Foundation

/// The clusters that the tests run against, which `annulet-scene` has started.
struct Scene: Decodable {
    let cases: String
    let profiles: [String: String]
    let servers: [String: Int32]

    static let current: Scene = {
        guard let file = ProcessInfo.processInfo.environment["ANNULET_SCENE"] else {
            fatalError("ANNULET_SCENE is missing: run these by `make test-swift`")
        }
        do {
            return try read(file)
        } catch {
            fatalError("\(file): \(error)")
        }
    }()

    static func profile(_ name: String) -> String {
        guard let profile = current.profiles[name] else { fatalError("no profile \(name)") }
        return profile
    }

    /// Sends a signal; a server that is to stop has stopped when this returns. The system stops its
    /// threads one after the other, each where it is in a moment.
    static func send(_ signal: Int32, to server: String) {
        guard let process = current.servers[server] else { fatalError("no server \(server)") }
        kill(process, signal)
        while signal == SIGSTOP && !hasStopped(process) {}
    }

    private static func hasStopped(_ process: Int32) -> Bool {
        let threads = "/proc/\(process)/task"
        let all = (try? FileManager.default.contentsOfDirectory(atPath: threads)) ?? []
        return all.allSatisfy { thread in
            let file = "\(threads)/\(thread)/stat"
            let state = try? String(contentsOfFile: file, encoding: .utf8)
            // Behind the name, which may have anything in it.
            return state?.components(separatedBy: ") ").last?.first == "T"
        }
    }
}

func read<Content: Decodable>(_ file: String) throws -> Content {
    try JSONDecoder().decode(Content.self, from: Data(contentsOf: URL(fileURLWithPath: file)))
}

func bytes(_ text: String) -> Data {
    Data(text.utf8)
}
