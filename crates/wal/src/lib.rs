//! Write-ahead log with group commit and a torn tail told from corruption.
#![forbid(unsafe_code)]
