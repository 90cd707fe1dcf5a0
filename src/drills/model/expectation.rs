//! What must come of a fault for a drill to pass.

use std::time::Duration;

/// What must come of a scenario's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expectation {
    /// What must become of the primary's role.
    pub primary: PrimaryRole,
    /// Which loss of acknowledged writes is a pass.
    pub loss: Loss,
    /// Users must not notice: no pause of writes to speak of, and no failed request.
    pub uninterrupted: bool,
    /// The quorum must have refused a promotion.
    pub promotion_refused: bool,
    /// A volume is destroyed, and with it WAL that was not archived yet: a base backup is taken afterwards, as
    /// nothing after that gap could be restored without.
    pub loses_wal: bool,
}

impl Expectation {
    /// What holds unless a scenario says otherwise: nothing acknowledged is lost, and the primary's role may move or
    /// stay.
    pub const DEFAULT: Expectation = Expectation {
        primary: PrimaryRole::MovesOrStays,
        loss: Loss::None,
        uninterrupted: false,
        promotion_refused: false,
        loses_wal: false,
    };
}

/// What must become of the primary's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrimaryRole {
    /// A standby takes it.
    Moves,
    /// It stays where it is.
    Stays,
    /// Either is right.
    MovesOrStays,
}

/// Which loss of acknowledged writes is a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// None: whatever was acknowledged must be there.
    None,
    /// Writes that were acknowledged at most so long before the fault.
    AtMost(Duration),
    /// The checker must find one: a negative control.
    MustBeFound,
}
