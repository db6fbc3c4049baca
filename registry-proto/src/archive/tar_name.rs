//! Names inside an archive: compared after cleaning, resolved inside the archive's own name space (A21). No name from an
//! archive ever becomes a path of the host.

/// `./a//b/` becomes `a/b`; the archive's root becomes the empty string. The error says what the name is.
pub(super) fn clean(name: &str) -> Result<String, &'static str> {
    if name.contains('\0') {
        return Err("has a NUL in it");
    }
    if name.starts_with('/') {
        return Err("is absolute");
    }
    if name.split('/').any(|part| part == "..") {
        return Err("has `..` in it");
    }
    Ok(walk("", name).unwrap_or_default())
}

/// Where the link `from` (a clean name) leads when its target is relative to its own folder, as that of symlinks is.
pub(super) fn follow(from: &str, target: &str) -> Result<String, &'static str> {
    if target.contains('\0') {
        return Err("has a target with a NUL in it");
    }
    if target.starts_with('/') {
        return Err("has an absolute target");
    }
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    walk(folder, target).ok_or("leads out of the archive")
}

/// What a careless reader might take an unclean name for; to find names that hide another one.
pub(super) fn lenient(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split(['/', '\0']) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn walk(folder: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_or_refused() {
        for (name, clean_name) in [("./a//b/", "a/b"), ("a", "a"), (".", ""), ("a/./b", "a/b"), ("...", "...")] {
            assert_eq!(clean(name).as_deref(), Ok(clean_name));
        }
        for name in ["/a", "..", "a/../b", "../a", "a\0b"] {
            assert!(clean(name).is_err(), "{name:?}");
        }
        assert_eq!(lenient("/a/../../manifest.json"), "manifest.json");
    }

    #[test]
    fn targets_stay_inside() {
        assert_eq!(follow("a/layer.tar", "../b/layer.tar").as_deref(), Ok("b/layer.tar"));
        assert_eq!(follow("x", "y").as_deref(), Ok("y"));
        assert!(follow("a/layer.tar", "../../etc/passwd").is_err());
        assert!(follow("a/layer.tar", "/etc/passwd").is_err());
    }
}
