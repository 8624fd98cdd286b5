//! The plots.
use super::results::Document;
pub struct Plot {
    pub name: String,
}
impl Plot {
    pub fn standalone(&self) -> String {
        String::new()
    }
}
pub fn plots(_document: &Document) -> Vec<Plot> {
    Vec::new()
}
