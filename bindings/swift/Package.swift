// swift-tools-version:6.0
import PackageDescription

// The native library is the client core, which is written in Rust. On Linux it is found by
// pkg-config, on Apple's systems it comes as an XCFramework.
#if os(Linux)
    let native = Target.systemLibrary(name: "annuletFFI", pkgConfig: "annulet-swift")
#else
    let native = Target.binaryTarget(name: "annuletFFI", path: "annuletFFI.xcframework")
#endif

let package = Package(
    name: "annulet",
    platforms: [.macOS(.v13), .iOS(.v16)],
    products: [.library(name: "Annulet", targets: ["Annulet"])],
    targets: [
        native,
        // Made of the native library, by UniFFI.
        .target(name: "AnnuletCore", dependencies: ["annuletFFI"]),
        .target(name: "Annulet", dependencies: ["AnnuletCore"]),
        .testTarget(name: "AnnuletTests", dependencies: ["Annulet"]),
    ],
    swiftLanguageModes: [.v6]
)
