//! The prober's messages in the terms of a drill's history. The ledger has types of its own, so that the wire and the
//! file on disk change apart; the matches are exhaustive, so that neither changes unnoticed.

use anyhow::Context as _;
use stackctl_protocol::probe;

use super::schedule::ScheduledWrite;
use crate::drills::model::{
    clock::Offset,
    history::{Outcome, Place, Stream},
};

impl ScheduledWrite {
    /// The write as the prober is told of it: due by the prober's clock.
    pub fn on_the_wire(&self, offset: &Offset) -> probe::Write {
        let stream = match self.stream {
            Stream::Sql => probe::Stream::Sql,
            Stream::Http => probe::Stream::Http,
        };
        probe::Write { key: self.key, stream, due: offset.theirs(self.due) }
    }
}

impl TryFrom<probe::Outcome> for Outcome {
    type Error = anyhow::Error;

    fn try_from(outcome: probe::Outcome) -> Result<Outcome, anyhow::Error> {
        Ok(match outcome {
            probe::Outcome::Acknowledged { place } => {
                Outcome::Acknowledged { place: place.map(Place::try_from).transpose()? }
            }
            probe::Outcome::Refused { why } => Outcome::Refused { why },
            probe::Outcome::Unknown { why } => Outcome::Unknown { why },
            probe::Outcome::Unsent => Outcome::Unsent,
        })
    }
}

impl TryFrom<probe::Place> for Place {
    type Error = anyhow::Error;

    fn try_from(place: probe::Place) -> Result<Place, anyhow::Error> {
        let lsn = place.lsn.parse().ok().with_context(|| format!("the prober tells an LSN {:?}", place.lsn))?;
        Ok(Place { timeline: place.timeline, lsn, server: place.server })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Lsn;

    #[test]
    fn a_place_has_an_lsn_or_is_an_error() {
        let told = |lsn: &str| probe::Outcome::Acknowledged {
            place: Some(probe::Place { timeline: 2, lsn: lsn.into(), server: "10.0.0.9".into() }),
        };
        let place = Place { timeline: 2, lsn: Lsn(0x1_0000_0A28), server: "10.0.0.9".into() };
        assert_eq!(Outcome::try_from(told("1/A28")).unwrap(), Outcome::Acknowledged { place: Some(place) });
        assert!(Outcome::try_from(told("nowhere")).is_err());
    }

    #[test]
    fn what_the_ledger_stores_is_what_the_prober_told() {
        for outcome in [
            probe::Outcome::Acknowledged { place: None },
            probe::Outcome::Refused { why: "HTTP 422".into() },
            probe::Outcome::Unknown { why: "HTTP 503".into() },
            probe::Outcome::Unsent,
        ] {
            let told = serde_json::to_value(&outcome).unwrap();
            assert_eq!(serde_json::to_value(Outcome::try_from(outcome).unwrap()).unwrap(), told);
        }
    }
}
