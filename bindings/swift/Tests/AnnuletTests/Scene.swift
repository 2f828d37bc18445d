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

    /// Stops a server, or lets it go on.
    static func send(_ signal: Int32, to server: String) {
        guard let process = current.servers[server] else { fatalError("no server \(server)") }
        kill(process, signal)
    }
}

func read<Content: Decodable>(_ file: String) throws -> Content {
    try JSONDecoder().decode(Content.self, from: Data(contentsOf: URL(fileURLWithPath: file)))
}

func bytes(_ text: String) -> Data {
    Data(text.utf8)
}
