import Testing

/// A case that all languages have in common.
struct Case: Sendable, CustomTestStringConvertible {
    let number: Int
    let name: String
    let steps: [Json]

    var testDescription: String { name }

    static func all() throws -> [Case] {
        struct Table: Decodable {
            struct Row: Decodable {
                let name: String
                let steps: [Json]
            }
            let cases: [Row]
        }
        let table: Table = try read(Scene.current.cases)
        return table.cases.enumerated().map {
            Case(number: $0, name: $1.name, steps: $1.steps)
        }
    }
}

private let runner = Runner()

/// What every language's client does alike, case by case, one after the other.
@Test("What every language does", .serialized, arguments: try Case.all())
func whatEveryLanguageDoes(of: Case) async throws {
    try await runner.run(of.number, of.steps)
}
