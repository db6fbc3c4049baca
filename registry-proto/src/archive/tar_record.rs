//! One 512-byte tar header, and the PAX records that may precede it. Pure: bytes in, values or a fault out.
//!
//! Numbers are parsed here and not by the `tar` crate, because a lenient number is a parser differential (A22): two
//! readers that disagree on a size see two different archives.

use tar::Header;

use super::error::ArchiveFault;
use crate::spec::commands;

/// The largest size that eleven octal digits can say: 8 GiB - 1.
pub(super) const OCTAL_MAX: u64 = 0o777_7777_7777;

/// A header whose checksum is right.
pub(super) struct Record {
    pub(super) kind: u8,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    /// As the header says; a PAX `size` may overrule it.
    pub(super) size: u64,
}

impl Record {
    /// `Ok(None)`: the checksum is wrong, so that this is no header at all.
    pub(super) fn parse(bytes: &[u8; 512]) -> Result<Option<Self>, ArchiveFault> {
        if !checksum_fits(bytes) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(bytes);
        let name = header.path_bytes().into_owned();
        let link = header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let kind = header.as_old().linkflag[0];
        let Some(size) = number(&header.as_old().size) else {
            return Err(ArchiveFault::tar(format!("entry `{}` has a size that is not a number", shown(&name))));
        };
        Ok(Some(Self { kind, name, link, size }))
    }
}

/// A name from the archive, fit for a message: lossy, one line, and short.
pub(super) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(&name[..name.len().min(200)]);
    text.chars().map(|c| if commands(c) { '\u{fffd}' } else { c }).collect()
}

/// The sum of all bytes with the checksum field as blanks; historic tars summed signed bytes (reader rule 6).
fn checksum_fits(bytes: &[u8; 512]) -> bool {
    let Some(claimed) = octal(&bytes[148..156]) else { return false };
    let blank = |i: usize| (148..156).contains(&i);
    let unsigned: u64 = bytes.iter().enumerate().map(|(i, b)| if blank(i) { 32 } else { u64::from(*b) }).sum();
    let signed: i64 =
        bytes.iter().enumerate().map(|(i, b)| if blank(i) { 32 } else { i64::from(b.cast_signed()) }).sum();
    claimed == unsigned || i64::try_from(claimed) == Ok(signed)
}

/// Octal digits, blanks before, blank or NUL after. An all-blank field is 0, as in headers of directories by old tars.
fn octal(field: &[u8]) -> Option<u64> {
    let start = field.iter().position(|b| *b != b' ').unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(|b| *b == b' ' || *b == 0).unwrap_or(digits.len());
    if digits[end..].iter().any(|b| *b != b' ' && *b != 0) {
        return None;
    }
    digits[..end].iter().try_fold(0_u64, |sum, b| match b {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// Octal, or GNU's base-256: first byte `80`, big-endian. `ff` would be a negative number, which no size is.
fn number(field: &[u8; 12]) -> Option<u64> {
    match field[0] {
        0x80 => field[1..].iter().try_fold(0_u64, |sum, b| sum.checked_mul(256)?.checked_add(u64::from(*b))),
        0x81..=0xff => None,
        _ => octal(field),
    }
}

/// What a PAX block says about the file that follows. Everything else in it (times, owners, xattrs) is of no concern.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
}

impl Pax {
    /// Reads records by their own length, since values (xattrs) may hold newlines. A repeated key would let two readers
    /// choose differently; sparse files are never written by real savers and their maps are a way to exhaust memory.
    pub(super) fn parse(mut block: &[u8]) -> Result<Self, ArchiveFault> {
        let mut pax = Self::default();
        while !block.is_empty() {
            let (key, value, rest) =
                record(block).ok_or_else(|| ArchiveFault::tar("a PAX header has a malformed record"))?;
            block = rest;
            let repeated = match key {
                b"path" => pax.path.replace(value.to_vec()).is_some(),
                b"linkpath" => pax.link.replace(value.to_vec()).is_some(),
                b"size" => {
                    let size = decimal(value).ok_or_else(|| {
                        ArchiveFault::tar(format!("a PAX header says size `{}`, which is no number", shown(value)))
                    })?;
                    pax.size.replace(size).is_some()
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(ArchiveFault::tar("it has a sparse file, which no image saver writes"));
                }
                _ => false,
            };
            if repeated {
                return Err(ArchiveFault::tar(format!("a PAX header says `{}` twice", shown(key))));
            }
        }
        Ok(pax)
    }
}

/// `"%d %s=%s\n"`, where the number counts the whole record.
fn record(block: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = block.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&block[..blank])?).ok()?;
    let body = block.get(blank + 1..length)?;
    let (newline, body) = body.split_last()?;
    let equals = body.iter().position(|b| *b == b'=')?;
    (*newline == b'\n' && equals > 0).then(|| (&body[..equals], &body[equals + 1..], &block[length..]))
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_and_never_negative() {
        assert_eq!(number(b"00000000012\0"), Some(10));
        assert_eq!(number(b"        12 \0"), Some(10));
        assert_eq!(number(b"777777777777"), Some(0o7777_7777_7777));
        assert_eq!(number(&[0; 12]), Some(0));
        assert_eq!(number(b"0000000001x\0"), None);
        assert_eq!(number(b"000 0000012\0"), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(8 << 30));
        assert_eq!(number(&[0xff; 12]), None);
        assert_eq!(number(&[0x80, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]), None, "does not fit 64 bits");
    }

    #[test]
    fn pax_records_are_cut_by_their_length() {
        let pax = Pax::parse(b"21 SCHILY.xattr.a=\n\n\n9 path=x\n9 size=7\n").map_err(|e| e.to_string());
        let pax = pax.unwrap();
        assert_eq!((pax.path.as_deref(), pax.size), (Some(&b"x"[..]), Some(7)));
        for bad in [
            &b"9 path=xy\n"[..],
            b"8 path=x\n",
            b"0 path=x\n",
            b"99999999999999999999 a=b\n",
            b"9 pathxx\n",
            b" path=x\n",
            b"9 size=-\n",
            b"9 path=x\n9 path=y\n",
            b"22 GNU.sparse.major=1\n",
            b"\0\0\0\0",
        ] {
            assert!(Pax::parse(bad).is_err(), "{}", shown(bad));
        }
    }
}
