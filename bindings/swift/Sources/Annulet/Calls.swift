internal import AnnuletCore

/// Lets an operation run. When the task that waits for it is cancelled the operation is given up,
/// and this throws a `CancellationError`.
func run<Value: Sendable>(
    _ operation: @Sendable (Token) async throws -> Value
) async throws -> Value {
    let token = Token()
    do {
        return try await withTaskCancellationHandler {
            try await operation(token)
        } onCancel: {
            token.cancel()
        }
    } catch {
        let told = AnnuletError.told(by: error)
        // What was given up says that it was closed.
        if Task.isCancelled && told.kind == .closed {
            throw CancellationError()
        }
        throw told
    }
}

/// What a call gives that is not waited for.
func given<Value>(_ call: () throws -> Value) throws -> Value {
    do {
        return try call()
    } catch {
        throw AnnuletError.told(by: error)
    }
}
