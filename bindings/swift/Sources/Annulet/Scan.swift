internal import AnnuletCore
import Foundation

/// Everything in a bucket, given once: iterators of one scan share it, and a loop that is left is
/// gone on with by the next one.
///
/// It is no snapshot: a key that is there throughout comes exactly once, one that is written or
/// deleted meanwhile may come or not.
///
/// ```swift
/// for try await key in carts.scan() {
///     print(key.count)
/// }
/// ```
public final class Scan<Element: Sendable>: AsyncSequence, Sendable {
    private struct Pages {
        /// Entries of pages that are here, each with where its page began.
        var ready: [(entry: Element, cursor: String?)] = []
        var at = 0
        /// How many pages came so far.
        var seen: UInt64 = 0
        var after: String?
        var isOver = false
    }

    private let native: Result<AnnuletCore.Scan, any Error>
    private let show: @Sendable (AnnuletCore.ScanEntry) -> Element
    private let pages: Locked<Pages>

    init(
        _ bucket: AnnuletCore.Bucket, _ options: ScanOptions,
        show: @escaping @Sendable (AnnuletCore.ScanEntry) -> Element
    ) {
        // What is wrong with the options is told where the scan is waited for.
        native = Result { try given { try bucket.scan(options: options) } }
        pages = Locked(Pages(after: options.cursor))
        self.show = show
    }

    /// Where a later scan of this bucket goes on, also in another process: at the page that this one
    /// is in the middle of, of which all comes again, what was given of it too. `nil`: at the
    /// beginning, or everything was given: see ``isOver``.
    public var cursor: String? {
        pages.with { $0.at < $0.ready.count ? $0.ready[$0.at].cursor : $0.after }
    }

    /// Whether everything was given.
    public var isOver: Bool {
        pages.with { $0.isOver && $0.at == $0.ready.count }
    }

    public func makeAsyncIterator() -> Iterator {
        Iterator(scan: self)
    }

    /// Goes on with a scan.
    public struct Iterator: AsyncIteratorProtocol {
        private let scan: Scan
        private let leaving: Leaving

        fileprivate init(scan: Scan) {
            self.scan = scan
            leaving = Leaving(scan)
        }

        /// The next element; `nil` once everything was given.
        public mutating func next() async throws -> Element? {
            try await scan.next()
        }
    }

    /// When the last copy of an iterator goes, what was fetched ahead goes, too.
    private final class Leaving: Sendable {
        private let scan: Scan

        init(_ scan: Scan) {
            self.scan = scan
        }

        deinit {
            if case .success(let native) = scan.native {
                native.leave()
            }
        }
    }

    private enum Step {
        case element(Element)
        case over
        case fetch(seen: UInt64)
    }

    private func next() async throws -> Element? {
        let native = try native.get()
        while true {
            switch step() {
            case .element(let element): return element
            case .over: return nil
            case .fetch(let seen):
                take(try await run { try await native.nextPage(token: $0, seen: seen) })
            }
        }
    }

    private func step() -> Step {
        pages.with { pages in
            if pages.at < pages.ready.count {
                pages.at += 1
                return .element(pages.ready[pages.at - 1].entry)
            }
            return pages.isOver ? .over : .fetch(seen: pages.seen)
        }
    }

    /// Takes a page, unless another caller who asked for it has taken it before.
    private func take(_ page: Page) {
        pages.with { pages in
            guard page.number == pages.seen + 1 else { return }
            pages.seen = page.number
            guard let entries = page.entries else {
                pages.isOver = true
                return
            }
            pages.ready.removeFirst(pages.at)
            pages.at = 0
            for entry in entries {
                pages.ready.append((show(entry), pages.after))
            }
            pages.after = page.cursor
        }
    }
}
