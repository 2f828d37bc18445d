// swift-tools-version:6.0
import PackageDescription

// Apart from the package itself, whose users need none of this.
let package = Package(
    name: "bench",
    platforms: [.macOS(.v13)],
    dependencies: [.package(path: "..")],
    targets: [
        .executableTarget(
            name: "bench", dependencies: [.product(name: "Annulet", package: "swift")])
    ],
    swiftLanguageModes: [.v6]
)
