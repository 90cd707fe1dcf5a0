//! Checks as data, shared by preflight and doctor.
