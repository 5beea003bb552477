//! `cargo xtask tidy`: what no compiler checks. One function per check; add one by putting it into [`CHECKS`].

mod arrows;
mod compose;
mod dockerfile;
mod docs;
mod features;
mod infra;
mod migrations;
mod owners;
mod settings;
mod sizes;
mod text;
mod tree;

use anyhow::{Result, bail};

use crate::workspace::Workspace;
use tree::Tree;

/// Something a check has to say about a place.
#[derive(PartialEq, Eq, Debug)]
pub struct Finding {
    place: String,
    what: String,
    fatal: bool,
}

/// A check looks at the whole tree and says what is wrong.
type Check = fn(&Tree) -> Vec<Finding>;

const CHECKS: &[Check] = &[
    arrows::crates_only_use_those_to_their_right,
    owners::each_library_stays_in_its_crate,
    features::crash_points_are_for_tests,
    text::no_sql_outside_the_store,
    text::no_path_of_somebodys_machine,
    text::no_registry_host,
    text::no_allow_attribute,
    text::no_note_of_work_left,
    text::no_tab_or_trailing_space,
    text::no_hidden_input,
    migrations::each_has_its_twin,
    docs::decisions_are_numbered,
    docs::links_lead_somewhere,
    settings::the_example_is_complete,
    compose::files_are_sound,
    infra::containers_are_set_as_native_services_are,
    dockerfile::the_image_is_sound,
    sizes::files_are_small_rooms,
];

/// Runs every check, prints what they say, and fails if any of it is an error.
pub fn run(workspace: &Workspace) -> Result<()> {
    let tree = Tree::read(workspace)?;
    let findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(&tree)).collect();
    for finding in &findings {
        let kind = if finding.fatal { "error" } else { "warning" };
        eprintln!("{kind}: {}: {}", finding.place, finding.what);
    }
    let errors = findings.iter().filter(|finding| finding.fatal).count();
    if errors > 0 {
        bail!("{errors} error(s), listed above");
    }
    println!("tidy: {} files, {} checks, ok", tree.files.len(), CHECKS.len());
    Ok(())
}

impl Finding {
    fn error(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into(), fatal: true }
    }

    fn warning(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { fatal: false, ..Self::error(place, what) }
    }
}
