//! Reading the mails that were written.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// A mail as it was written.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Name and value of each header, unfolded and decoded.
    pub headers: Vec<(String, String)>,
    /// Everything, to the byte.
    pub source: String,
    /// The file's name, if it came in one.
    pub file: String,
}

impl Mail {
    fn read(file: &Path) -> Self {
        let source = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self::parse(source, &file.file_name().unwrap_or_default().to_string_lossy())
    }

    pub(crate) fn parse(source: String, file: &str) -> Self {
        let (head, _) =
            source.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no end of the head in {source}"));
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let headers = unfolded
            .split("\r\n")
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}")))
            .map(|(name, value)| (name.to_owned(), decode(value)))
            .collect();
        Self { headers, source, file: file.to_owned() }
    }

    /// A header that must be there once.
    pub fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let Some((_, value)) = found.next() else { panic!("no {name} in {}", self.source) };
        assert!(found.next().is_none(), "{name} comes more than once in {}", self.source);
        value
    }

    /// The subject.
    pub fn subject(&self) -> &str {
        self.header("Subject")
    }

    /// The bare address of the recipient.
    pub fn to(&self) -> &str {
        let to = self.header("To");
        to.rsplit_once('<').map_or(to, |(_, address)| address.trim_end_matches('>'))
    }

    /// The plain text.
    pub fn text(&self) -> String {
        self.part("text/plain")
    }

    /// The HTML.
    pub fn html(&self) -> String {
        self.part("text/html")
    }

    /// The content of the part of this type, decoded.
    fn part(&self, kind: &str) -> String {
        let (_, boundary) = self.header("Content-Type").split_once("boundary=\"").unwrap_or_default();
        let boundary = format!("--{}", boundary.trim_end_matches('"'));
        let is_wanted = |part: &&str| part.to_lowercase().contains(&format!("content-type: {kind}"));
        let part = self.source.split(&boundary).skip(1).find(is_wanted);
        let part = part.and_then(|part| part.split_once("\r\n\r\n"));
        let (head, body) = part.unwrap_or_else(|| panic!("no {kind} in {}", self.source));
        let body = body.trim_end_matches("\r\n");
        match head.to_lowercase().split_once("content-transfer-encoding: ").map(|(_, way)| way.trim()) {
            Some(way) if way.starts_with("base64") => {
                let bytes = STANDARD.decode(body.replace("\r\n", "")).expect("a part in Base64");
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Some(way) if way.starts_with("quoted-printable") => unquote(body),
            _ => body.to_owned(),
        }
    }
}

/// Puts quoted-printable (RFC 2045) back into text.
fn unquote(quoted: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), quoted.replace("=\r\n", ""));
    while let Some(at) = rest.find('=') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let code = rest.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(code.unwrap_or_else(|| panic!("no quoted byte at {at} in {rest}")));
        rest.drain(..at + 3);
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// All finished mails of a folder, oldest first: their names are UUIDv7.
pub(crate) fn read(folder: &Path) -> Vec<Mail> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "eml"));
    files.sort();
    files.iter().map(|file| Mail::read(file)).collect()
}

/// Puts the encoded words of a header (RFC 2047, in Base64) back into text.
fn decode(value: &str) -> String {
    let mut text = String::new();
    let mut after_encoded = false;
    for word in value.split(' ') {
        let encoded = word.strip_prefix("=?utf-8?b?").and_then(|word| word.strip_suffix("?="));
        // The blank between two encoded words belongs to neither.
        let inside = after_encoded && encoded.is_some();
        if !(text.is_empty() || inside) {
            text.push(' ');
        }
        match encoded.and_then(|encoded| STANDARD.decode(encoded).ok()) {
            Some(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            None => text.push_str(word),
        }
        after_encoded = encoded.is_some();
    }
    text
}
