//! HSMs whose module fails on demand.

use std::fs;
use std::path::{Path, PathBuf};

use chaos_hsm::Control;

use super::daemon::Site;

/// Has the HSM of this table of a configuration do what the controls in `dir` say.
pub(crate) fn control(hsm: &mut toml::Table, dir: &Path) -> Control {
    let real = hsm.insert("module".to_owned(), module().display().to_string().into()).unwrap();
    fs::create_dir_all(dir).unwrap();
    // Confined like any other, and allowed the real module, its rules and its counters.
    allow(hsm, "read", Path::new(real.as_str().unwrap()));
    allow(hsm, "write", dir);
    let environment = hsm["env"].as_table_mut().unwrap();
    environment.insert("CHAOS_HSM_MODULE".to_owned(), real);
    environment.insert("CHAOS_HSM_DIR".to_owned(), dir.display().to_string().into());
    Control::open(dir).unwrap()
}

/// Adds to what the HSM of this table of a configuration may reach.
pub(crate) fn allow(hsm: &mut toml::Table, list: &str, path: &Path) {
    let sandbox = hsm.entry("sandbox").or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap();
    let paths = sandbox.entry(list).or_insert_with(|| toml::Value::Array(Vec::new())).as_array_mut().unwrap();
    paths.push(path.display().to_string().into());
}

/// The same for every HSM of a site, each with controls of its own.
pub(crate) fn control_all(site: &Site) -> Vec<Control> {
    let mut controls = Vec::new();
    site.configure_hsms(|index, hsm| {
        controls.push(control(hsm, &site.path().join(format!("chaos-{index}"))));
    });
    controls
}

/// The same for the first HSM of a site.
pub(crate) fn control_first(site: &Site) -> Control {
    controls(site, 1).remove(0)
}

/// The same for every HSM of a site, in the order of the configuration.
pub(crate) fn control_each(site: &Site) -> Vec<Control> {
    controls(site, usize::MAX)
}

fn controls(site: &Site, first: usize) -> Vec<Control> {
    let mut controls = Vec::new();
    site.configure_hsms(|index, hsm| {
        if index < first {
            controls.push(control(hsm, &site.path().join(format!("chaos-{index}"))));
        }
    });
    controls
}

/// Beside this program, or one above.
pub(crate) fn module() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let mut places = here.ancestors().skip(1).take(2).map(|dir| dir.join("libchaos_hsm.so"));
    places.find(|path| path.exists()).expect("chaos-hsm is built with these tests")
}
