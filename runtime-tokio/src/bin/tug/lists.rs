//! `tags` and `catalog`: names, page by page.

use std::io;

use registry_tokio::Client;
use registry_tokio::proto::Event;
use registry_tokio::proto::flow::{Flow, ListCatalog, ListTags};
use serde_json::json;

use crate::args::{Catalog, Format, Tags, Voice};
use crate::output::Trouble;
use crate::progress::Progress;
use crate::setup;
use crate::stored::Party;

pub(crate) async fn tags(what: Tags, voice: Voice) -> Result<(), Trouble> {
    let client = setup::client(&what.access, None, &[Party::from(&what.repository)])?;
    let pages = Pages::new(what.format.format, "repository", &what.repository.to_string(), "tags");
    list(&client, voice, ListTags::new(what.repository), pages).await
}

pub(crate) async fn catalog(what: Catalog, voice: Voice) -> Result<(), Trouble> {
    let client = setup::client(&what.access, None, &[Party::from(&what.registry)])?;
    let pages = Pages::new(what.format.format, "registry", what.registry.as_str(), "repositories");
    list(&client, voice, ListCatalog::new(what.registry), pages).await
}

async fn list<F: Flow<Output = u64>>(client: &Client, voice: Voice, flow: F, mut pages: Pages) -> Result<(), Trouble> {
    let shown = |event| match event {
        Event::Listed { names } => pages.print(&mut io::stdout().lock(), &names).map(|()| None),
        event => Ok(Some(event)),
    };
    Progress::new(voice).run_showing(client, flow, shown).await?;
    Ok(pages.end(&mut io::stdout().lock())?)
}

/// A list on its way to standard output: what has been printed is not kept.
struct Pages {
    format: Format,
    /// What comes before the first name: of JSON, as [`print`](crate::output::print) would indent it.
    head: String,
    /// Of JSON, the last name so far: what comes after it is not known yet, and no line is left open, since a note may come
    /// between pages.
    held: Option<String>,
}

impl Pages {
    fn new(format: Format, of: &str, whose: &str, names: &str) -> Self {
        let head = match format {
            Format::Text => String::new(),
            Format::Json => format!("{{\n  \"{of}\": {},\n  \"{names}\": [", json!(whose)),
        };
        Self { format, head, held: None }
    }

    fn print(&mut self, out: &mut impl io::Write, names: &[String]) -> io::Result<()> {
        for name in names {
            match (self.format, self.held.replace(name.clone())) {
                (Format::Text, _) => writeln!(out, "{name}")?,
                (Format::Json, None) => writeln!(out, "{}", self.head)?,
                (Format::Json, Some(before)) => writeln!(out, "    {},", json!(before))?,
            }
        }
        out.flush()
    }

    fn end(&self, out: &mut impl io::Write) -> io::Result<()> {
        match (self.format, &self.held) {
            (Format::Text, _) => {}
            (Format::Json, Some(last)) => writeln!(out, "    {}\n  ]\n}}", json!(last))?,
            (Format::Json, None) => writeln!(out, "{}]\n}}", self.head)?,
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_pages_is_the_json_of_the_whole() {
        let cases: [&[&[&str]]; 3] = [&[], &[&["a"]], &[&["a", "b\"c"], &[], &["d"]]];
        for pages in cases {
            let mut out = Vec::new();
            let mut printed = Pages::new(Format::Json, "repository", "localhost:5000/app", "tags");
            for page in pages {
                let names: Vec<String> = page.iter().map(ToString::to_string).collect();
                printed.print(&mut out, &names).expect("memory takes everything");
            }
            printed.end(&mut out).expect("memory takes everything");
            let whole = json!({ "repository": "localhost:5000/app", "tags": pages.concat() });
            let expected = format!("{}\n", serde_json::to_string_pretty(&whole).expect("it is JSON"));
            assert_eq!(String::from_utf8(out).expect("it is text"), expected);
        }
    }
}
