//! Workload files.
use super::arguments::LoadOptions;
pub fn merged(options: LoadOptions) -> Result<LoadOptions, String> {
    Ok(options)
}
