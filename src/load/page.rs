//! The page.
use super::results::Document;
pub fn page(_document: &Document) -> String {
    String::new()
}
