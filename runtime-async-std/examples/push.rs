//! Pushes an image archive: `push ARCHIVE REFERENCE` prints the digest.

use std::process::ExitCode;

use registry_async_std::Client;
use registry_async_std::proto::flow::Destination;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [archive, reference] = &arguments[..] else {
        eprintln!("usage: push ARCHIVE REFERENCE");
        return ExitCode::from(2);
    };
    match async_std::task::block_on(push(archive, reference)) {
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

async fn push(archive: &str, reference: &str) -> Result<String, Box<dyn std::error::Error>> {
    let pushed = Client::new()?.push(archive, Destination::Reference(reference.parse()?)).await?;
    Ok(pushed.references[0].digest.to_string())
}
