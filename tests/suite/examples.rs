//! What somebody uses by hand shows how: each flow, and each method of the three clients, has an example that is compiled.

use std::path::Path;

use registry_tests::sources::below;

/// The documentation above line `at`, and whether there is an example in it. (A block of ```` ```text ```` is a picture.)
fn has_example(lines: &[&str], at: usize) -> bool {
    let above = lines[..at].iter().rev().map(|line| line.trim_start());
    let documentation = above.take_while(|line| line.starts_with("///") || line.starts_with("#["));
    let fences: Vec<&str> = documentation.filter_map(|line| line.strip_prefix("/// ```")).collect();
    // From below: an end, and what it is the end of.
    fences.chunks_exact(2).any(|block| block[1] != "text")
}

/// The name that a declaration gives: `pub struct Push<T> {` gives `Push`.
fn name<'a>(line: &'a str, declaration: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(declaration)?;
    Some(&rest[..rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len())])
}

fn report(seen: usize, least: usize, without: &[String]) {
    assert!(seen >= least, "only {seen} were found");
    assert!(without.is_empty(), "nothing shows how these are used:\n{}", without.join("\n"));
}

fn place(file: &Path, name: &str) -> String {
    format!("{}: {name}", file.display())
}

#[test]
fn every_flow_shows_how_it_is_run() {
    let (mut seen, mut without) = (0, Vec::new());
    for (file, text) in below("registry-proto/src/flow") {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = name(line, "pub struct ") else { continue };
            // `impl Flow for Ping {`, `impl<F: Flow> Flow for Each<F> {`
            let ends = [format!(" Flow for {name} {{"), format!(" Flow for {name}<")];
            if !lines.iter().any(|line| line.starts_with("impl") && ends.iter().any(|end| line.contains(end))) {
                continue;
            }
            seen += 1;
            if !has_example(&lines, at) {
                without.push(place(&file, name));
            }
        }
    }
    report(seen, 25, &without);
}

#[test]
fn every_method_of_a_client_shows_how_it_is_called() {
    let (mut seen, mut without) = (0, Vec::new());
    for runtime in ["runtime-tokio", "runtime-async-std", "runtime-blocking"] {
        for (file, text) in below(&format!("{runtime}/src")).into_iter().filter(|(file, _)| file.ends_with("client.rs"))
        {
            let lines: Vec<&str> = text.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                let Some(name) = name(line, "    pub fn ").or_else(|| name(line, "    pub async fn ")) else {
                    continue;
                };
                // What makes a client is shown where the builder is.
                if lines[at..].iter().take(2).all(|line| !line.contains("&self")) {
                    continue;
                }
                seen += 1;
                if !has_example(&lines, at) {
                    without.push(place(&file, name));
                }
            }
        }
    }
    report(seen, 75, &without);
}
