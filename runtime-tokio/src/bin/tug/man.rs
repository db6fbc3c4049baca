//! `man`: the pages that `man tug` shows.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::args::Tug;
use crate::output::{Trouble, print_raw};

pub(crate) fn man(folder: Option<&Path>) -> Result<(), Trouble> {
    let mut tug = Tug::command().disable_help_flag(true);
    tug.build();
    let Some(folder) = folder else {
        let mut page = Vec::new();
        Man::new(tug).render(&mut page)?;
        return print_raw(&page);
    };
    let verbs: Vec<Command> = tug.get_subcommands().cloned().collect();
    fs::create_dir_all(folder).map_err(|why| unwritten(folder, &why))?;
    for (name, command) in [tug].into_iter().chain(verbs).map(named) {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        let path = folder.join(format!("{name}.1"));
        fs::write(&path, page).map_err(|why| unwritten(&path, &why))?;
        writeln!(io::stdout().lock(), "{}", path.display())?;
    }
    Ok(())
}

/// A verb's page is called as git's are: `tug-push`.
fn named(command: Command) -> (String, Command) {
    (command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned(), command)
}

fn unwritten(path: &Path, why: &io::Error) -> Trouble {
    Trouble::Other(format!("{} can't be written: {why}; name another folder", path.display()))
}
