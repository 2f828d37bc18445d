// swift-tools-version:6.0
import PackageDescription

let package = Package(
    name: "sessions",
    platforms: [.macOS(.v13)],
    dependencies: [.package(path: "../../../bindings/swift")],
    targets: [
        .executableTarget(
            name: "sessions", dependencies: [.product(name: "Annulet", package: "swift")])
    ],
    swiftLanguageModes: [.v6]
)
