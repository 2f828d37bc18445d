// Just enough of HTTP for an example, since Foundation has no server: one request a connection.
// A real app takes one of the frameworks.

import Dispatch
import Foundation

struct Request: Sendable {
    private static let longest = 10_000
    let method: String
    let path: String
    let cookies: [String: String]
    let form: [String: String]

    /// What came so far, as a request; `nil`: there is more to come.
    init?(_ received: Data) throws {
        guard let end = received.range(of: Data("\r\n\r\n".utf8)) else {
            if received.count > Self.longest { throw TooLong() }
            return nil
        }
        let lines = String(decoding: received[..<end.lowerBound], as: UTF8.self)
            .components(separatedBy: "\r\n")
        let first = lines[0].split(separator: " ")
        guard first.count == 3 else { throw Malformed() }
        (method, path) = (String(first[0]), String(first[1]))
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { throw Malformed() }
            let value = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
            headers[line[..<colon].lowercased()] = value
        }
        let length = Int(headers["content-length"] ?? "0") ?? 0
        if length > Self.longest || length < 0 { throw TooLong() }
        let body = received[end.upperBound...]
        if body.count < length { return nil }
        cookies = pairs(headers["cookie"] ?? "", separator: ";")
        form = pairs(String(decoding: body.prefix(length), as: UTF8.self), separator: "&")
    }
}

struct TooLong: Error {}
struct Malformed: Error {}

struct Answer: Sendable {
    let status: Int
    let text: String
    /// A cookie where it changes.
    var cookie: String?

    fileprivate var bytes: Data {
        let body = Data(text.utf8)
        let changed = cookie.map { "Set-Cookie: \($0)\r\n" } ?? ""
        let head =
            "HTTP/1.1 \(status) .\r\nContent-Type: text/plain; charset=utf-8\r\n"
            + "Content-Length: \(body.count)\r\nConnection: close\r\n\(changed)\r\n"
        return Data(head.utf8) + body
    }
}

private func pairs(_ text: String, separator: Character) -> [String: String] {
    var found: [String: String] = [:]
    for pair in text.split(separator: separator) {
        let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let decoded = parts.map {
            $0.trimmingCharacters(in: .whitespaces).replacingOccurrences(of: "+", with: " ")
                .removingPercentEncoding ?? ""
        }
        found[decoded[0]] = decoded.count == 2 ? decoded[1] : ""
    }
    return found
}

/// Listens on this machine only.
final class Server: Sendable {
    let port: UInt16

    init(port: UInt16, answer: @escaping @Sendable (Request) async -> Answer) throws {
        #if os(Linux)
            let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        #else
            let listener = socket(AF_INET, SOCK_STREAM, 0)
        #endif
        var again: Int32 = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &again, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let failed = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, size) != 0 || listen(listener, 128) != 0
                    || getsockname(listener, $0, &size) != 0
            }
        }
        if failed { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EADDRINUSE) }
        self.port = UInt16(bigEndian: address.sin_port)
        // Threads that wait for a browser are not those that run tasks.
        let waiting = DispatchQueue(label: "connections", attributes: .concurrent)
        Thread.detachNewThread {
            while true {
                let connection = accept(listener, nil, nil)
                if connection < 0 {
                    // Too many are open: some will be over in a moment.
                    Thread.sleep(forTimeInterval: 0.01)
                    continue
                }
                waiting.async { Self.serve(connection, answer) }
            }
        }
    }

    private static func serve(
        _ connection: Int32, _ answer: @escaping @Sendable (Request) async -> Answer
    ) {
        var patience = timeval(tv_sec: 5, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, size)
        setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &patience, size)
        let file = FileHandle(fileDescriptor: connection, closeOnDealloc: true)
        do {
            var received = Data()
            while true {
                var part = [UInt8](repeating: 0, count: 4_096)
                let count = read(connection, &part, part.count)
                if count <= 0 { return }
                received += part.prefix(count)
                if let request = try Request(received) {
                    Task { try? file.write(contentsOf: await answer(request).bytes) }
                    return
                }
            }
        } catch is TooLong {
            try? file.write(contentsOf: Answer(status: 413, text: "that is too long").bytes)
        } catch {
            try? file.write(contentsOf: Answer(status: 400, text: "what is that?").bytes)
        }
    }
}
