//! The records of a tar before a file's bytes: the same bytes each time, with nothing of the machine in them.

use tar::{EntryType, Header};

/// How long a record is, and what everything in a tar is filled up to.
pub(crate) const RECORD: u64 = 512;

/// The header of an entry, with time, owner and group 0. Names that it can't hold are cut off: they go into PAX records.
pub(crate) fn header(kind: EntryType, name: &str, target: &str, size: u64) -> Header {
    let mut header = Header::new_ustar();
    let old = header.as_old_mut();
    for (field, text) in [(&mut old.name, name), (&mut old.linkname, target)] {
        let length = text.len().min(field.len());
        field[..length].copy_from_slice(&text.as_bytes()[..length]);
    }
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o555 } else { 0o444 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    // Sizes beyond what octal digits can say are written in base 256, as GNU tar and Go do.
    header.set_size(size);
    header.set_cksum();
    header
}

/// PAX records as the content of an entry of their own, without its header and padding.
pub(crate) fn pax_records(records: &[(&str, &str)]) -> String {
    let mut block = String::new();
    for (key, value) in records {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let digits = |n: usize| n.to_string().len();
        let length = rest + digits(rest + digits(rest));
        block.push_str(&format!("{length} {key}={value}\n"));
    }
    block
}

/// All that comes before the bytes of a regular file.
pub(crate) fn before_file(name: &str, size: u64) -> Vec<u8> {
    let header = header(EntryType::Regular, name, "", size);
    let mut records = Vec::new();
    if name.len() > header.as_old().name.len() {
        let pax = pax_records(&[("path", name)]);
        records.extend_from_slice(self::header(EntryType::XHeader, "PaxHeaders.0/x", "", pax.len() as u64).as_bytes());
        records.extend_from_slice(pax.as_bytes());
        records.resize(records.len().next_multiple_of(RECORD as usize), 0);
    }
    records.extend_from_slice(header.as_bytes());
    records
}
