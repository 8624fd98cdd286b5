//! Two runs side by side.
use std::path::Path;
pub fn run(_a: &Path, _b: &Path, _html: Option<&Path>) -> Result<(), String> {
    Err("not yet".into())
}
