//! Sorted cells in a page.
