//! Pulls an image into an archive: `pull REFERENCE OUT.tar` prints the digest.

use std::process::ExitCode;

use registry_blocking::Client;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [reference, out] = &arguments[..] else {
        eprintln!("usage: pull REFERENCE OUT.tar");
        return ExitCode::from(2);
    };
    match pull(reference, out) {
        Ok(digest) => {
            println!("{digest}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn pull(reference: &str, out: &str) -> Result<String, Box<dyn std::error::Error>> {
    let pulled = Client::new()?.pull(&reference.parse()?, out)?;
    Ok(pulled.images[0].digest.to_string())
}
