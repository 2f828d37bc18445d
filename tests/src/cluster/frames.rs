//! HTTP/2 by hand, for what no library would send.

/// What a client says first, and its settings: none.
pub fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings(&[])].concat()
}

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Settings, each a number and a value.
pub fn settings(all: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (number, value) in all {
        payload.extend(number.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(4, 0, 0, &payload)
}

/// A ping that wants an answer.
pub fn ping() -> Vec<u8> {
    frame(6, 0, 0, &[7; 8])
}

/// The headers of a request without a body, or a part of them if `whole` is false.
pub fn headers(stream: u32, block: &[u8], whole: bool) -> Vec<u8> {
    let flags = END_STREAM | if whole { END_HEADERS } else { 0 };
    frame(1, flags, stream, block)
}

/// More of the headers of a request, but not the end of them.
pub fn continuation(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(9, 0, stream, block)
}

/// The end of a stream that nobody wants any more.
pub fn reset(stream: u32) -> Vec<u8> {
    frame(3, 0, stream, &8u32.to_be_bytes())
}

/// The compressed headers of `GET path`.
pub fn get(path: &str) -> Vec<u8> {
    // The method and the scheme are in the table that both sides begin with.
    let mut block = vec![0x82, 0x87];
    for (name, value) in [(0x04, path), (0x01, "test")] {
        block.push(name);
        block.extend(text(value));
    }
    block
}

/// A header of a name of its own. `remembered`: it goes into the table that both sides keep, where
/// [`NEWEST`] then stands for it.
pub fn header(name: &str, value: &str, remembered: bool) -> Vec<u8> {
    let mut block = vec![if remembered { 0x40 } else { 0x00 }];
    block.extend(text(name));
    block.extend(text(value));
    block
}

/// The header that was remembered last, in one byte.
pub const NEWEST: u8 = 0x80 | 62;

/// A text as it stands, its length in front.
fn text(text: &str) -> Vec<u8> {
    const SHORT_MAX: usize = 126;
    let mut bytes = Vec::new();
    if text.len() <= SHORT_MAX {
        bytes.push(text.len() as u8);
    } else {
        // What is more than 127 follows, seven bits at a time.
        bytes.push(0x7f);
        let mut more = text.len() - 127;
        while more >= 0x80 {
            bytes.push((more & 0x7f) as u8 | 0x80);
            more >>= 7;
        }
        bytes.push(more as u8);
    }
    bytes.extend(text.as_bytes());
    bytes
}

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
