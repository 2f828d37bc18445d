//! How long a command that does much goes on trying before it gives up.

use std::time::Duration;

/// Pauses between the tries of what may succeed later: long enough for a server to restart, short
/// enough for a person to wait.
pub(crate) const PAUSES: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// What is said before a pause.
pub(crate) fn again(what: &str, why: &annulet::Error, pause: Duration) -> String {
    let pause = humantime::format_duration(pause);
    format!("note: {why}; {what} again in {pause}")
}
