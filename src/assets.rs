//! What is embedded in the binary.
