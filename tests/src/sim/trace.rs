//! The story of a run, as lines if somebody reads them, and always as a hash.

/// Values are long and say little.
const LINE_CHARACTERS_MAX: usize = 500;

/// See the module.
#[derive(Debug)]
pub(crate) struct Trace {
    enabled: bool,
    lines: Vec<String>,
    hash: u64,
}

impl Trace {
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            lines: Vec::new(),
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Adds numbers that say what happened to the hash.
    pub(crate) fn note(&mut self, numbers: &[u64]) {
        for number in numbers {
            let mixed = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.hash = mixed ^ (mixed >> 29);
        }
    }

    /// Adds a line, made only if it is kept.
    pub(crate) fn line(&mut self, now_us: u64, text: impl FnOnce() -> String) {
        if self.enabled {
            let (ms, us) = (now_us / 1_000, now_us % 1_000);
            let mut text = text();
            if let Some((end, _)) = text.char_indices().nth(LINE_CHARACTERS_MAX) {
                text.truncate(end);
                text.push_str(" ...");
            }
            self.lines.push(format!("{ms:>6}.{us:03} {text}"));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }
}
